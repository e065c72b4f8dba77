"""Augmentation by construction: the picture's values are its own coordinates, and the mask numbers the pixels, so
after any change each pixel says twice where it came from."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from intarsia.data.augment import AugmentConfig, augment, mix
from intarsia.records import IGNORE, Sample

HEIGHT, WIDTH = 96, 128
SCALE = 256  # what a coordinate is divided by, so that it lies in [0, 1]
STILL: dict[str, Any] = {
    "scale": (1.0, 1.0), "flip_horizontal": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
    "gamma": 0.0, "blur": 0.0, "noise": 0.0,
}  # fmt: skip
COLOURS: dict[str, Any] = {
    "brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.2, "gamma": 0.4, "tint": 0.3, "shadow": 1.0,
    "blur": 1.0, "noise": 1.0, "cutout": 1.0,
}  # fmt: skip
GEOMETRY: dict[str, dict[str, Any]] = {
    "crop": {},
    "enlarge": {"scale": (1.0, 2.5)},
    "shrink": {"scale": (0.5, 1.0)},
    "stretch": {"stretch": 0.5},
    "rotate": {"rotate": 180.0},
    "flips": {"flip_horizontal": 1.0, "flip_vertical": 1.0, "scale": (0.7, 1.4)},
    "transpose": {"transpose": 1.0, "scale": (0.7, 1.4)},
    "larger than the picture": {"crop": (130, 150), "rotate": 20.0},
    "blur": {"blur": 1.0},
    "together": {
        "scale": (0.5, 2.0), "stretch": 0.3, "rotate": 180.0, "flip_horizontal": 0.5, "flip_vertical": 0.5,
        "transpose": 0.5, "blur": 0.5,
    },
}  # fmt: skip


def still(**changes: Any) -> AugmentConfig:
    """Nothing but a crop, and what is asked for."""
    return AugmentConfig(**{"crop": (48, 64), **STILL, **changes})


def coordinates(height: int = HEIGHT, width: int = WIDTH) -> Sample:
    """A picture whose two channels are x and y, and a mask that numbers the pixels row by row."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x, y], axis=2).astype(np.float32) / SCALE
    return Sample("coordinates", image, (y * width + x).astype(np.int16))


