"""Every method on scenes whose answer is known by how they are made, and on pictures that are hardly any."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.classical import (
    METHODS,
    ChanVeseConfig,
    KMeansConfig,
    LocalThresholdConfig,
    MultiOtsuConfig,
    OtsuConfig,
    RegionGrowingConfig,
    SlicConfig,
    WatershedConfig,
    gradient,
    k_means,
    local_threshold,
    multi_otsu,
    otsu,
    region_growing,
    slic,
    watershed,
)
from intarsia.errors import DataError, UsageError

HEIGHT, WIDTH, BORDER = 48, 64, 29

#: settings that suit two halves, where a method's own are for other pictures
FOR_HALVES: dict[str, dict[str, Any]] = {
    "local_threshold": {"window": 401, "rule": "mean"},
    "multi_otsu": {"classes": 2},
    "k_means": {"clusters": 2},
    "watershed": {"depth": 0.2},
    "region_growing": {"tolerance": 0.1},
    "felzenszwalb": {"scale": 300},
    "slic": {"regions": 40},
    "geodesic_contour": {"balloon": 1, "steps": 100},
}


def halves(kind: Any = np.uint8, channels: int = 3, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """A picture that is dark to the left and bright to the right, with noise; and which is which, 0 and 1."""
    truth = np.zeros((HEIGHT, WIDTH), np.int32)
    truth[:, BORDER:] = 1
    values = np.where(truth, 0.7, 0.3)[..., None] + np.random.default_rng(0).normal(0, noise, (HEIGHT, WIDTH, channels))
    if np.issubdtype(kind, np.floating):
        return values.clip(0, 1).astype(kind), truth
    return np.rint(values.clip(0, 1) * np.iinfo(kind).max).astype(kind), truth


def two_seeds() -> np.ndarray:
    seeds = np.zeros((HEIGHT, WIDTH), np.int32)
    seeds[20:23, 8:11], seeds[30:33, 50:53] = 1, 2
    return seeds


def seeds_for(name: str, seeds: np.ndarray) -> np.ndarray | None:
    return seeds if METHODS[name].seeds == "required" else None


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def purity(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of pixels that are of the class which most of their region is of."""
    _, regions = np.unique(labels, return_inverse=True)
    ones = np.bincount(regions.ravel(), weights=truth.ravel())
    sizes = np.bincount(regions.ravel())
    return float(np.maximum(ones, sizes - ones).sum() / truth.size)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", METHODS)
def test_two_noisy_halves(name: str, channels: int, kind: type) -> None:
    image, truth = halves(kind, channels)
    method = METHODS[name]
    seeds = two_seeds() if method.seeds == "required" else None
    if name == "geodesic_contour":
        seeds = np.where(two_seeds() == 2, 1, 0)  # grows from a dot in the bright half
    labels = method(image, seeds, method.Config(**FOR_HALVES.get(name, {})))
    assert labels.dtype == np.int32 and labels.shape == truth.shape
    if method.labels == "classes":
        assert set(np.unique(labels)) == {0, 1}
        bound = 0.9 if name == "geodesic_contour" else 0.99  # it stops at the edge's foot
        assert iou(labels == 1, truth == 1) > bound and iou(labels == 0, truth == 0) > bound
    elif seeds is not None:
        assert iou(labels == 2, truth == 1) > 0.99 and iou(labels == 1, truth == 0) > 0.99
    else:
        assert purity(labels, truth) > 0.98
        assert labels.min() == 1
        assert len(np.unique(labels)) == labels.max() >= 2


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.seeds == "optional"])
def test_seeds_of_those_that_may_have_them(name: str) -> None:
    image, truth = halves()
    method = METHODS[name]
    if method.labels == "regions":
        labels = method(image, two_seeds(), None)
        assert iou(labels == 1, truth == 0) > 0.95 and iou(labels == 2, truth == 1) > 0.95
        return
    labels = method(image, np.where(two_seeds() == 2, 9, 0), None)
    if name != "geodesic_contour":
        assert iou(labels == 1, truth == 1) > 0.99


