"""Batches that depend on the seed and their number, and on nothing else."""

import threading
import time
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from intarsia.data.augment import AugmentConfig, augment
from intarsia.data.batches import (
    Cached,
    Stream,
    batches,
    changes_nothing,
    collate,
    make_batch,
    permutation,
    to_tensor,
)
from intarsia.data.scenes import SceneConfig, draw_scenes
from intarsia.data.stack import Stack
from intarsia.records import IGNORE, Batch, Sample

CONFIG = AugmentConfig(crop=(16, 24), rotate=20.0, rare_crops=0.3, mix="cutmix")


class Counting:
    """Samples that count how often each is read."""

    def __init__(self, count: int, size: tuple[int, int] = (20, 30), seconds: float = 0.0) -> None:
        self.count, self.size, self.seconds = count, size, seconds
        self.reads: Counter[int] = Counter()
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        with self.lock:
            self.reads[index] += 1
        time.sleep(self.seconds)
        generator = np.random.default_rng(index)
        image = generator.integers(0, 256, (*self.size, 3), np.uint8)
        return Sample(str(index), image, generator.integers(-1, 3, self.size).astype(np.int16))


def first(count: int, **options: Any) -> list[Batch]:
    stream = batches(options.pop("samples", Counting(7)), CONFIG, 3, seed=4, **options)
    try:
        return list(islice(stream, count))
    finally:
        stream.close()  # type: ignore[attr-defined]


def same(one: Batch, other: Batch) -> bool:
    assert one.masks is not None and other.masks is not None
    return one.names == other.names and torch.equal(one.images, other.images) and torch.equal(one.masks, other.masks)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_batches_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    expected = first(8, workers=0)
    assert all(same(a, b) for a, b in zip(first(8, workers=workers), expected, strict=True))
    cached = first(8, workers=workers, samples=Cached(Counting(7)))
    assert all(same(a, b) for a, b in zip(cached, expected, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 3, 7])
def test_going_on_from_any_batch_gives_what_would_have_come(start: int, workers: int) -> None:
    expected = first(9, workers=0)[start:]
    assert all(same(a, b) for a, b in zip(first(9 - start, start=start, workers=workers), expected, strict=True))