def random_picture(dtype: type, channels: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Sample:
    generator = np.random.default_rng(seed)
    values = generator.random((height, width, channels), dtype=np.float32)
    image = values if dtype is np.float32 else (values * np.iinfo(dtype).max).astype(dtype)
    return Sample("random", image, generator.integers(-1, 4, (height, width)).astype(np.int16))


def crop_of(sample: Sample, config: AugmentConfig, seed: int, rarity: np.ndarray | None = None) -> Sample:
    return augment(sample, config, np.random.default_rng(seed), rarity)


@pytest.mark.parametrize("change", GEOMETRY)
def test_the_mask_never_moves_against_the_picture(change: str) -> None:
    means = []
    for seed in range(30):
        crop = crop_of(coordinates(), still(**GEOMETRY[change]), seed)
        assert crop.mask is not None
        row, column = crop.mask // WIDTH, crop.mask % WIDTH
        rim, margin = (7, 14) if "blur" in GEOMETRY[change] else (0, 1)  # what lies beyond a border is mirrored in it
        inside = np.pad(np.ones((crop.size[0] - 2 * rim, crop.size[1] - 2 * rim), bool), rim) & (crop.mask != IGNORE)
        inside &= (column >= margin) & (column < WIDTH - margin) & (row >= margin) & (row < HEIGHT - margin)
        away = crop.image * SCALE - np.stack([column, row], axis=2)  # in pixels of the picture
        # the mask takes the nearest pixel's number, so up to half a pixel is rounding; OpenCV counts in 1/32 of one
        assert np.abs(away[inside]).max() <= 0.5 + 1 / 16
        means.append(away[inside].mean(axis=0))
    assert np.abs(np.mean(means, axis=0)).max() < 0.05  # rounding goes both ways; a shift would not


def test_a_mask_that_is_half_a_pixel_off_would_be_seen() -> None:
    """The test above can fail: it is given a picture drawn half a pixel beside its mask."""
    sample = coordinates()
    shifted = Sample("shifted", sample.image + np.float32(0.5 / SCALE), sample.mask)
    means = []
    for seed in range(30):
        crop = crop_of(shifted, still(**GEOMETRY["together"]), seed)
        assert crop.mask is not None
        inside = (crop.mask != IGNORE) & (crop.mask % WIDTH > 4) & (crop.mask % WIDTH < WIDTH - 5)
        means.append((crop.image[..., 0] * SCALE - crop.mask % WIDTH)[inside].mean())
    assert np.mean(means) > 0.4


@given(st.integers(0, 10_000), st.integers(1, HEIGHT), st.integers(1, WIDTH), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=30)
def test_crops_and_flips_are_slices(seed: int, height: int, width: int, mirrored: bool, overturned: bool) -> None:
    sample = random_picture(np.uint8, 3)
    sample = Sample("numbered", sample.image, coordinates().mask)
    config = still(crop=(height, width), flip_horizontal=float(mirrored), flip_vertical=float(overturned))
    crop = crop_of(sample, config, seed)
    assert crop.mask is not None and sample.mask is not None
    top, left = divmod(int(crop.mask.min()), WIDTH)
    window = np.s_[top : top + height, left : left + width]
    flip = np.s_[:: -1 if overturned else 1, :: -1 if mirrored else 1]
    assert np.array_equal(crop.mask, sample.mask[window][flip])
    assert np.array_equal(crop.image, sample.image[window][flip])


@given(st.integers(0, 10_000), st.integers(1, WIDTH), st.integers(1, HEIGHT))
@settings(deadline=None, max_examples=30)
def test_a_transposed_crop_is_a_transposed_slice(seed: int, height: int, width: int) -> None:
    sample = Sample("numbered", random_picture(np.uint8, 3).image, coordinates().mask)
    crop = crop_of(sample, still(crop=(height, width), transpose=1.0, flip_vertical=0.5), seed)
    assert crop.mask is not None and sample.mask is not None
    top, left = divmod(int(crop.mask.min()), WIDTH)
    window = np.s_[top : top + width, left : left + height]
    expected = [a[window] for a in (sample.mask, sample.image)]
    if crop.mask[0, 0] != expected[0][0, 0] or (height > 1 and crop.mask[0, 0] == crop.mask.max()):
        expected = [a[::-1] for a in expected]  # turned over before
    assert np.array_equal(crop.mask, expected[0].T)
    assert np.array_equal(crop.image, expected[1].transpose(1, 0, 2))


def test_every_place_of_a_crop_is_drawn() -> None:
    corners = {divmod(int(crop_of(coordinates(5, 6), still(crop=(3, 4)), seed).mask.min()), 6) for seed in range(200)}
    assert corners == {(top, left) for top in range(3) for left in range(3)}


def test_outside_the_picture_the_mask_is_ignore_and_the_picture_is_mirrored() -> None:
    sample = coordinates(20, 30)
    crop = crop_of(sample, still(crop=(40, 50)), seed=3)
    assert crop.mask is not None and sample.mask is not None
    known = crop.mask != IGNORE
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    assert (len(rows), len(columns)) == (20, 30)  # the whole picture lies in the crop, in one piece
    assert np.array_equal(crop.mask[np.ix_(rows, columns)], sample.mask)
    padding = [(rows[0], 39 - rows[-1]), (columns[0], 49 - columns[-1]), (0, 0)]
    np.testing.assert_allclose(crop.image, np.pad(sample.image, padding, mode="reflect"), atol=1e-6)


def test_a_picture_of_any_length_is_cut() -> None:
    sample = Sample("strip", np.zeros((40, 40_000, 1), np.uint8), np.zeros((40, 40_000), np.int16))
    crop = crop_of(sample, still(crop=(32, 32), scale=(0.8, 1.25), rotate=10.0), seed=0)
    assert crop.image.shape == (32, 32, 1)
    assert np.any(crop.mask == 0)


def test_overlapping_labels_go_with_the_mask() -> None:
    """Each label plane is one binary digit of the mask's numbers."""
    sample = coordinates()
    assert sample.mask is not None
    labels = np.stack([sample.mask >> digit & 1 for digit in range(14)]).astype(np.int8)
    config = still(**GEOMETRY["together"])
    for seed in range(10):
        crop = crop_of(Sample("labels", sample.image, labels=labels), config, seed)
        expected = crop_of(sample, config, seed).mask
        assert crop.mask is None and crop.labels is not None and expected is not None
        assert crop.labels.dtype == np.int8
        assert np.array_equal(crop.labels == IGNORE, np.broadcast_to(expected == IGNORE, crop.labels.shape))
        numbers = (crop.labels.astype(int) << np.arange(14)[:, None, None]).sum(axis=0)
        assert np.array_equal(numbers[expected != IGNORE], expected[expected != IGNORE])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colour_changes_keep_masks_type_and_range(dtype: type, channels: int) -> None:
    sample = random_picture(dtype, channels)
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    for seed in range(5):
        plain = crop_of(sample, still(), seed)
        crop = crop_of(sample, still(**COLOURS), seed)
        assert np.array_equal(crop.mask, plain.mask)
        assert crop.image.dtype == dtype
        assert crop.image.shape == (48, 64, channels)
        assert np.isfinite(crop.image).all() and crop.image.min() >= 0 and crop.image.max() <= top
        assert not np.array_equal(crop.image, plain.image)


@pytest.mark.parametrize("change", [*COLOURS, "saturation and hue"])
def test_each_colour_change_means_the_same_for_every_type(change: str) -> None:
    """8-bit pictures go a faster way; it must lead to the same picture, up to rounding."""
    fields = ["saturation", "hue"] if change == "saturation and hue" else [change]
    config = still(**{field: COLOURS[field] for field in fields})
    coarse = random_picture(np.uint8, 3)
    coarse = Sample("smooth", (coarse.image // 2 + 64).astype(np.uint8), coarse.mask)  # nothing is clipped
    fine = Sample("smooth", coarse.image.astype(np.float32) / 255)
    for seed in range(4):
        ours, theirs = (crop_of(sample, config, seed).image for sample in (coarse, fine))
        assert np.abs(ours / np.float32(255) - theirs).max() < 0.02


def test_grey_stays_grey_under_saturation_and_hue() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (48, 64, 1), np.uint8), 3, axis=2)
    crop = crop_of(Sample("grey", grey), still(saturation=1.0, hue=0.5), seed=1)
    assert np.abs(crop.image.astype(int) - grey).max() <= 1


def test_without_colour_the_picture_is_untouched() -> None:
    sample = random_picture(np.uint8, 3, 48, 64)
    assert np.array_equal(crop_of(sample, still(), 0).image, sample.image)


def test_the_same_generator_state_gives_the_same_crop() -> None:
    config = AugmentConfig(crop=(48, 64), rare_crops=0.5, rotate=30.0, transpose=0.5, **COLOURS)
    sample = random_picture(np.uint8, 3)
    first, again, other = (crop_of(sample, config, seed) for seed in (7, 7, 8))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


def test_the_sample_itself_is_left_alone() -> None:
    sample = random_picture(np.uint8, 3, 48, 64)
    before = sample.image.copy()
    crop_of(sample, still(**COLOURS), 0)
    assert np.array_equal(sample.image, before)


@pytest.mark.parametrize("change", ["crop", "together", "rotate", "larger than the picture"])
@pytest.mark.parametrize("place", [(0, 0), (HEIGHT - 3, WIDTH - 3), (40, 60)])
def test_rare_crops_hold_the_rare_class(change: str, place: tuple[int, int]) -> None:
    """A speck of 3 x 3 pixels, also in the picture's corner, which a turned crop inside the picture can't reach."""
    y, x = place
    mask = np.zeros((HEIGHT, WIDTH), np.int16)
    mask[y : y + 3, x : x + 3] = 1
    sample = Sample("speck", random_picture(np.uint8, 3).image, mask)
    config = still(**{"crop": (32, 48), **GEOMETRY[change], "rare_crops": 1.0, "scale": (0.8, 1.5)})
    odds = np.array([0.0, 1.0])
    assert all(np.any(crop_of(sample, config, seed, odds).mask == 1) for seed in range(40))


def test_rare_crops_of_overlapping_labels_hold_the_rare_class() -> None:
    labels = np.zeros((2, HEIGHT, WIDTH), np.int8)
    labels[0] = 1
    labels[1, 70:73, 100:103] = 1
    sample = Sample("speck", random_picture(np.uint8, 3).image, labels=labels)
    crops = [crop_of(sample, still(crop=(32, 32), rare_crops=1.0), seed, np.array([0.0, 1.0])) for seed in range(20)]
    assert all(crop.labels is not None and np.any(crop.labels[1] == 1) for crop in crops)


@pytest.mark.parametrize("value", [None, IGNORE, 0])
def test_without_a_rare_class_a_rare_crop_is_any_crop(value: int | None) -> None:
    mask = None if value is None else np.full((HEIGHT, WIDTH), value, np.int16)
    sample = Sample("plain", random_picture(np.uint8, 3).image, mask)
    crop = crop_of(sample, still(rare_crops=1.0), 0, np.array([0.0, 1.0]))
    assert crop.image.shape == (48, 64, 3)


def pair(labelled: bool = True) -> list[Sample]:
    """Two pictures of which each pixel's first channel is its class: 0 to 2 in the one, 3 to 5 in the other."""
    generator = np.random.default_rng(5)
    samples = []
    for name, first in (("a", 0), ("b", 3)):
        mask = generator.integers(first, first + 3, (32, 40)).astype(np.int16)
        image = np.repeat(mask[..., None].astype(np.uint8), 3, axis=2)
        samples.append(Sample(name, image, mask if labelled else None))
    return samples


@pytest.mark.parametrize("kind", ["cutmix", "classmix"])
def test_mixing_pastes_picture_and_mask_together(kind: str) -> None:
    config = still(mix=kind, mix_probability=1.0)
    for seed in range(10):
        mixed = mix(pair(), config, np.random.default_rng(seed))
        assert [sample.name for sample in mixed] == ["a", "b"]
        for sample, own in zip(mixed, (range(3), range(3, 6)), strict=True):
            assert sample.mask is not None
            assert np.array_equal(sample.image[..., 0], sample.mask)  # each pixel still shows its class
            pasted = ~np.isin(sample.mask, list(own))
            assert pasted.any() and not pasted.all()
            if kind == "classmix":
                assert len(np.unique(sample.mask[pasted])) == 2  # half of three classes, rounded up
            else:
                rows, columns = np.flatnonzero(pasted.any(axis=1)), np.flatnonzero(pasted.any(axis=0))
                assert pasted.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)  # a rectangle
                assert 0.05 < pasted.mean() < 0.55


