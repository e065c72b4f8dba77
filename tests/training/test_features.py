"""Features that are learnt from the user's own pictures, kept in the run's folder, and named."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from intarsia.data.stack import Stack
from intarsia.errors import DataError, UsageError
from intarsia.metrics.feature_distance import frechet_distance
from intarsia.training import features as module
from intarsia.training.features import (
    InceptionFeatures,
    LearntFeatures,
    PixelFeatures,
    extractor_of,
    learn,
    shrunk,
    within,
)

SIZE = (16, 16)


def blobs(count: int, seed: int = 0, classes: int = 3, told: bool = True, channels: int = 1) -> Stack:
    """Bright squares on dark noise: of class 0 small, of class 1 large, of class 2 two of them; anywhere."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 40, (count, *SIZE, channels)).astype(np.uint8)
    categories = np.arange(count) % classes
    for image, category in zip(images, categories, strict=True):
        for _ in range(2 if category == 2 else 1):
            y, x = random.integers(0, 9, 2)
            side = 7 if category == 1 else 3
            image[y : y + side, x : x + side] = 220
    return Stack(images, categories if told else None)


def tensor(samples: Stack) -> torch.Tensor:
    return torch.from_numpy(samples.images).movedim(-1, 1).float() / 255


@pytest.fixture(scope="module")
def classifier() -> LearntFeatures:
    found = learn(blobs(300), channels=1, size=SIZE, classes=("small", "large"), steps=50)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def autoencoder() -> LearntFeatures:
    found = learn(blobs(300, told=False), channels=1, size=SIZE, steps=20)
    assert found is not None
    return found


def test_pictures_with_classes_get_a_classifier_that_tells_them_apart(classifier: LearntFeatures) -> None:
    new = blobs(150, seed=1)
    features, probabilities = classifier.of(tensor(new))
    assert probabilities is not None and features.shape == (150, classifier.dimension)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == new.categories).mean() > 0.8
    assert classifier.classes == ("small", "large", "2")
    assert abs(classifier.accuracy - (probabilities.argmax(axis=1) == new.categories).mean()) < 0.1
    assert "classifier of these pictures" in classifier.name and "30 others" in classifier.name


def test_pictures_without_classes_get_an_autoencoder(autoencoder: LearntFeatures) -> None:
    assert autoencoder.probabilities(tensor(blobs(4))) is None and autoencoder.classes == ()
    assert "autoencoder" in autoencoder.name and math.isnan(autoencoder.accuracy)
    assert autoencoder(tensor(blobs(4))).shape == (4, autoencoder.dimension)


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_in_its_features_other_pictures_are_farther_than_pictures_alike(
    kind: str, classifier: LearntFeatures, autoencoder: LearntFeatures
) -> None:
    extractor = {"classifier": classifier, "autoencoder": autoencoder}[kind]
    real, alike = blobs(200, 2), blobs(200, 3)
    one_class = Stack(np.concatenate([blobs(600, 4).images[::3]]))
    points = [extractor.of(tensor(each))[0] for each in (real, alike, one_class)]
    assert frechet_distance(points[0], points[2]) > 3 * frechet_distance(points[0], points[1])


def test_neither_the_name_fid_nor_a_network_from_elsewhere(classifier: LearntFeatures) -> None:
    assert classifier.frechet == "frechet_distance" and InceptionFeatures.frechet == "fid"
    assert PixelFeatures(1, SIZE).frechet == "frechet_distance"


