"""Clusters of features: pictures whose regions are known, networks of every kind, and maps that the eye can check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from intarsia.errors import DataError, UsageError
from intarsia.inference.clustering import (
    ColourFeatures,
    NetworkFeatures,
    absorbed,
    by_size,
    connected,
    fit_clusters,
    labels_at,
    reduced,
    regions_of,
    sampled,
)
from intarsia.metrics.regions import covering
from intarsia.models import build
from intarsia.models.combined.wnet import WNetConfig
from intarsia.models.generative.autoencoder import AutoencoderConfig
from intarsia.models.generative.gan import GANConfig
from intarsia.models.generative.vae import VAEConfig
from intarsia.models.generative.vqvae import VQVAEConfig
from intarsia.models.semantic import FCNConfig, SegNetConfig, UNetConfig
from intarsia.records import IGNORE

maps = arrays(np.int16, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-1, 3))


def thirds() -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat(np.arange(3), 16)[None].repeat(32, axis=0)
    colours = np.array([[220, 60, 50], [60, 190, 70], [50, 70, 230]])
    noise = np.random.default_rng(0).normal(0, 6, (32, 48, 3))
    return (colours[truth] + noise).clip(0, 255).astype(np.uint8), truth


def test_three_colours_are_three_regions() -> None:
    image, truth = thirds()
    found = regions_of(image, ColourFeatures(place=0.0, texture=0.0), 3)
    assert covering(truth, found) > 0.95
    np.testing.assert_array_equal(found, regions_of(image, ColourFeatures(place=0.0, texture=0.0), 3))


def test_texture_tells_apart_what_has_the_same_colour() -> None:
    picture = np.full((48, 48, 1), 128, np.uint8)
    picture[:, 24:] += (40 * (np.indices((48, 24)).sum(0) % 2) - 20).astype(np.int16).astype(np.uint8)[..., None]
    truth = np.repeat([[0, 1]], 24, axis=1).repeat(48, axis=0)
    found = regions_of(picture, ColourFeatures(1, colour=0.1, place=0.0, texture=1.0), 2)
    assert covering(truth, found) > 0.8


def test_place_alone_cuts_a_blank_picture() -> None:
    found = regions_of(np.zeros((20, 60, 3), np.uint8), ColourFeatures(place=1.0), 3)
    assert len(np.unique(found)) == 3 and len(np.unique(connected(found))) == 3


def test_a_blank_picture_without_place_is_one_region() -> None:
    assert not regions_of(np.zeros((20, 30, 3), np.uint8), ColourFeatures(place=0.0), 5).any()


def test_no_kind_of_feature_outweighs_another_by_its_scale() -> None:
    random = np.random.default_rng(0)
    samples = random.normal(size=(500, 5)).astype(np.float32)
    other = samples * np.array([1000, 1000, 1, 1, 1], np.float32) + 50
    groups = ((2, 1.0), (3, 0.5))
    first, second = (fit_clusters(each, groups, 4) for each in (samples, other))
    for values, clusters in ((samples, first), (other, second)):
        scaled = (values - clusters.mean) @ clusters.basis
        assert np.square(scaled).mean(axis=0).sum() == pytest.approx(1.5, rel=1e-3)
    both = (first.regions(samples.reshape(20, 25, 5), (20, 25)), second.regions(other.reshape(20, 25, 5), (20, 25)))
    assert (both[0] == both[1]).mean() > 0.98


def test_the_largest_cluster_comes_first_and_there_are_no_more_than_points() -> None:
    points = np.array([[0.0], [0.0], [0.0], [5.0], [5.0], [9.0]], np.float32)
    clusters = fit_clusters(points, ((1, 1.0),), 10)
    assert len(clusters.centres) == 3
    assert clusters.regions(points.reshape(1, 6, 1), (1, 6)).tolist() == [[0, 0, 0, 1, 1, 2]]
    with pytest.raises(UsageError, match="0 clusters"):
        fit_clusters(points, ((1, 1.0),), 0)
    with pytest.raises(DataError, match="no pixel"):
        fit_clusters(points[:0], ((1, 1.0),), 2)


CODES: dict[str, Any] = {"blocks": 0, "latent": 2, "codes": 8, "quantizers": 2, "prior_width": 8, "prior_blocks": 0}
WITH_PLACES: dict[str, Any] = {
    "unet": UNetConfig(width=4, depth=2),
    "fcn": FCNConfig(encoder="tiny"),
    "wnet": WNetConfig(segmenter=UNetConfig(width=4, depth=2)),
    "autoencoder": AutoencoderConfig(size=(16, 16), width=4),
    "vqvae": VQVAEConfig(size=(16, 16), width=4, **CODES),
}


@pytest.mark.parametrize("case", WITH_PLACES)
@pytest.mark.parametrize("size", [(37, 50), (16, 16), (5, 8)])
def test_features_of_every_network_with_places(case: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features = NetworkFeatures(build(WITH_PLACES[case]), "cpu")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    values = features(image)
    assert values.shape == (-(-size[0] // 4), -(-size[1] // 4), sum(number for number, _ in features.groups))
    assert np.isfinite(values).all()
    assert regions_of(image, features, 3).shape == size


def test_large_pictures_are_reduced_first() -> None:
    features = NetworkFeatures(build(UNetConfig(width=4, depth=2)), "cpu", side=32)
    assert features(np.zeros((100, 200, 3), np.uint8)).shape[:2] == (4, 8)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SegNetConfig(width=4), "without an encoder"),
        (WNetConfig(segmenter=SegNetConfig(width=4)), "model.segmenter.name"),
        (GANConfig(size=(16, 16), width=4, latent=4), "without a latent"),
        (VAEConfig(size=(16, 16), width=4, latent=4, features=8), "knows no places"),
    ],
)
def test_networks_without_places_are_refused(config: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        NetworkFeatures(build(config), "cpu")


def test_pieces_that_hang_together() -> None:
    regions = np.array([[0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1], [0, 1, 1, 0]])
    expected = [[0, 0, 1, 1], [2, 0, 0, 1], [2, 2, 0, 1], [3, 2, 2, 4]]  # corners do not join
    assert connected(regions).tolist() == expected


@given(maps)
@settings(max_examples=50, deadline=None)
def test_scipy_finds_the_same_pieces(regions: np.ndarray) -> None:
    found = connected(regions)
    expected = sum(label(regions == value)[1] for value in np.unique(regions[regions != IGNORE]))
    assert len(np.unique(found[found != IGNORE])) == expected
    np.testing.assert_array_equal(found == IGNORE, regions == IGNORE)
    for piece in np.unique(found[found != IGNORE]):
        assert len(np.unique(regions[found == piece])) == 1


def test_small_pieces_go_to_the_nearest() -> None:
    regions = np.array([[0, 0, 0, 1, 1, 1], [0, 2, 0, 1, 3, 1], [0, 0, 0, 1, 1, 1]])
    assert absorbed(regions, 2).tolist() == [[0, 0, 0, 1, 1, 1]] * 3
    assert absorbed(regions, 0) is regions
    assert len(np.unique(absorbed(regions, 100))) == 1, "the largest piece stays whatever its size"


@given(maps, st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_what_is_absorbed_leaves_no_small_piece_and_no_hole(regions: np.ndarray, smallest: int) -> None:
    found = absorbed(regions, smallest)
    np.testing.assert_array_equal(found == IGNORE, regions == IGNORE)
    assert set(np.unique(found)) <= set(np.unique(regions))


def test_regions_by_size() -> None:
    assert by_size(np.array([[9, 9, 4], [IGNORE, 4, 4]])).tolist() == [[1, 1, 0], [IGNORE, 0, 0]]


def test_the_highest_plane_between_its_places() -> None:
    planes = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    assert labels_at(planes, (1, 2)).tolist() == [[0, 1]]
    assert labels_at(planes, (2, 8)).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_samples_are_drawn_once_each() -> None:
    features = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
    drawn = sampled(features, 10, seed=3)
    assert drawn.shape == (10, 1) and len(np.unique(drawn)) == 10
    np.testing.assert_array_equal(drawn, sampled(features, 10, seed=3))
    assert sampled(features, 99, seed=3).shape == (24, 1)


def test_reducing_keeps_the_mean_and_the_channels() -> None:
    picture = np.random.default_rng(0).random((40, 80, 5), np.float32)
    small = reduced(picture, 20)
    assert small.shape == (10, 20, 5) and reduced(picture, 80) is picture
    np.testing.assert_allclose(small.mean((0, 1)), picture.mean((0, 1)), rtol=1e-4)