@pytest.mark.parametrize("kind", ["cutmix", "classmix"])
def test_mixing_pastes_overlapping_labels_too(kind: str) -> None:
    samples = []
    for sample in pair():
        assert sample.mask is not None
        planes = (sample.mask[None] == np.arange(6)[:, None, None]).astype(np.int8)
        samples.append(Sample(sample.name, sample.image, labels=planes))
    mixed = mix(samples, still(mix=kind, mix_probability=1.0), np.random.default_rng(0))
    for sample, before in zip(mixed, samples, strict=True):
        assert sample.labels is not None
        assert not np.array_equal(sample.labels, before.labels)
        assert np.array_equal(sample.labels.argmax(axis=0), sample.image[..., 0])


def test_unlabelled_pictures_neither_give_nor_take() -> None:
    labelled, unlabelled = pair()[0], pair(labelled=False)[1]
    mixed = mix([labelled, unlabelled], still(mix="cutmix", mix_probability=1.0), np.random.default_rng(0))
    assert mixed[0] is labelled and mixed[1] is unlabelled


def test_without_mixing_the_batch_is_as_it_was() -> None:
    samples = pair()
    for config in (still(), still(mix="cutmix", mix_probability=0.0)):
        mixed = mix(samples, config, np.random.default_rng(0))
        assert all(one is other for one, other in zip(mixed, samples, strict=True))
    assert mix(samples[:1], still(mix="cutmix", mix_probability=1.0), np.random.default_rng(0))[0] is samples[0]


@pytest.mark.parametrize(
    "wrong",
    [{"crop": (0, 32)}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"hue": 0.6}, {"gamma": float("nan")},
     {"flip_horizontal": 1.5}, {"flip": 0.5}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig(**wrong)