def test_learning_is_the_same_for_the_same_seed_and_leaves_chance_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = learn(blobs(40), channels=1, size=SIZE, steps=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    again, other = (learn(blobs(40), channels=1, size=SIZE, steps=3, seed=seed) for seed in (0, 1))
    assert one is not None and again is not None and other is not None
    images = tensor(blobs(5))
    assert torch.equal(one(images), again(images)) and not torch.equal(one(images), other(images))


def test_features_are_kept_and_read_without_running_anything(classifier: LearntFeatures, tmp_path: Path) -> None:
    path = classifier.save(tmp_path / "features.safetensors")
    again = LearntFeatures.load(path)
    images = tensor(blobs(6))
    assert torch.equal(again(images), classifier(images)) and again.name == classifier.name
    assert again.config == classifier.config
    taken = extractor_of(blobs(10), channels=1, size=SIZE, path=path)
    assert taken is not None and torch.equal(taken(images), classifier(images))


def test_features_for_other_pictures_and_broken_files_are_learnt_anew(
    classifier: LearntFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST_STEPS", 2)
    path = tmp_path / "features.safetensors"
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(DataError, match="learnt anew"):
        LearntFeatures.load(path)
    few = blobs(12, told=False)
    assert extractor_of(few, channels=1, size=SIZE, path=path) is not None
    assert LearntFeatures.load(path).config.kind == "autoencoder"
    classifier.save(path)
    coloured = extractor_of(blobs(12, told=False, channels=3), channels=3, size=SIZE, path=path)
    assert coloured is not None and LearntFeatures.load(path).config.channels == 3


def test_a_stop_ends_learning_and_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    assert extractor_of(blobs(30), channels=1, size=SIZE, path=path, stop=lambda: True) is None
    assert not path.exists()


@pytest.mark.parametrize(("channels", "size"), [(1, (9, 30)), (5, (40, 33)), (3, (70, 50))])
@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_any_channels_and_size(kind: str, channels: int, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 2**16, (10, 24, 31, channels)).astype(np.uint16)  # of another size than asked for
    found = learn(Stack(images, np.arange(10) % 2), channels=channels, size=size, steps=2, kind=kind)  # type: ignore[arg-type]
    assert found is not None
    points = found(torch.rand(2, channels, *size))
    assert points.shape == (2, found.dimension) and points.isfinite().all()


def test_few_pictures_a_class_or_one_class_make_no_classifier() -> None:
    few = learn(blobs(9), channels=1, size=SIZE, steps=1)
    one = learn(blobs(30, classes=1), channels=1, size=SIZE, steps=1)
    assert few is not None and few.config.kind == one.config.kind == "autoencoder"  # type: ignore[union-attr]
    with pytest.raises(DataError, match="needs two"):
        learn(blobs(30, classes=1), channels=1, size=SIZE, steps=1, kind="classifier")
    with pytest.raises(DataError, match="no pictures"):
        learn(blobs(0), channels=1, size=SIZE)


def test_one_constant_picture_does_no_harm() -> None:
    found = learn(Stack(np.full((1, 8, 8, 1), 7, np.uint8)), channels=1, size=(8, 8), steps=3)
    assert found is not None and found(torch.zeros(1, 1, 8, 8)).isfinite().all()


def test_pictures_with_other_channels_are_refused(classifier: LearntFeatures) -> None:
    with pytest.raises(UsageError, match="1 channels"):
        classifier(torch.rand(1, 3, *SIZE))


def test_inception_without_its_weights_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights can't be had"):
        InceptionFeatures(weights=tmp_path / "missing.pth")


def test_shrinking_keeps_the_form_and_the_mean() -> None:
    assert within((100, 50), 32) == (32, 16) and within((20, 10), 32) == (20, 10) and within((1000, 10), 32) == (32, 8)
    images = torch.rand(2, 3, 64, 64)
    small = shrunk(images, (8, 8))
    torch.testing.assert_close(small.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=0.02, rtol=0)
    assert PixelFeatures(3, (64, 64))(images).shape == (2, 3 * 8 * 8)


def test_small_sets_are_learnt_from_in_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_STEPS", 1)
    monkeypatch.setattr(module, "VIEWS", 3)
    counted: list[int] = []

    def stop() -> bool:
        counted.append(1)
        return False

    learn(blobs(64, told=False), channels=1, size=SIZE, stop=stop)
    assert len(counted) == 3
