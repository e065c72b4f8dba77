"""Copy-paste by construction: each pixel's values are its picture's number and its own coordinates, so a pasted pixel
says where it came from, and its mask can be looked up there."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.augment import AugmentConfig
from intarsia.data.batches import make_batch
from intarsia.data.copy_paste import copy_paste
from intarsia.records import IGNORE, Sample

HEIGHT, WIDTH, SCALE = 48, 64, 256
EXACT: dict[str, Any] = {
    "copy_paste": 1.0, "copy_paste_regions": 1, "copy_paste_scale": (1.0, 1.0), "copy_paste_soft": 0.0,
    "flip_horizontal": 0.0,
}  # fmt: skip
STILL: dict[str, Any] = {
    "scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "gamma": 0.0, "blur": 0.0,
    "noise": 0.0,
}  # fmt: skip


def config(**changes: Any) -> AugmentConfig:
    return AugmentConfig(**{"crop": (HEIGHT, WIDTH), **EXACT, **changes})


def numbered(number: int) -> np.ndarray:
    """(H, W, 3) float32: the picture's number, x and y, each over SCALE."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([np.full_like(x, number), x, y], axis=2).astype(np.float32) / SCALE


def sample(number: int, *boxes: tuple[int, int, int, int, int]) -> Sample:
    """A ground of class 0 with boxes of (class, top, left, height, width)."""
    mask = np.zeros((HEIGHT, WIDTH), np.int16)
    for kind, top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = kind
    return Sample(str(number), numbered(number), mask)


def three() -> list[Sample]:
    return [
        sample(1, (1, 10, 10, 6, 9)),
        sample(2, (2, 20, 30, 8, 5), (1, 2, 2, 4, 4)),
        sample(3, (3, 30, 40, 5, 5)),
    ]


def pasted(result: list[Sample], seed: int = 0, **changes: Any) -> list[Sample]:
    return copy_paste(result, config(**changes), np.random.default_rng(seed))