def test_every_sample_once_an_epoch_in_an_order_of_its_own() -> None:
    names = [name for batch in first(14, workers=0) for name in batch.names]  # 42 samples: six epochs of seven
    epochs = [names[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(epoch) == [str(i) for i in range(7)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_sample_looks_different_in_each_epoch() -> None:
    found = [b.images[b.names.index("0")] for b in first(14, workers=0) if "0" in b.names]
    assert len(found) >= 5
    assert not any(torch.equal(found[0], other) for other in found[1:])


def test_another_seed_gives_other_batches() -> None:
    assert [*permutation(30, 1, 0)] != [*permutation(30, 2, 0)]
    assert [*permutation(30, 1, 0)] != [*permutation(30, 1, 1)]


def test_an_error_of_a_worker_arrives() -> None:
    class Broken(Counting):
        def __getitem__(self, index: int) -> Sample:
            raise ValueError("the disk is gone")

    for workers in (0, 2):
        with pytest.raises(ValueError, match="the disk is gone"):
            first(1, samples=Broken(4), workers=workers)


def test_cached_reads_each_sample_once() -> None:
    samples = Counting(5)
    cached = Cached(samples)
    for _ in range(3):
        assert [cached[i].name for i in range(len(cached))] == ["0", "1", "2", "3", "4"]
    assert samples.reads == dict.fromkeys(range(5), 1)


def test_cached_keeps_no_more_than_fits() -> None:
    samples = Counting(5)
    each = 20 * 30 * (3 + 2)  # picture and mask, in bytes
    cached = Cached(samples, megabytes=2.5 * each / 1e6)
    for _ in range(2):
        for i in range(5):
            _ = cached[i]
    assert sorted(samples.reads.values()) == [1, 1, 2, 2, 2]
    nothing = Counting(2)
    unkept = Cached(nothing, megabytes=0)
    _ = unkept[0], unkept[0]
    assert nothing.reads[0] == 2


def test_threads_that_read_the_same_sample_count_it_once() -> None:
    samples = Counting(1, seconds=0.05)
    cached = Cached(samples, megabytes=1)
    threads = [threading.Thread(target=cached.__getitem__, args=(0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cached.left == 1e6 - 20 * 30 * 5


def test_pictures_become_tensors_in_the_unit_interval() -> None:
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        image = np.array([[[0, top], [top, 0], [top, top]]], dtype)  # (1, 3, 2)
        tensor = to_tensor(Sample("a", image))
        assert tensor.dtype == torch.float32
        assert tensor.tolist() == [[[0, 1, 1]], [[1, 0, 1]]]


def test_samples_without_a_mask_get_one_of_ignore() -> None:
    image, mask = np.zeros((4, 6, 1), np.uint8), np.ones((4, 6), np.int16)
    batch = collate([Sample("known", image, mask), Sample("unknown", image)])
    assert batch.masks is not None and batch.labelled is not None and batch.labels is None
    assert batch.masks.dtype == torch.int64
    assert batch.masks[0].eq(1).all() and batch.masks[1].eq(IGNORE).all()
    assert batch.labelled.tolist() == [True, False]
    assert batch.names == ("known", "unknown")


def test_overlapping_labels_are_stacked() -> None:
    image = np.zeros((4, 6, 1), np.uint8)
    labels = np.random.default_rng(0).integers(-1, 2, (3, 4, 6)).astype(np.int8)
    batch = collate([Sample("unknown", image), Sample("known", image, labels=labels)])
    assert batch.masks is None and batch.labels is not None and batch.labelled is not None
    assert batch.labels.dtype == torch.float32
    assert batch.labels[0].eq(IGNORE).all()
    assert torch.equal(batch.labels[1], torch.from_numpy(labels).float())
    assert batch.labelled.tolist() == [False, True]


def test_the_memory_format_is_as_asked_for() -> None:
    batch = first(1, workers=0)[0]
    assert batch.images.shape == (3, 3, 16, 24)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_pictures_that_nothing_changes_skip_the_augmentation_and_are_what_it_would_give() -> None:
    off = dict.fromkeys(
        ("flip_horizontal", "brightness", "contrast", "saturation", "hue", "gamma", "blur", "noise"), 0.0
    )
    still = AugmentConfig(crop=(20, 30), scale=(1.0, 1.0), **off)  # type: ignore[arg-type]
    samples = Counting(5)
    batch = make_batch(samples, still, 4, seed=1, number=0)
    order = permutation(5, 1, 0)[:4].tolist()
    expected = collate([augment(samples[i], still, np.random.default_rng((1, 0, i))) for i in order])
    assert same(batch, expected)
    assert batch.names == tuple(map(str, order))


@pytest.mark.parametrize(
    "change",
    [{"flip_vertical": 0.5}, {"scale": (0.9, 1.0)}, {"tint": 0.1}, {"cutout": 0.1}, {"rotate": 1.0}, {"shadow": 0.1}],
)
def test_any_change_is_noticed(change: dict[str, Any]) -> None:
    off = {name: 0.0 for name, value in AugmentConfig() if isinstance(value, float)}
    still = AugmentConfig(**{**off, "scale": (1.0, 1.0)})  # type: ignore[arg-type]
    assert changes_nothing(still)
    assert not changes_nothing(still.model_copy(update=change))


def test_pictures_of_several_types_make_one_batch() -> None:
    one, other = np.full((4, 6, 3), 255, np.uint8), np.full((4, 6, 3), 65535, np.uint16)
    batch = collate([Sample("a", one), Sample("b", other)], torch.channels_last)
    assert batch.images.shape == (2, 3, 4, 6) and batch.images.eq(1).all()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("classes", [None, np.array([2, 0, -5, 1, 0, 2, 1])])
def test_a_stack_goes_into_batches_at_once_and_they_are_the_same(classes: np.ndarray | None) -> None:
    off = {name: 0.0 for name, value in AugmentConfig() if isinstance(value, float)}
    still = AugmentConfig(**{**off, "crop": (6, 8), "scale": (1.0, 1.0)})  # type: ignore[arg-type]
    images = np.random.default_rng(0).integers(0, 256, (7, 6, 8, 3), np.uint8)
    stack = Stack(images, classes, np.array([6, 0, 3, 2, 5]))
    for samples in (stack, Cached(stack)):
        for number in range(4):  # over the border of an epoch
            batch = make_batch(samples, still, 3, 1, number)
            indices = [int(permutation(5, 1, place // 5)[place % 5]) for place in range(3 * number, 3 * number + 3)]
            expected = collate([stack[index] for index in indices], torch.channels_last)
            assert same(batch, expected)
            assert batch.categories is not None and batch.labelled is not None
            assert torch.equal(batch.categories, expected.categories)  # type: ignore[arg-type]
            assert torch.equal(batch.labelled, expected.labelled)  # type: ignore[arg-type]
            assert batch.images.stride() == expected.images.stride()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    batch.images.zero_()
    assert stack.images.any()  # the batch is a copy


def _scene_pair() -> tuple[list[Sample], list[Sample]]:
    scenes = list(draw_scenes(SceneConfig(height=32, width=32), 7))
    return scenes[:3], [scene.without_labels() for scene in scenes]


def test_streams_join_each_batch_in_order_and_from_any_position() -> None:
    labelled, bare = _scene_pair()
    config = AugmentConfig(crop=(24, 24))
    streams = (Stream(labelled, 2, config), Stream(bare, 3, config.geometry()))
    whole = batches(labelled, config, 4, seed=5, workers=0, beside=streams)
    first = [next(whole) for _ in range(6)]
    again = batches(labelled, config, 4, seed=5, start=4, workers=1, beside=streams)
    for wanted, got in zip(first[4:], again, strict=False):
        assert torch.equal(wanted.images, got.images) and wanted.names == got.names
    again.close()
    for batch in first:
        assert batch.labelled is not None and batch.masks is not None
        assert batch.labelled.tolist() == [True] * 6 + [False] * 3
        assert (batch.masks[6:] == IGNORE).all()
    names = [name for batch in first for name in batch.names[6:]]
    assert {names[:14].count(name) for name in names} == {2}  # two whole epochs of seven in its own order
    alone = batches(labelled, config, 4, seed=5)
    assert [batch.names[:4] for batch in first] == [next(alone).names for _ in first]
    alone.close()


def test_unlabelled_pictures_beside_overlapping_classes_know_how_many_there_are() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    labelled = [Sample("a", image, labels=np.ones((4, 8, 8), np.int8))]
    config = AugmentConfig(crop=(8, 8))
    batch = make_batch(labelled, config, 1, 0, 0, beside=(Stream([Sample("b", image)], 2, config),))
    assert batch.labels is not None and batch.labels.shape == (3, 4, 8, 8)
    assert (batch.labels[1:] == IGNORE).all()


def test_a_teachers_picture_keeps_its_light_and_colour() -> None:
    config = AugmentConfig(crop=(32, 32), scale=(1, 1), noise=1.0, blur=1.0, mix="cutmix", cutout=1.0)
    scene = next(draw_scenes(SceneConfig(height=32, width=32), 1))
    values = set(map(tuple, scene.image.reshape(-1, 3).tolist()))
    crop = augment(scene, config.geometry(), np.random.default_rng(0))
    assert set(map(tuple, crop.image.reshape(-1, 3).tolist())) == values
    assert config.geometry().mix == "none" and config.geometry().crop == config.crop
