"""Models made to fail in known ways are found out, and a healthy one is left in peace."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from intarsia.data.stack import Stack
from intarsia.errors import DataError, Stopped
from intarsia.models.contract import Bounded, Draws, Encodes, GenerativeConfig, GenerativeModel, Losses, Mends
from intarsia.models.generative import GAN, VAE, GANConfig, VAEConfig
from intarsia.records import Batch, Sample
from intarsia.runs import Run
from intarsia.training import features
from intarsia.training.features import LearntFeatures, learn
from intarsia.training.generation import GenerativeEvaluation, Yardstick, examine, quick_scores, sheet
from intarsia.training.verdicts import alarms

SIDE = 12
SIZE = (SIDE, SIDE)
NOISE = 3 + SIDE * SIDE  # place, place, class, a number for each pixel


def scene(latent: Tensor) -> Tensor:
    """(B, 1, 12, 12): a noisy picture of a bright square anywhere, of class 0 small, 1 large, 2 hollow, 3 grey."""
    place = torch.special.ndtr(latent[:, :3])
    kind = (place[:, 2] * 4).long().clamp(max=3)
    images = 0.1 + 0.03 * latent[:, 3:].view(-1, 1, SIDE, SIDE)
    for image, (y, x), which in zip(
        images, (place[:, :2] * 6).long().clamp(max=5).tolist(), kind.tolist(), strict=True
    ):
        side = 3 if which == 0 else 6
        image[:, y : y + side, x : x + side] += 0.35 if which == 3 else 0.8
        if which == 2:
            image[:, y + 1 : y + 5, x + 1 : x + 5] -= 0.8
    return images.clamp(0, 1)


def pictures(count: int, seed: int) -> Stack:
    latent = torch.randn(count, NOISE, generator=torch.Generator().manual_seed(seed))
    kinds = (torch.special.ndtr(latent[:, 2]) * 4).long().clamp(max=3)
    return Stack((scene(latent) * 255).round().to(torch.uint8).movedim(1, -1).numpy(), kinds.numpy())


TRAIN, HELD = pictures(300, 1), pictures(120, 2)


def trained_on() -> Tensor:
    return torch.from_numpy(TRAIN.images).movedim(-1, 1).float() / 255


class Healthy(Draws):
    """Draws from the very distribution that the pictures are from."""

    Config = GenerativeConfig

    def __init__(self, **options: Any) -> None:
        super().__init__(GenerativeConfig(channels=1, size=SIZE, **options))
        self.latent_shape = (NOISE,)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return scene(latent)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": (batch.images.mean() * self.weight).squeeze()}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return {}


class OnePicture(Healthy):
    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return scene(torch.zeros_like(latent)) + 0.001 * latent[:, 3:].view(-1, 1, *SIZE).clamp(0, 1)


class FewPictures(Healthy):
    """Draws one of six pictures: they differ as much as real ones do, but there are no others."""

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return trained_on()[:6][(torch.special.ndtr(latent[:, 0]) * 6).long().clamp(max=5)]


class OneClass(Healthy):
    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return scene(torch.cat([latent[:, :2], torch.full_like(latent[:, 2:3], -2.0), latent[:, 3:]], dim=1))


class Copier(Healthy):
    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        images = trained_on()
        return images[(torch.special.ndtr(latent[:, 0]) * len(images)).long()]


class Blurred(Healthy):
    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return F.avg_pool2d(F.pad(scene(latent), (1, 1, 1, 1), mode="replicate"), 3, 1)


class Noise(Healthy):
    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return latent[:, 3:].view(-1, 1, *SIZE).sigmoid()


class Game(Healthy):
    """With a critic that recognises as many pictures as it is told to."""

    def __init__(self, real: float, fake: float, gradient: float) -> None:
        super().__init__()
        self.told = real, fake, gradient
        self.other = nn.Linear(1, 1)

    def parts(self) -> dict[str, nn.Module]:
        return {"critic": self.other, "generator": self}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return dict(zip(("critic_real", "critic_fake", "critic_gradient"), map(torch.tensor, self.told), strict=True))


class Variational(Healthy, Encodes, Bounded):
    """`used` of eight dimensions say something about the picture: how bright parts of it are."""

    def __init__(self, used: int, gap: float = 0.0) -> None:
        super().__init__()
        self.latent_shape = (8,)
        self.used, self.gap = used, gap

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.decode(latent, condition)

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        means = F.adaptive_avg_pool2d(images, (2, 4)).flatten(1)
        means = (means - 0.3) * 5
        return means * (torch.arange(8) < self.used)

    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        parts = (latent * (torch.arange(8) < self.used)).view(-1, 1, 2, 4) / 5 + 0.3
        return F.interpolate(parts, SIZE).clamp(0, 1)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def bound(self, images: Tensor, samples: int, condition: Tensor | None = None) -> Tensor:
        known = trained_on().flatten(1)
        seen = (torch.cdist(images.flatten(1), known).min(dim=1).values < 1e-2).float()
        return -100 + math.log(samples) + self.gap * seen + images.mean(dim=(1, 2, 3))

    def health(self, batch: Batch) -> dict[str, Tensor]:
        means = self.encode(batch.images)
        kl = 2.0 * (torch.arange(8) < self.used) * len(means)
        return {"kl_dimensions": kl, "means_sum": means.sum(dim=0), "means_square_sum": means.square().sum(dim=0)}


class Codebook(Healthy):
    def __init__(self, used: int) -> None:
        super().__init__()
        self.used = used

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return {"codes": (torch.arange(32) < self.used) * 9.0 * len(batch)}


class Mender(Mends):
    """Fills holes with what is around them on average; `bad` makes everything black."""

    Config = GenerativeConfig

    def __init__(self, bad: bool = False) -> None:
        super().__init__(GenerativeConfig(channels=1, size=SIZE))
        self.weight, self.bad = nn.Parameter(torch.ones(1)), bad

    def forward(self, images: Tensor) -> Tensor:
        return self.mend(images)

    def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        if self.bad:
            return torch.zeros_like(images)
        known = torch.ones_like(images) if known is None else known
        mean = (images * known).sum(dim=(1, 2, 3), keepdim=True) / known.sum(dim=(1, 2, 3), keepdim=True)
        return torch.where(known > 0, images, mean)

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return {"total": (self.mend(batch.images) - batch.images).square().mean() + 0 * self.weight.sum()}

    def health(self, batch: Batch) -> dict[str, Tensor]:
        return {}


@pytest.fixture(scope="module")
def classifier() -> LearntFeatures:
    found = learn(TRAIN, channels=1, size=SIZE, classes=("small", "large", "hollow", "grey"), steps=60)
    assert found is not None
    return found


def judged(model: GenerativeModel, extractor: LearntFeatures | None = None, **options: Any) -> GenerativeEvaluation:
    return examine(model.eval(), TRAIN, HELD, extractor=extractor, count=200, importance=2, **options)


def levels(found: GenerativeEvaluation) -> dict[str, str]:
    return {verdict.topic: verdict.level for verdict in found.verdicts}


def test_a_healthy_model_gets_no_alarm(classifier: LearntFeatures) -> None:
    for extractor in (None, classifier):
        found = judged(Healthy(), extractor)
        assert not alarms(found.verdicts), found.verdicts
        assert {"mode collapse", "memorising", "likeness", "blur"} <= set(levels(found))


def test_a_generator_of_one_picture_has_collapsed(classifier: LearntFeatures) -> None:
    found = judged(OnePicture(), classifier)
    assert levels(found)["mode collapse"] == "bad" and found["diversity"] < 0.1 and found["coverage"] < 0.1


def test_a_generator_of_six_pictures_is_found_by_its_coverage(classifier: LearntFeatures) -> None:
    found = judged(FewPictures(), classifier)
    assert levels(found)["mode collapse"] != "good" and found["diversity"] > 0.6


def test_a_generator_of_one_class_is_found_by_the_classifier(classifier: LearntFeatures) -> None:
    found = judged(OneClass(), classifier)
    verdict = alarms(found.verdicts)["mode collapse"]
    assert verdict.level == "bad" and "large" in verdict.sentence and "hollow" in verdict.sentence
    assert found.class_histogram is not None and found.class_histogram_real is not None
    assert found.class_histogram[0] > 0.8 and abs(found.class_histogram_real[0] - 0.25) < 0.12
    assert found["unevenness"] > 0.6


def test_a_generator_that_copies_is_found_out_and_its_sources_named() -> None:
    found = judged(Copier())
    assert levels(found)["memorising"] == "bad" and found["copies"] > 0.9 and found["copying_test"] < -10
    assert len(found.nearest) == 16 and found.nearest[0].distance == 0
    assert all(np.array_equal(pair.drawn, pair.picture) for pair in found.nearest)
    named = TRAIN.images[int(found.nearest[3].name.split()[-1])]
    np.testing.assert_array_equal(named, found.nearest[3].picture)
    assert judged(Healthy())["copies"] < 0.05


def test_blurred_pictures_are_no_copies_but_blurred() -> None:
    found = judged(Blurred())
    assert levels(found)["memorising"] == "good"
    assert levels(found)["blur"] == "bad" and found["sharpness"] < 0.2


def test_noise_is_unlike_any_picture_and_no_mode_collapse() -> None:
    found = judged(Noise())
    assert levels(found)["likeness"] == "bad" and levels(found)["mode collapse"] == "good"
    assert found["precision"] < 0.1 and found["frechet_distance"] > 10 * found["frechet_distance_real"]


def test_a_latent_that_is_ignored_has_collapsed() -> None:
    found = judged(Variational(used=0))
    assert levels(found)["posterior collapse"] == "bad" and found["active_units"] == 0
    healthy = judged(Variational(used=6))
    assert levels(healthy)["posterior collapse"] == "good" and healthy["active_units"] == 6 and healthy["kl"] == 12
    assert healthy.active is not None and healthy.active.tolist() == [True] * 6 + [False] * 2


@pytest.mark.parametrize(
    ("told", "level"), [((1.0, 1.0, 1e-6), "bad"), ((1.0, 1.0, 0.5), "warning"), ((0.7, 0.8, 0.5), "good")]
)
def test_a_critic_that_always_knows_wins(told: tuple[float, float, float], level: str) -> None:
    found = judged(Game(*told))
    assert levels(found)["critic"] == level and found["critic_real"] == pytest.approx(told[0])


@pytest.mark.parametrize(("used", "level"), [(1, "bad"), (30, "good")])
def test_a_codebook_with_one_used_code_has_collapsed(used: int, level: str) -> None:
    found = judged(Codebook(used))
    assert levels(found)["codebook use"] == level and found["codes_used"] == used
    assert found["code_perplexity"] == pytest.approx(used) and found.codes is not None
    assert found.codes.sum() == used * 9 * len(HELD)


def test_training_pictures_known_by_heart_show_in_the_bound() -> None:
    assert levels(judged(Variational(6)))["over-fitting"] == "good"
    found = judged(Variational(6, gap=50))
    assert levels(found)["over-fitting"] == "bad" and found["bound_train"] > found["bound"] + 40


def test_bounds_become_bits_per_dimension() -> None:
    found = judged(Variational(6))
    assert found["bound_2"] == pytest.approx(found["bound"] + math.log(2), abs=1e-4)
    assert found["bits_per_dimension"] == pytest.approx(-found["bound_2"] / (SIDE**2 * math.log(2)))


def test_a_latent_is_explored_by_its_most_active_dimensions() -> None:
    explorer = judged(Variational(6)).explorer
    assert explorer is not None and explorer.grid.shape == (9, 9, *SIZE, 1) and len(explorer.strips) == 8
    assert explorer.values[0] == -3 and explorer.values[-1] == 3
    deviations = [strip.deviation for strip in explorer.strips]
    assert deviations == sorted(deviations, reverse=True) and {explorer.across, explorer.down} < set(range(6))
    first, idle = explorer.strips[0], explorer.strips[-1]
    assert np.ptp(first.pictures.astype(int), axis=0).max() > 100 and first.kl == 2
    assert np.ptp(idle.pictures.astype(int), axis=0).max() == 0 and idle.kl == 0
    assert (
        np.ptp(explorer.grid.astype(int), axis=0).max() > 100 and np.ptp(explorer.grid.astype(int), axis=1).max() > 100
    )
    assert judged(Healthy()).explorer is None


def test_reconstructions_and_what_was_mended_stand_beside_the_originals() -> None:
    found = judged(Variational(6))
    assert len(found.reconstructions) == 12 and found.reconstructions[0].damaged is None
    np.testing.assert_array_equal(found.reconstructions[0].original, HELD.images[0])
    assert 10 < found["psnr"] < 30 and math.isnan(found["ms_ssim"])
    mender = judged(Mender())
    assert mender["mended_psnr"] > mender["damaged_psnr"] + 1 and mender.drawn is None and mender.extractor is None
    first = mender.reconstructions[0]
    assert first.damaged is not None and first.damaged[5, 5] == 0 and first.name == HELD[0].name
    np.testing.assert_array_equal(first.reconstruction[0], first.original[0])  # known pixels are the picture's own
    assert judged(Mender(bad=True))["mended_psnr"] <= mender["damaged_psnr"]


def test_everything_is_told_with_its_counts_in_json_and_in_a_table(classifier: LearntFeatures) -> None:
    found = judged(Variational(6), classifier)
    tree = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert tree["counts"]["drawn"] == 200 and tree["counts"]["held_back"] == len(HELD)
    assert tree["overall"]["ms_ssim"]["value"] is None and all(each["definition"] for each in tree["overall"].values())
    assert "120 real" in tree["overall"]["frechet_distance"]["definition"]
    assert "classifier of these pictures" in tree["overall"]["frechet_distance"]["definition"]
    assert not any(name.startswith("fid") for name in tree["overall"])
    assert found.drawn is not None and found.drawn.shape == (64, *SIZE, 1) and found.numbers[:2] == (0, 1)
    text = io.StringIO()
    found.table(Console(file=text, width=200))
    assert "frechet distance" in text.getvalue() and "posterior collapse" in text.getvalue()
    assert "n/a" in text.getvalue() and "Try:" in text.getvalue()
    ranks = [("bad", "warning", "good").index(verdict.level) for verdict in found.verdicts]
    assert ranks == sorted(ranks)


def test_the_same_seed_gives_the_same_numbers_and_leaves_chance_and_mode_alone() -> None:
    model = Healthy().train()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = examine(model, TRAIN, HELD, extractor=None, count=64)
    assert torch.equal(torch.random.get_rng_state(), before) and model.training
    again, other = (examine(model, TRAIN, HELD, extractor=None, count=64, seed=seed) for seed in (0, 1))
    assert one.to_json()["overall"] == again.to_json()["overall"] != other.to_json()["overall"]


def test_a_stop_is_heard_and_no_held_back_picture_is_an_error() -> None:
    with pytest.raises(Stopped):
        judged(Healthy(), stop=lambda: True)
    with pytest.raises(DataError, match="held back"):
        examine(Healthy(), TRAIN, Stack(HELD.images[:0]), extractor=None)
    with pytest.raises(DataError, match="3 channels"):
        examine(Healthy(), TRAIN, [Sample("colour", np.zeros((*SIZE, 3), np.uint8))], extractor=None)


def test_pictures_of_other_sizes_are_brought_to_the_models(classifier: LearntFeatures) -> None:
    large = [Sample(f"large {i}", np.kron(HELD.images[i], np.ones((3, 4, 1), np.uint8))) for i in range(20)]
    found = examine(Healthy(), large, large, extractor=classifier, count=20)
    assert found.counts["held_back"] == 20 and math.isfinite(found["frechet_distance"])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_very_few_pictures_give_fewer_numbers_but_no_error(count: int) -> None:
    few = Stack(HELD.images[:count], HELD.categories[:count])  # type: ignore[index]
    found = examine(Variational(6), few, few, extractor=None, count=count)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.counts["drawn"] == count


def test_without_training_pictures_nothing_is_said_of_copies_and_over_fitting() -> None:
    found = examine(Variational(6), Stack(TRAIN.images[:0]), HELD, extractor=None, count=64)
    assert {"copies", "bound_train", "frechet_distance_real"}.isdisjoint(found.to_json()["overall"])
    assert "copies" in found.missing and math.isfinite(found["frechet_distance"]) and not found.nearest
    assert {"memorising", "over-fitting", "likeness"}.isdisjoint(levels(found))


# while training


def scored(model: GenerativeModel, yardsticks: list[Yardstick], **options: Any) -> dict[str, float]:
    return quick_scores(model, TRAIN, HELD, extractors=yardsticks, count=64, **options)[0]


@pytest.fixture(scope="module")
def yardsticks(classifier: LearntFeatures) -> list[Yardstick]:
    return [Yardstick.of(Healthy(), TRAIN, classifier, 64, 200)]


def test_the_score_of_a_bounded_model_is_its_bound(yardsticks: list[Yardstick]) -> None:
    found = scored(Variational(6), yardsticks)
    assert found["score"] == found["bound_per_dimension"] == pytest.approx(found["bound"] / SIDE**2)
    assert {"psnr", "ssim", "active_units", "precision", "coverage", "copies", "bits_per_dimension"} <= found.keys()
    assert all(math.isfinite(value) for value in found.values())


def test_the_score_of_a_game_is_its_distance_and_ranks_generators(yardsticks: list[Yardstick]) -> None:
    class BadGame(Game):
        def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
            return scene(torch.zeros_like(latent))

    good, bad = scored(Game(0.7, 0.7, 1), yardsticks), scored(BadGame(0.7, 0.7, 1), yardsticks)
    assert good["score"] == -good["frechet_distance"] > 2 * bad["score"] and good["score"] > bad["score"]


def test_the_score_of_anything_else_is_minus_its_loss() -> None:
    found = scored(Mender(), [])
    assert found["score"] == -found["loss/total"] and "mended_psnr" in found


def test_verdicts_come_with_each_validation(yardsticks: list[Yardstick]) -> None:
    def topics(model: GenerativeModel) -> set[str]:
        return set(alarms(quick_scores(model, TRAIN, HELD, extractors=yardsticks)[1]))

    assert not topics(Healthy())
    assert "mode collapse" in topics(OnePicture()) and "memorising" in topics(Copier())
    assert "posterior collapse" in topics(Variational(0)) and "critic" in topics(Game(1, 1, 0))
    assert "codebook use" in topics(Codebook(1))


def test_features_are_learnt_once_and_kept_in_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "FEWEST_STEPS", 2)
    run, kept = Run(tmp_path), list[Yardstick]()
    few = Stack(TRAIN.images[:24])
    for _ in range(2):
        quick_scores(Healthy(), few, HELD, run=run, extractors=kept, count=16)
    assert len(kept) == 1 and (tmp_path / "features.safetensors").is_file()
    again = list[Yardstick]()
    first = quick_scores(Healthy(), few, HELD, run=run, extractors=kept, count=16)[0]
    assert quick_scores(Healthy(), few, HELD, run=run, extractors=again, count=16)[0] == first


def test_a_stop_before_features_are_learnt_leaves_the_rest() -> None:
    kept: list[Yardstick] = []
    found, _ = quick_scores(Game(0.7, 0.7, 1), TRAIN, HELD, extractors=kept, count=16, stop=lambda: True)
    assert not kept and math.isfinite(found["score"]) and "frechet_distance" not in found
    assert quick_scores(Healthy(), TRAIN, Stack(HELD.images[:0]), extractors=kept) == ({}, ())


@pytest.mark.parametrize("condition", ["none", "class"])
@pytest.mark.parametrize("kind", [VAE, GAN])
def test_real_models_told_classes_or_not(kind: Any, condition: str, classifier: LearntFeatures) -> None:
    torch.manual_seed(0)
    config = {VAE: VAEConfig, GAN: GANConfig}[kind]
    options = {"latent": 4, "width": 4, "condition": condition, "classes": 4 if condition == "class" else 0}
    model = kind(config(channels=1, size=SIZE, **options))
    found = scored(model, [Yardstick.of(model, TRAIN, classifier, 64, 200)])
    assert math.isfinite(found["score"]) and ("told_class" in found) == (condition == "class")
    assert sheet(model, HELD, seed=1)[:4] == b"\x89PNG" and sheet(model, HELD, seed=1) == sheet(model, HELD, seed=1)


@pytest.mark.parametrize("model", [Healthy(), Mender(), Variational(3)])
def test_a_sheet_shows_any_model(model: GenerativeModel) -> None:
    assert sheet(model, HELD)[:4] == b"\x89PNG"
