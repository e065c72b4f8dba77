"""The weight between the two tasks at its ends and on its way, what is damaged, and that it learns to mend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from small_models import ANY_MODEL, as_labels, squares, without_labels

from intarsia.models import build
from intarsia.models.combined import SegmentationAutoencoder
from intarsia.models.combined.segmentation_autoencoder import blind_spots
from intarsia.records import IGNORE, Batch

TINY = {"name": "segmentation_autoencoder", "segmenter": {"name": "unet", "width": 4, "depth": 2}, "width": 4}


def made(**options: Any) -> SegmentationAutoencoder:
    torch.manual_seed(0)
    model = build(ANY_MODEL.validate_python({**TINY, **options}))
    assert isinstance(model, SegmentationAutoencoder)
    return model.train()


def mixed() -> Batch:
    """Two labelled pictures, then two without masks."""
    known, unknown = squares(height=32, width=32), without_labels(squares(height=32, width=32))
    assert known.masks is not None and unknown.masks is not None
    return Batch(
        torch.cat([known.images, unknown.images.flip(3)]),
        torch.cat([known.masks, unknown.masks]),
        labelled=torch.tensor([True, True, False, False]),
    )


def gradients(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


# ------------------------------------------------------------------------------------------ the weight


@pytest.mark.parametrize("overlapping", [False, True])
def test_at_alpha_0_the_loss_is_the_segmenters_own_and_the_picture_decoder_learns_nothing(overlapping: bool) -> None:
    model = made(alpha=0.0, overlapping=overlapping)
    batch = as_labels(squares()) if overlapping else squares()
    losses = model.loss(batch)
    expected = made(alpha=0.0, overlapping=overlapping).supervised(batch)
    for name, term in expected.items():
        assert torch.equal(losses[name], term)
    losses["total"].backward()
    assert model.picture is not None
    assert gradients(model.picture) == 0
    assert gradients(model.segmenter) > 0


@pytest.mark.parametrize("segment", ["clean", "damaged"])
def test_at_alpha_1_the_masks_teach_nothing(segment: str) -> None:
    batch = squares()
    assert batch.masks is not None
    swapped = torch.where(batch.masks == IGNORE, IGNORE, 1 - batch.masks)
    other = Batch(batch.images, swapped, labelled=batch.labelled)
    found = []
    for each in (batch, other):
        model = made(alpha=1.0, segment=segment)
        torch.manual_seed(5)
        losses = model.loss(each)
        losses["total"].backward()
        assert torch.equal(losses["total"], losses["reconstruction"])
        assert gradients(model.in_halves().get_submodule("steps")) == 0
        assert gradients(model.in_halves().get_submodule("classifier")) == 0
        found.append([p.grad.clone() for p in model.in_halves().encoder.parameters() if p.grad is not None])
        assert sum(float(each.abs().sum()) for each in found[-1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@given(st.floats(0, 1))
@settings(max_examples=8, deadline=None)
def test_the_total_is_the_weighted_sum(alpha: float) -> None:
    losses = made(alpha=alpha).loss(mixed())
    expected = alpha * losses["reconstruction"] + (1 - alpha) * losses["segmentation"]
    torch.testing.assert_close(losses["total"], expected)
    assert float(losses["alpha"]) == pytest.approx(alpha)


def test_the_weight_follows_the_course_of_the_training() -> None:
    model = made(alpha=0.8, alpha_end=0.2, pretrain=0.5)
    found = []
    for progress in (0.0, 0.49, 0.5, 0.75, 1.0):
        model.advance(progress)
        found.append(model.alpha)
    assert found == pytest.approx([1.0, 1.0, 0.8, 0.5, 0.2])


def test_a_pretraining_that_never_ends_never_looks_at_masks() -> None:
    model = made(pretrain=1.0)
    model.advance(0.999)
    assert model.alpha == 1


def test_the_weight_from_the_counts_is_the_unlabelled_share() -> None:
    model = made(alpha="counts")
    assert model.loss(mixed())["alpha"] == 0.5
    assert model.loss(squares())["alpha"] == pytest.approx(2 / 6)
    model.eval().loss(squares())  # validation pictures don't count
    assert model.seen.tolist() == [4, 2]
    other = made(alpha="counts")
    other.load_state_dict(model.state_dict())
    assert other.alpha == pytest.approx(2 / 6)


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"alpha": "count"}, {"alpha": "counts", "alpha_end": 0.1}])
def test_weights_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="alpha"):
        ANY_MODEL.validate_python({**TINY, **options})


# ------------------------------------------------------------------------------------------ what is judged


@pytest.mark.parametrize("share", ["encoder", "decoder"])
@pytest.mark.parametrize("segment", ["clean", "damaged"])
@pytest.mark.parametrize("blind_spot", [False, True])
def test_pictures_without_masks_change_no_supervised_term(share: str, segment: str, blind_spot: bool) -> None:
    """With no damage at all, in eval mode, the masks' terms are those of the labelled pictures alone."""
    options: dict[str, Any] = {"share": share, "segment": segment, "corruption": {}, "blind_spot": blind_spot}
    model = made(**options, blind_share=1e-9).eval()
    with torch.no_grad():
        alone, both = model.loss(squares(height=32, width=32)), model.loss(mixed())
        own = model.supervised(squares(height=32, width=32))
    torch.testing.assert_close(both["segmentation"], alone["segmentation"])
    torch.testing.assert_close(own["total"], alone["segmentation"])