@pytest.mark.parametrize("name", METHODS)
def test_the_same_again_and_the_picture_is_left_alone(name: str) -> None:
    image, _ = halves()
    seeds = seeds_for(name, two_seeds())
    kept, kept_seeds = image.copy(), None if seeds is None else seeds.copy()
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    first = METHODS[name](image, seeds)
    np.random.default_rng(1).random(10)
    np.testing.assert_array_equal(METHODS[name](image, seeds), first)
    np.testing.assert_array_equal(image, kept)
    assert seeds is None or np.array_equal(seeds, kept_seeds)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0, 1, 0.3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (2, 2), (9, 12)])
@pytest.mark.parametrize("name", METHODS)
def test_pictures_of_one_colour_and_of_one_pixel(name: str, size: tuple[int, int], value: float) -> None:
    method = METHODS[name]
    seeds = np.zeros(size, np.int32)
    seeds[0, 0], seeds[-1, -1] = 5, 3
    for image in (np.full((*size, 3), value, np.float32), np.full(size, round(value * 255), np.uint8)):
        labels = method(image, seeds_for(name, seeds))
        assert labels.shape == size and labels.dtype == np.int32
        if method.seeds == "required":
            assert set(np.unique(labels)) <= {3, 5}
            assert labels[-1, -1] == 3
        elif method.labels == "regions" and name != "slic":
            assert (labels == 1).all()
        elif name not in ("slic", "geodesic_contour"):
            assert (labels == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (2, 3)])
@pytest.mark.parametrize("name", METHODS)
def test_thin_pictures_of_noise(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*size, 3))
    seeds = np.zeros(size, np.int32)
    seeds[0, 0], seeds[-1, -1] = 1, 2
    labels = METHODS[name](image, seeds_for(name, seeds))
    assert labels.shape == size and labels.min() >= 0
    if METHODS[name].seeds == "optional":
        assert METHODS[name](image, seeds).shape == size


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((8, 8), np.nan), "NaN"),
        (np.array([[1, np.inf]]), "infinite"),
        (np.zeros((0, 8)), "shape"),
        (np.zeros(8), "shape"),
        (np.zeros((2, 8, 8, 3)), "shape"),
        (np.zeros((8, 8), np.complex64), "complex64"),
        (np.full((8, 8), "x"), "numbers"),
    ],
)
def test_what_is_no_picture_is_refused(name: str, image: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        METHODS[name](image, None if METHODS[name].seeds == "none" else np.ones((8, 8), int))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.seeds != "none"])
@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (np.ones((8, 9), int), "the seeds are 8 x 9, but their picture is 8 x 8"),
        (np.zeros((8, 8), int), "nothing to grow from"),
        (np.full((8, 8), -1), "-1..-1"),
        (np.full((8, 8), 0.5), "whole numbers"),
        (np.full((8, 8), np.nan), "whole numbers"),
    ],
)
def test_seeds_that_are_none_are_refused(name: str, seeds: np.ndarray, words: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with pytest.raises(DataError, match=words):
        METHODS[name](image, seeds)


@pytest.mark.parametrize("name", METHODS)
def test_no_seeds_and_useless_seeds_are_refused_in_words(name: str) -> None:
    image = np.zeros((8, 8), np.uint8)
    if METHODS[name].needs_seeds:
        with pytest.raises(UsageError, match=f"{name} grows from seeds, and none are given"):
            METHODS[name](image)
    elif METHODS[name].seeds == "none":
        with pytest.raises(UsageError, match=f"{name} takes no seeds"):
            METHODS[name](image, np.ones((8, 8), int))


def disks(centres: list[tuple[int, int]], radius: float = 11) -> np.ndarray:
    y, x = np.mgrid[:64, :96]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres], axis=0)


