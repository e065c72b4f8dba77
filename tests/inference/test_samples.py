"""Several plausible answers: of one mind, the same whatever else is asked for, whole files or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from intarsia.data.read import read_mask
from intarsia.errors import UsageError
from intarsia.inference import Predictor, mean_of, predict_files
from intarsia.models.contract import Ambiguous, SemanticConfig
from intarsia.records import Classes

TWO = Classes.named(["background", "thing"])
OVERLAPPING = Classes.named(["left", "right"], overlapping=True)


class Threshold(Ambiguous):
    """Class 1 where the first channel is above the latent; the latent's mean is that of the channel, its deviation 0.1.
    It counts the pictures that it encodes."""

    stride = 1
    latent = 1
    encoded = 0

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        return (self._told(x, x[:, 0].mean(dim=(1, 2))[:, None]),)

    def prior_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = images[:, :1].mean(dim=(2, 3))
        return mean, torch.full_like(mean, 2 * np.log(0.1))

    def answers(self, images: Tensor, latents: Tensor) -> Tensor:
        type(self).encoded += len(images)
        return torch.stack([self._told(images, each) for each in latents])

    def _told(self, x: Tensor, latent: Tensor) -> Tensor:
        above = 200 * (x[:, :1] - latent[:, :, None, None])
        return torch.cat([-above, above], dim=1)


def predictor(classes: Classes = TWO, **options: object) -> Predictor:
    config = SemanticConfig(channels=1, classes=2, overlapping=classes.overlapping, mean=(0.0,), deviation=(1.0,))
    return Predictor(Threshold(config), classes, device="cpu", **options)  # type: ignore[arg-type]


def ramp(height: int = 40, width: int = 64) -> np.ndarray:
    """(H, W) float32 from 0.2 at the left to 0.8 at the right, the same in all rows."""
    return np.broadcast_to(np.linspace(0.2, 0.8, width, dtype=np.float32), (height, width)).copy()


def test_every_answer_is_a_threshold_and_they_differ() -> None:
    answers = predictor().samples(ramp(), count=12)
    assert len(answers) == 12
    edges = [int((each.mask[0] == 0).sum()) for each in answers]
    for each, edge in zip(answers, edges, strict=True):
        assert (each.mask[:, :edge] == 0).all() and (each.mask[:, edge:] == 1).all()
        np.testing.assert_allclose(each.probabilities.sum(axis=0), 1, atol=1e-5)
    assert len(set(edges)) > 6
    assert abs(np.mean(edges) - 32) < 12  # the prior's mean is the middle


def test_an_answer_depends_on_seed_name_and_number_alone() -> None:
    ask = predictor()
    few, many = ask.samples(ramp(), 2, seed=3, name="a"), ask.samples(ramp(), 9, seed=3, name="a")
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    for others in (ask.samples(ramp(), 9, seed=4, name="a"), ask.samples(ramp(), 9, seed=3, name="b")):
        assert any((one.mask != other.mask).any() for one, other in zip(many, others, strict=True))


def test_tiles_answer_for_one_latent() -> None:
    """In tiles the thresholds are those of the whole picture: the prior is that of all of it."""
    whole = predictor().samples(ramp(), 5)
    tiled = predictor(tile=16, overlap=0.25).samples(ramp(), 5)
    for one, other in zip(whole, tiled, strict=True):
        assert (one.mask != other.mask).mean() < 2 / 64  # the blended prior counts no pixel twice, up to the weights


def test_the_picture_is_encoded_once() -> None:
    Threshold.encoded = 0
    predictor().samples(ramp(), 30)
    assert Threshold.encoded == 1


def test_mirrored_views_are_averaged_in_the_picture_s_own_frame() -> None:
    plain, both = predictor().samples(ramp(), 3), predictor(flips=True).samples(ramp(), 3)
    for one, other in zip(plain, both, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_the_temperature_is_for_single_answers() -> None:
    warm = predictor(temperature=5.0)
    np.testing.assert_array_equal(
        predictor().samples(ramp(), 2)[0].probabilities, warm.samples(ramp(), 2)[0].probabilities
    )
    assert (predictor().predict(ramp()).probabilities != warm.predict(ramp()).probabilities).any()


def test_the_mean_is_the_share_of_answers() -> None:
    answers = predictor().samples(ramp(), 8)
    mean = mean_of(answers)
    share = np.mean([each.probabilities[1] for each in answers], axis=0)
    np.testing.assert_allclose(mean.probabilities[1], share, rtol=1e-6)
    assert mean.uncertainty[:, 30:34].mean() > 0.5 > mean.uncertainty[:, :2].mean()


def test_overlapping_classes_have_several_answers_too() -> None:
    answers = predictor(OVERLAPPING).samples(ramp(), 4)
    assert all(((each.labels == 0) | (each.labels == 1)).all() for each in answers)
    assert len({int(each.labels[1].sum()) for each in answers}) > 1


def test_a_model_with_one_answer_says_so(brightness) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="probabilistic_unet"):
        brightness().samples(ramp())
    with pytest.raises(UsageError, match="1 or more"):
        predictor().samples(ramp(), 0)


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray((255 * ramp()).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.png"))}


def test_files_of_several_answers(tmp_path: Path) -> None:
    pictures, out = put(tmp_path / "in", "a", "deep/b"), tmp_path / "out"
    ask = predictor()
    summary = predict_files(ask, [pictures], out, samples=3, seed=5)
    assert (summary.done, summary.failed) == (2, ())
    assert set(files(out)) == {
        *(f"samples/{name}_s0{i}.png" for name in ("a", "deep/b") for i in range(3)),
        "masks/a.png", "masks/deep/b.png", "uncertainty/a.png", "uncertainty/deep/b.png",
    }  # fmt: skip
    answers = ask.samples(pictures / "deep" / "b.png", 3, seed=5, name="deep/b")
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(read_mask(out / "samples" / "deep" / f"b_s0{i}.png").values, answer.mask)
    np.testing.assert_array_equal(read_mask(out / "masks" / "deep" / "b.png").values, mean_of(answers).mask)


def test_the_same_command_again_does_what_is_missing_and_the_same(tmp_path: Path) -> None:
    pictures, out = put(tmp_path / "in", "a", "b"), tmp_path / "out"
    ask = predictor()
    predict_files(ask, [pictures], out, samples=3)
    before = files(out)
    (out / "samples" / "b_s01.png").unlink()
    put(pictures, "c")
    summary = predict_files(ask, [pictures], out, samples=3)
    assert (summary.done, summary.skipped) == (2, 1)
    after = files(out)
    assert {name: after[name] for name in before} == before


def test_another_count_is_refused_and_replaced_on_request(tmp_path: Path) -> None:
    """Nothing of the old answers is left over, and nothing of a picture that is called like one."""
    pictures, out = put(tmp_path / "in", "a", "a_s00"), tmp_path / "out"
    ask = predictor()
    predict_files(ask, [pictures], out, samples=4)
    with pytest.raises(UsageError, match="other samples"):
        predict_files(ask, [pictures], out, samples=2)
    with pytest.raises(UsageError, match="other samples, seed"):
        predict_files(ask, [pictures], out)
    predict_files(ask, [pictures], out, samples=2, overwrite=True)
    assert {name for name in files(out) if name.startswith("samples/")} == {
        *(f"samples/{name}_s0{i}.png" for name in ("a", "a_s00") for i in range(2))
    }
    predict_files(ask, [pictures], out, overwrite=True)
    assert not [name for name in files(out) if name.startswith("samples/")]


def test_samples_of_a_model_with_one_answer_leave_no_folder(tmp_path: Path, brightness) -> None:  # type: ignore[no-untyped-def]
    pictures = put(tmp_path / "in", "a")
    with pytest.raises(UsageError, match="one answer"):
        predict_files(brightness(), [pictures], tmp_path / "out", samples=2)
    assert not (tmp_path / "out").exists()
