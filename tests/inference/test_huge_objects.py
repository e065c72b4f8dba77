"""Objects of huge pictures: windows change nothing, seams join what they cut, the table is that of the whole."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import hypothesis.strategies as st
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from object_models import Bright, Filtered, Numbers, object_classes, object_config, same_objects
from scipy.ndimage import gaussian_filter
from torch import Tensor

from intarsia.errors import DiskError, UsageError
from intarsia.grouping import by_ways
from intarsia.inference.huge_objects import answer_huge_objects, spans_of
from intarsia.inference.object_folder import predict_objects
from intarsia.inference.objects import ObjectPredictor
from intarsia.metrics.object_measurements import object_table
from intarsia.models.contract import InstanceModel
from intarsia.models.instance.instance_segnet import targets_of
from intarsia.records import Batch, Instances

SMALL = 10_000  # pixels beyond which a picture is huge in these tests
NOT_STREAMED = {"object", "perimeter", "solidity"}


def asked(kind: type[InstanceModel] = Bright, **options: object) -> ObjectPredictor:  # type: ignore[type-arg]
    return ObjectPredictor(kind(object_config()), object_classes(), device="cpu", **options)  # type: ignore[arg-type]


def blobs(height: int, width: int, seed: int = 0, sigma: float = 2.0) -> np.ndarray:
    """(H, W, 1) uint8: a smooth landscape, half of it bright."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), sigma)
    ranks = np.argsort(np.argsort(noise.ravel())).reshape(noise.shape)
    return (255 * ranks / max(noise.size - 1, 1)).astype(np.uint8)[..., None]


def answered(
    predictor: ObjectPredictor, picture: np.ndarray, folder: Path, side: int = 64, shared: int = 16, **options: bool
) -> tuple[np.ndarray, list[dict[str, str]]]:
    """The label image and the table."""
    files = {
        kind: folder / f"{kind}{'.csv' if kind == 'measurements' else '.tif'}" for kind in ("labels", "measurements")
    }
    count = answer_huge_objects(predictor, picture, files, folder / "state/it", side=side, shared=shared, **options)
    labels = tifffile.imread(files["labels"], level=0)
    assert labels.dtype == np.uint32 and labels.shape == picture.shape[:2]
    assert np.array_equal(np.unique(labels[labels > 0]), np.arange(1, count + 1)), "each number from 1 to N is there"
    assert not (folder / "state").exists()
    with files["measurements"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(number) for number in range(1, count + 1)]
    return labels, rows


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    side=st.integers(4, 40),
    share=st.sampled_from([0.1, 0.25, 0.5]),
    sigma=st.sampled_from([0.0, 1.0, 3.0]),
    tile=st.sampled_from([None, 16, 33]),
    seed=st.integers(0, 99),
)
def test_what_hangs_together_is_the_same_in_windows(
    size: tuple[int, int], side: int, share: float, sigma: float, tile: int | None, seed: int
) -> None:
    """Dots, and worms that are longer than many windows: strips of two pixels do, where each window is right."""
    picture = blobs(*size, seed, sigma)
    predictor = asked(tile=tile)
    whole = predictor.predict(picture).instances
    with TemporaryDirectory() as folder:
        labels, rows = answered(predictor, picture, Path(folder), side, max(2, int(side * share)))
    assert same_objects(labels, whole.label_image) and len(rows) == len(whole)