@pytest.mark.parametrize("objects", ["bright", "dark"])
def test_watershed_counts_touching_disks(objects: str) -> None:
    centres = [(20, 14), (20, 34), (32, 50), (48, 80)]  # three in a chain touch, one is alone
    inside = disks(centres)
    values = np.where(inside == (objects == "bright"), 0.8, 0.2) + np.random.default_rng(0).normal(
        0, 0.03, inside.shape
    )
    labels = watershed(values, config=WatershedConfig(surface="distance", objects=objects))  # type: ignore[arg-type]
    assert labels.max() == 4
    assert len({labels[centre] for centre in centres} - {0}) == 4
    assert iou(labels > 0, inside) > 0.97
    lined = watershed(values, config=WatershedConfig(surface="distance", objects=objects, lines=True))  # type: ignore[arg-type]
    assert 0 < ((labels > 0) & (lined == 0)).sum() < 60


@pytest.mark.parametrize("surface", ["sobel", "canny"])
def test_watershed_of_edges_finds_the_disks(surface: str) -> None:
    centres = [(20, 20), (44, 50), (20, 75)]
    image = np.where(disks(centres), 0.8, 0.2) + np.random.default_rng(0).normal(0, 0.02, (64, 96))
    depth = {"sobel": 0.3, "canny": 0.1}[surface]
    labels = watershed(image, config=WatershedConfig(surface=surface, depth=depth))  # type: ignore[arg-type]
    assert purity(labels, disks(centres)) > 0.97
    own = {int(labels[centre]) for centre in centres}
    assert len(own) == 3 and labels[0, 0] not in own
    if surface == "sobel":
        assert labels.max() == 4


def test_gradient_of_a_ramp_is_its_slope() -> None:
    ramp = np.tile(np.arange(20) * 0.04, (10, 1))
    np.testing.assert_allclose(gradient(ramp)[2:-2, 2:-2], 0.04, rtol=1e-9)
    assert gradient(np.full((5, 5), 0.5)).max() == 0


def test_thresholds_do_not_depend_on_scale_or_kind() -> None:
    image, _ = halves(np.uint8, 1)
    for other in (image.astype(np.float64) * 1000 - 7000, image.astype(np.int32), image.astype(np.uint16) * 257):
        np.testing.assert_array_equal(otsu(other), otsu(image))


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_multi_otsu_finds_steps_and_copes_with_fewer_values(classes: int) -> None:
    truth = np.repeat(np.arange(classes), 12)[None].repeat(10, axis=0)
    noisy = truth / classes + np.random.default_rng(0).normal(0, 0.015, truth.shape)
    config = MultiOtsuConfig(classes=classes)
    np.testing.assert_array_equal(multi_otsu(noisy, config), truth)
    np.testing.assert_array_equal(multi_otsu(np.array([[7, 7, 200]], np.uint8), config), [[0, 0, 1]])


def test_dark_objects_are_the_other_side() -> None:
    image, truth = halves()
    np.testing.assert_array_equal(otsu(image, OtsuConfig(objects="dark")), 1 - otsu(image))
    found = METHODS["chan_vese"](image, None, ChanVeseConfig(objects="dark"))
    assert iou(found == 1, truth == 0) > 0.99


@pytest.mark.parametrize("rule", ["gaussian", "mean", "median", "sauvola"])
def test_local_threshold_sees_past_uneven_light(rule: str) -> None:
    spots = np.zeros((60, 90), bool)
    spots[8::15, 8::15] = True
    spots = np.pad(spots, 1)[:-2, :-2] | spots | np.pad(spots, 1)[2:, 2:]
    light = np.linspace(0.1, 0.7, 90)[None] + np.zeros((60, 1))
    config = LocalThresholdConfig(window=15, rule=rule, offset=0.08)  # type: ignore[arg-type]
    if rule == "sauvola":  # of dark ink on paper
        image = light + 0.2 - 0.2 * spots
        config = LocalThresholdConfig(window=15, rule="sauvola", objects="dark", sauvola_k=0.1)
    else:
        image = light + 0.2 * spots
    assert iou(local_threshold(image, config) == 1, spots) > 0.95
    assert iou(otsu(image) == 1, spots) < 0.2
    with pytest.raises(UsageError, match="odd"):
        local_threshold(image, LocalThresholdConfig(window=14))