def test_with_a_shared_decoder_only_the_classes_come_out() -> None:
    model = made(share="decoder", classes=4, segment="damaged", loss={"weights": (1.0, 2.0, 3.0, 4.0)})
    assert model.picture is None
    images = torch.rand(2, 3, 30, 33)
    assert model.eval()(images).shape == (2, 4, 30, 33)
    assert model.restored(images).shape == images.shape
    losses = model.train().loss(without_labels(squares()))
    losses["total"].backward()
    assert losses["segmentation"] == 0
    assert gradients(model.segmenter) > 0


@pytest.mark.parametrize(("depth", "finest_skip"), [(1, 0), (1, 1), (2, 2), (3, 4), (3, 1)])
def test_the_picture_decoder_ends_at_the_pictures_size(depth: int, finest_skip: int) -> None:
    model = made(segmenter={"name": "unet", "width": 4, "depth": depth}, finest_skip=finest_skip, channels=2)
    images = torch.rand(1, 2, 21, 34)
    restored = model.eval().restored(images)
    assert restored.shape == images.shape
    assert restored.min() >= 0 and restored.max() <= 1


def test_dilated_encoders_have_a_picture_decoder_too() -> None:
    model = made(segmenter={"name": "deeplab", "encoder": "tiny", "width": 8}).eval()
    assert model.restored(torch.rand(1, 3, 40, 50)).shape == (1, 3, 40, 50)


# ------------------------------------------------------------------------------------------ blind spots


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_blind_spot_holds_a_pixel_from_nearby(height: int, width: int, reach: int, seed: int) -> None:
    torch.manual_seed(seed)
    numbers = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    images = torch.cat([numbers, -numbers], dim=1)
    result, spots = blind_spots(images, 0.5, reach)
    assert torch.equal(result[:, 0], -result[:, 1])  # the channels stay together
    assert torch.equal(torch.where(spots > 0, images, result), images)  # the others are as they were
    source = result[0, 0].long()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    assert ((source // width - rows).abs() <= reach).all()
    assert ((source % width - columns).abs() <= reach).all()


def test_blind_spots_are_as_many_as_asked_for_and_never_the_pixel_itself_inside() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 1, 100, 100)
    result, spots = blind_spots(images, 0.1, 2)
    assert float(spots.mean()) == pytest.approx(0.1, abs=0.01)
    inside = spots[:, :, 2:-2, 2:-2] > 0
    assert not (result == images)[:, :, 2:-2, 2:-2][inside].any()


def test_noise_is_removed_though_no_clean_picture_was_seen() -> None:
    """Noise2Void's promise, on smooth pictures with noise that was added once."""
    torch.manual_seed(3)
    coarse = torch.rand(6, 1, 4, 4)
    clean = 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    noisy = clean + 0.15 * torch.randn_like(clean)
    batch = Batch(noisy, torch.full((6, 32, 32), IGNORE), labelled=torch.zeros(6, dtype=torch.bool))
    model = made(blind_spot=True, blind_share=0.1, finest_skip=1, channels=1, deviation=(0.2,), segment="damaged")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch)["total"].backward()
        optimizer.step()
    before, after = (noisy - clean).square().mean(), (model.eval().restored(noisy) - clean).square().mean()
    assert after < 0.5 * before