def origin(each: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, W) each: which picture a pixel is of, and its column and row there."""
    numbers, columns, rows = np.moveaxis((each.image * SCALE).round().astype(int), 2, 0)
    return numbers, columns, rows


@given(st.integers(0, 10_000), st.floats(0, 1), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_pasted_pixel_carries_picture_and_mask(seed: int, shift: float, mirrored: bool) -> None:
    before = three()
    after = pasted(before, seed, copy_paste_shift=shift, flip_horizontal=float(mirrored), copy_paste_regions=3)
    some = 0
    for own, each in zip(before, after, strict=True):
        numbers, columns, rows = origin(each)
        assert each.mask is not None
        for number, giver in enumerate(before, start=1):
            assert giver.mask is not None
            here = numbers == number
            assert np.array_equal(each.mask[here], giver.mask[rows[here], columns[here]])
            if giver is not own:
                some += int(here.sum())
                assert (each.mask[here] > 0).all()  # a region, never the ground beside it
    assert some > 0


def test_a_region_comes_whole_and_stays_where_it_was_if_nothing_moves_it() -> None:
    for seed in range(10):
        for own, each in zip(three(), pasted(three(), seed, copy_paste_shift=0.0), strict=True):
            numbers, columns, rows = origin(each)
            foreign = numbers != int(own.name)
            y, x = np.nonzero(foreign)
            assert np.array_equal(columns[foreign], x) and np.array_equal(rows[foreign], y)
            assert foreign.sum() in (6 * 9, 8 * 5, 4 * 4, 5 * 5)


def test_a_region_moves_by_whole_pixels_no_further_than_asked() -> None:
    moves = set()
    for seed in range(60):
        for own, each in zip(three(), pasted(three(), seed, copy_paste_shift=0.1), strict=True):
            numbers, columns, rows = origin(each)
            y, x = np.nonzero(numbers != int(own.name))
            away = {(int(a), int(b)) for a, b in zip(y - rows[y, x], x - columns[y, x], strict=True)}
            assert len(away) == 1
            moves |= away
    assert max(abs(y) for y, _ in moves) == 5 and max(abs(x) for _, x in moves) == 6  # a tenth of 48 and of 64
    assert len(moves) > 40


def test_a_scaled_region_is_as_large_as_asked_and_its_mask_fits() -> None:
    for seed in range(20):
        giver, taker = sample(1, (1, 16, 20, 12, 16)), sample(2)
        after = pasted([giver, taker], seed, copy_paste_scale=(1.5, 1.5), copy_paste_shift=0.1)[1]
        assert after.mask is not None
        foreign = after.image[..., 0] * SCALE < 1.5
        assert np.array_equal(foreign, after.mask == 1)
        assert foreign.sum() == pytest.approx(1.5**2 * 12 * 16, rel=0.1)


def test_a_soft_edge_blends_the_picture_and_not_the_mask() -> None:
    giver, taker = sample(1, (1, 10, 10, 12, 12)), sample(2)
    changes: dict[str, Any] = {"copy_paste_shift": 0.0}
    hard = pasted([giver, taker], **changes)[1]
    soft = pasted([giver, taker], copy_paste_soft=1.0, **changes)[1]
    assert hard.mask is not None and soft.mask is not None
    assert np.array_equal(hard.mask, soft.mask)
    share = 2 - soft.image[..., 0] * SCALE  # 1 = all of it is the giver's
    assert share[16, 16] == pytest.approx(1, abs=1e-4) and share[2, 2] == pytest.approx(0, abs=1e-4)
    assert 0.5 < share[16, 10] < 0.9 and share[16, 10] + share[16, 9] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_numbers_stay_of_their_type(dtype: type) -> None:
    pair = [Sample(each.name, (each.image * 255).astype(dtype), each.mask) for each in three()[:2]]
    for before, after in zip(pair, pasted(pair, copy_paste_soft=1.0), strict=True):
        assert after.image.dtype == dtype
        assert after.image.max() <= max(each.image.max() for each in pair)
        assert not np.array_equal(before.image, after.image)


def test_pictures_without_masks_neither_give_nor_take() -> None:
    bare = Sample("9", numbered(9))
    for seed in range(20):
        after = pasted([*three()[:2], bare], seed)
        assert after[2] is bare
        assert not any((origin(each)[0] == 9).any() for each in after[:2])
    alone = [three()[0], bare]
    assert all(one is other for one, other in zip(alone, pasted(alone), strict=True))


def test_pictures_of_other_types_or_channels_give_nothing() -> None:
    taker = three()[0]
    others = [
        Sample("2", (numbered(2) * 255).astype(np.uint8), three()[1].mask),
        Sample("3", numbered(3)[..., :1], three()[2].mask),
    ]
    assert np.array_equal(pasted([taker, *others])[0].image, taker.image)


def test_the_class_is_drawn_by_its_odds() -> None:
    taker, giver = sample(1), sample(2, (1, 2, 2, 4, 4), (2, 20, 20, 4, 4), (3, 30, 30, 4, 4))
    counts = np.zeros(4)
    for seed in range(200):
        odds = np.array([0.0, 1.0, 3.0, 0.0])
        mask = copy_paste([taker, giver], config(), np.random.default_rng(seed), odds)[0].mask
        assert mask is not None
        counts[mask.max()] += 1
    assert counts[3] == counts[0] == 0
    assert counts[2] / counts.sum() == pytest.approx(0.75, abs=0.1)


def test_as_often_as_asked() -> None:
    changed = [
        not np.array_equal(pasted([sample(1), three()[1]], seed, copy_paste=0.3)[0].image, numbered(1))
        for seed in range(200)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.1)


def test_what_fills_a_picture_is_never_pasted() -> None:
    wall = sample(2, (1, 0, 0, HEIGHT, WIDTH // 2))
    crumbs = sample(3, (2, 5, 5, 1, 1))
    taker = sample(1)
    for seed in range(10):
        assert np.array_equal(pasted([taker, wall, crumbs], seed)[0].image, taker.image)


def test_unknown_pixels_are_not_given_and_are_known_under_a_region() -> None:
    giver, taker = three()[0], sample(2)
    assert giver.mask is not None and taker.mask is not None
    giver.mask[8:20, 12:14] = IGNORE  # runs through the region
    taker.mask[:, :32] = IGNORE
    after = pasted([giver, taker], copy_paste_shift=0.0)[1]
    assert after.mask is not None
    foreign = origin(after)[0] == 1
    assert foreign.any() and (after.mask[foreign] == 1).all()
    assert (after.mask[~foreign] == taker.mask[~foreign]).all()


def test_all_labels_of_a_region_come_along_where_classes_overlap() -> None:
    def of(each: Sample) -> Sample:
        assert each.mask is not None
        labels = np.stack([each.mask >= 1, each.mask >= 2]).astype(np.int8)  # class 1 lies within class 0
        return Sample(each.name, each.image, labels=labels)

    giver, taker = of(sample(1, (1, 10, 10, 12, 12), (2, 12, 12, 3, 3))), of(sample(2))
    assert giver.labels is not None
    giver.labels[1, 18:20, 18:20] = IGNORE
    for seed in range(10):
        after = copy_paste(
            [giver, taker], config(copy_paste_shift=0.1), np.random.default_rng(seed), np.array([1.0, 0.0])
        )[1]
        numbers, columns, rows = origin(after)
        foreign = numbers == 1
        assert after.labels is not None and foreign.sum() == 144
        assert np.array_equal(after.labels[:, foreign], giver.labels[:, rows[foreign], columns[foreign]])
        assert (after.labels[:, ~foreign] == 0).all()


def test_the_same_numbers_give_the_same_pictures() -> None:
    changes: dict[str, Any] = {"copy_paste_scale": (0.7, 1.4), "copy_paste_soft": 0.7, "copy_paste": 0.7}
    one, other = pasted(three(), 5, **changes), pasted(three(), 5, **changes)
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) for a, b in zip(one, other, strict=True)
    )
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(one, pasted(three(), 6, **changes), strict=True))


def test_a_batch_is_pasted_and_a_teachers_view_is_not() -> None:
    samples = three()
    settings = config(**STILL)
    batch, again, plain = (
        make_batch(samples, each, 3, 0, 0)
        for each in (settings, settings, settings.model_copy(update={"copy_paste": 0.0}))
    )
    assert batch.images.equal(again.images) and not batch.images.equal(plain.images)
    teacher = make_batch(samples, settings.geometry(), 3, 0, 0)
    assert teacher.images.equal(plain.images)
    assert batch.masks is not None and plain.masks is not None
    foreign = (batch.images != plain.images).any(dim=1)
    assert (batch.masks[foreign] > 0).all() and batch.masks[~foreign].equal(plain.masks[~foreign])