def test_k_means_finds_colours_numbered_by_brightness() -> None:
    colours = np.array([[20, 30, 60], [200, 20, 20], [30, 180, 40], [240, 240, 200]])
    truth = np.random.default_rng(0).integers(0, 4, (12, 16)).repeat(5, 0).repeat(5, 1)
    image = (colours[truth] + np.random.default_rng(1).normal(0, 5, (60, 80, 3))).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(k_means(image, KMeansConfig(clusters=4, smooth=0)), truth)
    np.testing.assert_array_equal(k_means(image, KMeansConfig(clusters=4, smooth=0, sample=500, seed=3)), truth)
    assert k_means(image, KMeansConfig(clusters=1)).max() == 0


def test_k_means_with_more_clusters_than_colours() -> None:
    image = np.array([[0, 0, 9], [5, 9, 9]], np.uint8)
    np.testing.assert_array_equal(k_means(image, KMeansConfig(clusters=7, smooth=0)), [[0, 0, 2], [1, 2, 2]])


def test_k_means_by_place_gives_compact_clusters() -> None:
    labels = k_means(np.zeros((20, 40), np.uint8), KMeansConfig(clusters=2, place=1.0))
    assert abs((labels == 0).mean() - 0.5) < 0.05
    assert np.ptp(labels, axis=0).max() == 0  # it is the longer side that is divided


def test_region_growing_stops_where_colours_differ_by_more_than_the_tolerance() -> None:
    image = np.array([[0, 5, 10, 15, 60, 65, 70]], np.uint8)
    seeds = np.array([[0, 1, 0, 0, 0, 0, 0]])
    plain = RegionGrowingConfig(smooth=0, tolerance=6 / 255)
    np.testing.assert_array_equal(region_growing(image, seeds, plain), [[1, 1, 1, 1, 0, 0, 0]])
    by_seed = RegionGrowingConfig(smooth=0, tolerance=6 / 255, compare="seeds")
    np.testing.assert_array_equal(region_growing(image, seeds, by_seed), [[1, 1, 1, 0, 0, 0, 0]])
    zones = RegionGrowingConfig(smooth=0, tolerance=6 / 255, smallest=3)
    np.testing.assert_array_equal(region_growing(image, None, zones), [[1, 1, 1, 1, 2, 2, 2]])
    large = RegionGrowingConfig(smooth=0, tolerance=6 / 255, smallest=4)
    np.testing.assert_array_equal(region_growing(image, None, large), [[1] * 7])
    bare = RegionGrowingConfig(smooth=0, tolerance=6 / 255, smallest=4, fill=False)
    np.testing.assert_array_equal(region_growing(image, None, bare), [[1, 1, 1, 1, 0, 0, 0]])


def test_region_growing_reaches_only_what_is_connected() -> None:
    image = np.array([[1, 1, 9, 1, 1]], np.uint8)
    seeds = np.array([[4, 0, 0, 0, 0]])
    for compare in ("neighbour", "seeds"):
        config = RegionGrowingConfig(smooth=0, tolerance=0.001, compare=compare)  # type: ignore[arg-type]
        np.testing.assert_array_equal(region_growing(image, seeds, config), [[4, 4, 0, 0, 0]])


def test_slic_gives_about_as_many_as_asked() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert 20 <= slic(image, SlicConfig(regions=30, compactness=100)).max() <= 40


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_small_picture_has_labels(height: int, width: int, channels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = (random.random((height, width, channels)) * random.choice([1, 255, 1e5])).astype(
        random.choice(["f4", "f8", "u1", "u2", "i4"])
    )
    seeds = random.integers(0, 3, (height, width))
    seeds[0, 0] = 1
    for name, method in METHODS.items():
        labels = method(image, seeds_for(name, seeds))
        assert labels.shape == (height, width) and labels.min() >= 0, name
        if method.seeds == "required":
            assert np.array_equal(labels[seeds > 0], seeds[seeds > 0]), name


def test_the_room_does_not_load_torch_nor_scikit_image() -> None:
    code = "import sys, intarsia.classical; sys.exit(bool({'torch', 'skimage'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