@settings(max_examples=12, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(24, 48), st.integers(0, 99))
def test_what_no_window_cuts_is_what_the_whole_picture_says(height: int, width: int, side: int, seed: int) -> None:
    """Touching squares of up to half a strip, told apart by a number, of two classes, detected or not by their size."""
    generator = np.random.default_rng(seed)
    shared = side // 2
    picture = np.zeros((height, width, 1), np.uint8)
    for number in range(1, 40):
        y, x = generator.integers(0, (height, width))
        high, wide = generator.integers(1, shared // 2 + 1, 2)
        picture[y : y + high, x : x + wide] = number
    predictor = ObjectPredictor(Numbers(object_config(classes=3)), object_classes(3), device="cpu")
    whole = predictor.predict(picture).instances
    with TemporaryDirectory() as folder:
        labels, rows = answered(predictor, picture, Path(folder), side, shared)
    assert same_objects(labels, whole.label_image)
    of_row = {int(row["id"]): row["class"] for row in rows}
    y, x = np.nonzero(labels)
    assert all(of_row[labels[at]] == f"kind {whole.mask[at]}" for at in zip(y, x, strict=True))


class Drawn(Bright):
    """What an Instance SegNet that knows all would say: its maps are the picture's channels."""

    candidates: ClassVar[Mapping[str, tuple[float, ...]]] = {"score": (0.3,)}

    def answers(self, images: Tensor) -> Sequence[np.ndarray]:
        inside, depth, border, *ways = images.numpy().transpose(1, 0, 2, 3)
        return list(np.stack([1 - inside, inside, depth, border, *(400 * (each - 0.5) for each in ways)], axis=1))

    def objects(self, answer: np.ndarray, thresholds: Mapping[str, float] | None = None) -> Instances:
        return by_ways(answer, {"foreground": 0.5, "core": 0.4, "ways": 1, "score": 0.3, "smallest": 10})


@pytest.mark.parametrize("largest", [12, 40])
def test_ways_to_centres_outside_of_a_window_mislead_nobody(largest: int, tmp_path: Path) -> None:
    """Disks that touch, no larger than half a strip, and larger ones than a strip. What a window sees of an object of
    which it does not see the centre, it takes for a part of another; at a seam, both windows know better."""
    generator, labels = np.random.default_rng(0), np.zeros((300, 350), np.int32)
    y, x = np.mgrid[:300, :350]
    for number in range(1, 400):
        disk = (y - generator.integers(0, 300)) ** 2 + (x - generator.integers(0, 350)) ** 2
        disk = disk <= generator.integers(5, largest + 1) ** 2
        if (labels[disk] == 0).mean() > 0.95:
            labels[disk & (labels == 0)] = number
    there = np.unique(labels[labels > 0], return_inverse=True)[1]
    labels[labels > 0] = there + 1
    objects, kinds = torch.from_numpy(labels)[None], (torch.ones(labels.max(), dtype=torch.int64),)
    planes = targets_of(Batch(torch.zeros(1, 5, 300, 350), objects=objects.long(), object_classes=kinds))[0].numpy()
    picture = np.stack([planes[0] > 0, planes[1], planes[2], planes[3] / 400 + 0.5, planes[4] / 400 + 0.5], axis=-1)
    predictor = ObjectPredictor(Drawn(object_config(channels=5)), object_classes(), device="cpu", tile=128)
    picture = picture.astype(np.float32)
    found, _ = answered(predictor, picture, tmp_path, side=128, shared=50)
    whole = predictor.predict(picture).instances
    assert len(whole) == labels.max() > 20 and same_objects(found, whole.label_image)


def test_an_object_over_five_windows_is_one_and_measured_as_one(tmp_path: Path) -> None:
    picture = np.full((60, 200, 1), 30, np.uint8)
    picture[20:26, 3:190] = 200
    picture[20:50, 100:104] = 210
    picture[2:5, 2:9] = 255
    predictor = asked()
    labels, rows = answered(predictor, picture, tmp_path, side=48, shared=8)
    assert (
        len(spans_of(200, 48, 8)) == 5
        and len(rows) == 2
        and same_objects(labels, predictor.predict(picture).instances.label_image)
    )
    whole = predictor.predict(picture).instances
    expected = object_table(picture, whole, predictor.classes)
    order = [whole.label_image[labels == number][0] - 1 for number in (1, 2)]
    assert set(expected) - set(rows[0]) == NOT_STREAMED
    for name in set(expected) - NOT_STREAMED:
        ours, theirs = [row[name] for row in rows], [expected[name][i] for i in order]
        if expected[name].dtype.kind in "fi":
            assert np.array(ours, float) == pytest.approx(np.array(theirs, float), rel=1e-5, abs=2e-3)
        else:
            assert ours == [str(each) for each in theirs]


def test_more_objects_than_16_bits_number(tmp_path: Path) -> None:
    picture = np.zeros((1100, 1000, 1), np.uint8)
    picture[1::4, 2::4] = picture[2::4, 2::4] = 255
    labels, rows = answered(asked(tile=512), picture, tmp_path, side=512, shared=32)
    assert len(rows) == 275 * 250 > 65535 and int(labels.max()) == len(rows)
    upper, lower = labels[1::4, 2::4], labels[2::4, 2::4]
    assert (
        np.array_equal(upper, lower)
        and len(np.unique(upper)) == len(rows)
        and np.count_nonzero(labels) == 2 * len(rows)
    )
    assert {row["area"] for row in rows} == {"2"}
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        assert file.is_bigtiff and [level.shape for level in file.series[0].levels][:2] == [(1100, 1000), (550, 500)]


def test_a_network_that_sees_its_neighbourhood_and_outlines(tmp_path: Path) -> None:
    picture = blobs(150, 130, sigma=3)
    predictor = asked(Filtered, tile=64, overlap=0.5)
    maps = predictor.answer(picture)
    assert isinstance(maps, np.ndarray)
    predictor.chosen = {"brightness": float(np.median(maps[0]))}
    files = {"labels": tmp_path / "a/labels.tif", "overlays": tmp_path / "b/overlays.tif"}
    count = answer_huge_objects(predictor, picture, files, tmp_path / "state/it", side=64, shared=16)
    whole = predictor.predict(picture)
    assert count == len(whole) > 3
    labels = tifffile.imread(files["labels"], level=0)
    assert same_objects(labels, whole.instances.label_image)
    drawn = tifffile.imread(files["overlays"], level=0)
    assert np.array_equal(drawn[labels == 0], np.repeat(picture, 3, axis=2)[labels == 0])
    assert len(np.unique(drawn[labels > 0], axis=0)) > count


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_more_than_eight_bits_and_nothing_found(dtype: type, tmp_path: Path) -> None:
    picture = (blobs(70, 80)[..., 0] * 0.001).astype(np.float32)[..., None]
    if dtype is np.uint16:
        picture = (picture * 65535).astype(np.uint16)
    files = {kind: tmp_path / f"{kind}.tif" for kind in ("labels", "overlays")}
    files["measurements"] = tmp_path / "a.csv"
    assert answer_huge_objects(asked(), picture, files, tmp_path / "state", side=32, shared=8) == 0
    assert (
        not tifffile.imread(files["labels"], level=0).any() and len(files["measurements"].read_text().splitlines()) == 1
    )
    assert np.ptp(tifffile.imread(files["overlays"], level=0)) == 255, "stretched as one"
    with pytest.raises(UsageError, match="share 2 to half"):
        answer_huge_objects(asked(), picture, files, tmp_path / "state", side=32, shared=17)


def test_a_folder_with_huge_pictures_among_others(tmp_path: Path) -> None:
    picture = blobs(300, 280, sigma=4)[..., 0]
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/large.tif", picture, tile=(64, 64), compression="zlib")
    tifffile.imwrite(tmp_path / "in/small.tif", picture[:90, :90])
    predictor, out = asked(), tmp_path / "out"
    summary = predict_objects(predictor, [tmp_path / "in"], out, huge=SMALL, overlay=True)
    assert (summary.done, summary.failed) == (2, ())
    kinds = {"labels/large.tif", "labels/small.png", "overlays/large.tif", "overlays/small.png"}
    assert kinds == {
        path.relative_to(out).as_posix() for each in ("labels", "overlays") for path in (out / each).iterdir()
    }
    assert not (out / ".unfinished").exists()
    labels = tifffile.imread(out / "labels/large.tif", level=0)
    assert same_objects(labels, predictor.predict(picture).instances.label_image)
    with (out / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.objects and sum(row["name"] == "large" for row in rows) == labels.max()
    for row in rows:
        assert (row["solidity"] == "") == (row["name"] == "large"), "what only the whole shape tells is left empty"
    assert predict_objects(predictor, [tmp_path / "in"], out, huge=SMALL, overlay=True).skipped == 2
    predict_objects(predictor, [tmp_path / "in"], out, overlay=True, overwrite=True)
    assert {each.suffix for kind in ("labels", "overlays") for each in (out / kind).iterdir()} == {".png"}


def test_damage_and_a_full_disk_leave_nothing_half_written(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path, out = tmp_path / "a.tif", tmp_path / "out"
    tifffile.imwrite(path, blobs(300, 280)[..., 0], tile=(64, 64), compression="zlib")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # less than the maps that wait
    try:
        with pytest.raises(DiskError, match="can't be written"):
            predict_objects(asked(), [path], out, huge=SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with tifffile.TiffFile(path) as file:
        place, count = file.pages[0].dataoffsets[12], file.pages[0].databytecounts[12]
    content = path.read_bytes()
    path.write_bytes(content[:place] + b"\xff" * count + content[place + count :])
    summary = predict_objects(asked(), [path], out, huge=SMALL)
    assert summary.done == 0 and "is damaged at rows 128 to 192, columns 128 to 192" in summary.failed[0][1]
    assert not any((out / kind).exists() for kind in ("labels", ".unfinished", "overlays"))
    path.write_bytes(content)
    assert predict_objects(asked(), [path], out, huge=SMALL).done == 1
