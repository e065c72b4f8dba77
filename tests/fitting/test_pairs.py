"""Made pairs and pseudo-labels: the same by number, nothing of what is held back, and no decision taken back."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.data.augment import AugmentConfig
from intarsia.data.classes import read_class_table
from intarsia.data.folder import open_folder
from intarsia.data.read import read_image
from intarsia.data.scenes import CLASSES, SceneConfig, write_scenes
from intarsia.data.sets import open_sets
from intarsia.data.split import split
from intarsia.drawing import encode_png, write_mask
from intarsia.errors import DataError, UsageError
from intarsia.fitting.pairs import pseudo_label, review, synthesize
from intarsia.inference.pairs import PairFolder
from intarsia.inference.pseudo_labels import certainty, read_review
from intarsia.inference.synthesis import RealTemplates, Template, agreement
from intarsia.models import build
from intarsia.models.combined.shape_prior import ShapePriorConfig
from intarsia.models.generative import DiffusionConfig, GANConfig, PairGANConfig, Pix2PixConfig, VAEConfig
from intarsia.models.semantic import UNetConfig
from intarsia.records import IGNORE, Classes, Prediction, Sample
from intarsia.runs import Run

SIZE = (16, 16)
LABELLED = 4
KINDS = ("pix2pix", "diffusion", "pair_gan")


def write_run(folder: Path, config: Any, data: Path, classes: Classes = CLASSES, seed: int = 0, **about: Any) -> Path:
    """A run as `fit` leaves it, with fresh weights."""
    torch.manual_seed(1)
    run = Run(folder)
    folder.mkdir(parents=True)
    told = {"folder": str(data), "labelled": LABELLED, "whole": config.name == "diffusion", **about}
    tree = {"seed": seed, "data": told, "model": config.model_dump(mode="json", exclude_none=True)}
    run.write_config(tomlkit.dumps(tree | {"augment": {"crop": list(SIZE), "scale": [1.0, 1.0]}}))
    run.write_classes(classes)
    model = build(config)
    for parameter in model.parameters():
        if parameter.shape == (len(CLASSES),):  # a segmenter sees background all over, and is sure of it
            parameter.data[0] += 5
    run.write_weights(model.state_dict(), "last", 1)
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scenes`, of whose training pictures four have a mask that may be seen, and a run of each kind."""
    room = tmp_path_factory.mktemp("pairs")
    data = write_scenes(room / "scenes", 15, SceneConfig(height=32, width=32))
    tiny: dict[str, Any] = {"channels": 3, "size": SIZE, "classes": 5, "width": 4}
    write_run(
        room / "pix2pix",
        Pix2PixConfig(task="mask_to_picture", depth=2, critic_width=4, critic_depth=1, **tiny),
        data,
    )
    write_run(room / "diffusion", DiffusionConfig(condition="mask", depth=1, steps=2, **{**tiny, "width": 8}), data)
    write_run(room / "pair_gan", PairGANConfig(latent=4, **tiny), data)
    write_run(room / "gan", GANConfig(latent=4, channels=3, size=SIZE, width=4), data, Classes.named(()))
    write_run(room / "vae", VAEConfig(latent=4, features=8, channels=5, size=SIZE, width=4), data, Classes.named(()))
    write_run(room / "unet", UNetConfig(encoder="plain", width=4, depth=2, classes=5), data)
    return room


def files(folder: Path) -> dict[str, bytes]:
    found = [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")]
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in found}


def pair_files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(folder).items() if name.startswith(("images/", "masks/"))}


# pairs by a generator


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_the_same_whatever_was_asked_for_with_it_and_a_stop_changes_nothing(
    room: Path, tmp_path: Path, kind: str
) -> None:
    whole = synthesize(room / kind, tmp_path / "whole", 10, seed=3)
    assert (whole.kept, whole.thrown, whole.skipped) == (10, 0, 0)
    few = synthesize(room / kind, tmp_path / "few", 3, seed=3)
    assert few.kept == 3
    everything = pair_files(tmp_path / "whole")
    assert {name: everything[name] for name in pair_files(tmp_path / "few")} == pair_files(tmp_path / "few")
    assert len(set(everything.values())) > 10
    (tmp_path / "few" / "masks" / "made-000001.png").unlink()
    log = tmp_path / "few" / "synthesis.jsonl"
    log.write_bytes(log.read_bytes()[:-20])  # as a kill leaves it
    again = synthesize(room / kind, tmp_path / "few", 10, seed=3)
    assert (again.kept, again.skipped) == (10, 1)
    assert pair_files(tmp_path / "few") == everything
    assert (tmp_path / "few" / "sheet.png").read_bytes() == (tmp_path / "whole" / "sheet.png").read_bytes()
    other = synthesize(room / kind, tmp_path / "other", 3, seed=4)
    assert other.kept == 3 and pair_files(tmp_path / "other") != pair_files(tmp_path / "few")
    folder = open_folder(tmp_path / "whole")
    assert folder.classes == CLASSES and len(folder.entries) == 10 and not folder.problems
    sample = folder.read(folder.entries[0])
    assert sample.mask is not None and sample.mask.shape == sample.image.shape[:2] and sample.image.shape[2] == 3
    assert sample.image.shape[:2] == ((32, 32) if kind == "pix2pix" else SIZE)


opened: list[str] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and opened is not None and isinstance(arguments[0], str | bytes):
        opened.append(str(arguments[0]))


sys.addaudithook(_listen)  # which can't be taken off again: it hears nothing while `opened` is None


@pytest.fixture
def listening() -> Iterator[list[str]]:
    global opened
    opened = []
    yield opened
    opened = None


def test_what_is_held_back_is_never_read(room: Path, tmp_path: Path, listening: list[str]) -> None:
    data = tmp_path / "scenes"
    shutil.copytree(room / "scenes", data)
    for kind in (*KINDS, "unet"):
        shutil.copytree(room / kind, tmp_path / kind)
        config = tmp_path / kind / "config.toml"
        config.write_text(config.read_text().replace(str(room / "scenes"), str(data)))
    sets = open_sets(data, labelled=LABELLED)
    held = [path for entry in sets.validation.entries for path in (entry.image, *entry.masks) if path is not None]
    assert len(held) >= 4
    options: dict[str, Any] = {"filter_run": tmp_path / "unet", "agree": 0.0}
    for kind in KINDS:
        synthesize(tmp_path / kind, tmp_path / "before" / kind, 5, **options)
    pseudo_label(tmp_path / "unet", tmp_path / "before" / "pseudo", confidence=0.2)
    for path in held:
        path.write_bytes(b"unreadable")
    listening.clear()
    for kind in KINDS:
        synthesize(tmp_path / kind, tmp_path / "after" / kind, 5, **options)
    pseudo_label(tmp_path / "unet", tmp_path / "after" / "pseudo", confidence=0.2)
    before, after = files(tmp_path / "before"), files(tmp_path / "after")
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] in ([], ["pseudo/review.html"])  # it has a date
    read = {Path(each).resolve() for each in listening}
    assert not read & {path.resolve() for path in held}
    assert {entry.image.resolve() for entry in sets.train.entries} <= read  # so the listening was no dream


def test_hidden_masks_stay_hidden(room: Path, tmp_path: Path) -> None:
    chosen = {entry.name for entry in open_sets(room / "scenes", labelled=LABELLED).train.labelled().entries}
    assert len(chosen) == LABELLED
    synthesize(room / "pix2pix", tmp_path / "out", 12)
    rows = [json.loads(line) for line in (tmp_path / "out" / "synthesis.jsonl").read_text().splitlines()]
    sources = [row["mask"].removeprefix("mask of ") for row in rows]
    assert set(sources) == chosen and all(sources.count(name) == 3 for name in chosen)
    assert set(json.loads((tmp_path / "out" / "synthesis.json").read_text())["learnt_from"]) == chosen


class Masks:
    """One sample with a mask that has another class at each place."""

    def __init__(self, height: int, width: int) -> None:
        self.mask = np.arange(height * width, dtype=np.int16).reshape(height, width) % 30_000

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample("one", np.zeros((*self.mask.shape, 3), np.uint8), self.mask)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(5, 60),
    width=st.integers(5, 60),
    crop=st.none() | st.tuples(st.integers(4, 40), st.integers(4, 40)),
    low=st.floats(0.3, 1.2),
    transpose=st.sampled_from([0.0, 1.0]),
    number=st.integers(0, 5),
)
def test_a_real_mask_shows_nothing_from_outside_its_picture(
    height: int, width: int, crop: tuple[int, int] | None, low: float, transpose: float, number: int
) -> None:
    geometry = AugmentConfig(scale=(low, 1.3), rotate=90, stretch=0.5, transpose=transpose, rare_crops=1.0)
    template = RealTemplates(Masks(height, width), ["one"], geometry, crop, 0)[number]
    assert template.mask is not None and template.mask.shape == (crop or (height, width))
    assert (template.mask != IGNORE).all()


def test_without_changes_a_real_mask_is_itself() -> None:
    still = AugmentConfig(scale=(1.0, 1.0), flip_horizontal=0.0)
    masks = Masks(12, 17)
    template = RealTemplates(masks, ["one"], still, None, 0)[7]
    assert template.mask is not None and np.array_equal(template.mask, masks.mask)
    mirrored = RealTemplates(masks, ["one"], still.model_copy(update={"flip_horizontal": 1.0}), None, 0)[7]
    assert mirrored.mask is not None and np.array_equal(mirrored.mask, masks.mask[:, ::-1])


def answered(mask: np.ndarray, classes: Classes) -> Prediction:
    planes = (mask[None] == np.arange(len(classes))[:, None, None]).astype(np.float32)
    return Prediction("x", np.zeros((*mask.shape, 3), np.uint8), classes, planes)


def test_agreement_is_the_mean_iou_over_the_masks_classes() -> None:
    classes = Classes.named(("a", "b", "c"))
    mask = np.zeros((4, 4), np.int16)
    mask[:, 2:] = 1
    assert agreement(Template("", mask), answered(mask, classes)) == 1
    shifted = np.zeros((4, 4), np.int16)
    shifted[:, 3:] = 1  # a: 8 of 12, b: 4 of 8
    assert agreement(Template("", mask), answered(shifted, classes)) == pytest.approx((8 / 12 + 4 / 8) / 2)
    half = mask.copy()
    half[:, 3:] = IGNORE  # what nobody knows is not judged: a 8 of 12, b 0 of 4
    assert agreement(Template("", half), answered(shifted, classes)) == pytest.approx((8 / 12 + 0) / 2)
    overlapping = Classes.named(("a", "b"), overlapping=True)
    labels = np.stack([np.ones((4, 4), np.int8), (mask == 1).astype(np.int8)])
    both = Prediction("x", np.zeros((4, 4, 3), np.uint8), overlapping, labels.astype(np.float32))
    assert agreement(Template("", labels=labels), both) == 1


def test_what_the_filter_does_not_recognise_is_thrown_away_and_counted(room: Path, tmp_path: Path) -> None:
    everything = synthesize(room / "pix2pix", tmp_path / "all", 9, filter_run=room / "unet", agree=0.0)
    rows = [json.loads(line) for line in (tmp_path / "all" / "synthesis.jsonl").read_text().splitlines()]
    limit = sorted(row["agreement"] for row in rows)[5]
    some = synthesize(room / "pix2pix", tmp_path / "some", 9, filter_run=room / "unet", agree=limit)
    good = {row["name"] for row in rows if row["agreement"] >= limit}
    assert everything.kept == 9 and some.kept == len(good) < 9 and some.kept + some.thrown == 9
    assert {path.stem for path in (tmp_path / "some" / "images").iterdir()} == good
    assert f"{some.thrown} thrown away" in some.words and "mean IoU" in some.words
    again = synthesize(room / "pix2pix", tmp_path / "some", 9, filter_run=room / "unet", agree=limit)
    assert (again.skipped, again.kept) == (9, some.kept)  # what was thrown away is not drawn again
    none = synthesize(room / "pix2pix", tmp_path / "none", 2, filter_run=room / "unet", agree=1.0)
    assert none.kept == 0 and "train the generator longer" in none.words


def test_masks_of_a_folder_and_drawn_ones(room: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    drawn = np.random.default_rng(0).integers(0, 5, (2, 20, 24)).astype(np.int16)
    for number, mask in enumerate(drawn):
        write_mask(masks / f"{number}.png", mask, CLASSES)
    synthesize(room / "pix2pix", tmp_path / "a", 3, masks=masks)
    folder = open_folder(tmp_path / "a")
    for entry, mask in zip(folder.entries, (drawn[0], drawn[1], drawn[0]), strict=True):
        found = folder.read(entry).mask
        assert found is not None and np.array_equal(found, mask)
    synthesize(room / "diffusion", tmp_path / "b", 2, masks=masks)  # brought to the only size it draws
    found = open_folder(tmp_path / "b").read(open_folder(tmp_path / "b").entries[0]).mask
    assert found is not None and found.shape == SIZE and found.max() < 5
    prior = ShapePriorConfig.model_validate({"classes": 5, "segmenter": {"name": "unet", "width": 4, "depth": 2}})
    write_run(tmp_path / "prior", prior, room / "scenes")
    for name, run in (("c", tmp_path / "prior"), ("d", room / "vae")):
        assert synthesize(room / "pix2pix", tmp_path / name, 9, masks="drawn", mask_run=run).kept == 9
        short = synthesize(room / "pix2pix", tmp_path / f"{name}2", 2, masks="drawn", mask_run=run)
        assert short.kept == 2
        assert pair_files(tmp_path / f"{name}2").items() <= pair_files(tmp_path / name).items()


def test_overlapping_classes_and_sixteen_bits(tmp_path: Path) -> None:
    classes = Classes.named(("cell", "nucleus"), overlapping=True)
    random = np.random.default_rng(0)
    for i in range(8):
        for place in ("images", "masks/cell", "masks/nucleus"):
            path = tmp_path / "data" / place / f"{i:x}f{i}a9c.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (24, 20)
            plane = random.integers(0, 65536, size, np.uint16) if place == "images" else None
            path.write_bytes(encode_png(255 * random.integers(0, 2, size).astype(np.uint8) if plane is None else plane))
    open_folder(tmp_path / "data")
    tiny: dict[str, Any] = {"channels": 1, "size": SIZE, "classes": 2, "width": 4}
    config = Pix2PixConfig(task="mask_to_picture", depth=2, critic_width=4, critic_depth=1, **tiny)
    write_run(tmp_path / "pix2pix", config, tmp_path / "data", classes)
    unet = UNetConfig(encoder="plain", width=4, depth=2, classes=2, channels=1, overlapping=True)
    write_run(tmp_path / "unet", unet, tmp_path / "data", classes)
    synthesize(tmp_path / "pix2pix", tmp_path / "out", 3, filter_run=tmp_path / "unet", agree=0.0)
    folder = open_folder(tmp_path / "out")
    assert folder.classes.overlapping and folder.classes.names == ("cell", "nucleus")
    sample = folder.read(folder.entries[0])
    assert sample.image.dtype == np.uint16 and sample.labels is not None and sample.labels.shape == (2, 24, 20)
    pseudo_label(tmp_path / "unet", tmp_path / "pseudo", confidence=0.5)
    labels = [folder.read(e).labels for folder in [open_folder(tmp_path / "pseudo")] for e in folder.entries]
    known = [each for each in labels if each is not None]
    assert known and {value for each in known for value in np.unique(each).tolist()} <= {IGNORE, 0, 1}


def test_pairs_that_make_no_sense_are_refused_in_words(room: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scenes = room / "scenes"
    other = Classes.named(tuple("abcde"))
    small = UNetConfig(encoder="plain", width=4, depth=2, classes=5)
    write_run(tmp_path / "other", small, scenes, other)
    write_run(tmp_path / "fed", small, scenes, generated=str(scenes))
    loose = tmp_path / "loose"  # without lists of names, so that the seed divides it
    shutil.copytree(scenes, loose, ignore=shutil.ignore_patterns("*.txt"))
    parts = [split(open_folder(loose), 0.2, 0.0, seed) for seed in range(50)]
    seed = next(s for s, part in enumerate(parts) if not {*parts[0].validation} <= {*part.validation})
    write_run(tmp_path / "seed", small, loose, seed=seed, labelled=len(parts[seed].train))
    tiny = Pix2PixConfig(task="mask_to_picture", classes=5, width=4, depth=2, critic_width=4, critic_depth=1)
    write_run(tmp_path / "gone", tiny, tmp_path / "nowhere")
    write_run(tmp_path / "divided", tiny, loose)
    for run, options, words in (
        ("gan", {}, "draws no pictures for masks"),
        ("unet", {}, "draws no pictures for masks"),
        ("pix2pix", {"count": 0}, "give 1 pair or more"),
        ("pix2pix", {"agree": 1.5}, "share in"),
        ("pix2pix", {"masks": "drawn"}, "go together"),
        ("pix2pix", {"mask_run": room / "vae"}, "go together"),
        ("pix2pix", {"masks": "drawn", "mask_run": room / "gan"}, "draws no masks of 5 classes"),
        ("pix2pix", {"masks": tmp_path / "missing"}, "which this is not"),
        ("pix2pix", {"masks": scenes / "masks"}, "held back to measure on"),
        ("pair_gan", {"masks": scenes / "masks"}, "together with the pictures"),
        ("pix2pix", {"filter_run": room / "gan"}, "holds a generative model"),
        ("pix2pix", {"filter_run": tmp_path / "other"}, "same ones in the same order"),
        ("pix2pix", {"filter_run": tmp_path / "fed"}, "agree with their mistakes"),
        (tmp_path / "divided", {"filter_run": tmp_path / "seed"}, "has learnt from"),
    ):
        wished: dict[str, Any] = {"count": 2, **options}
        with pytest.raises(UsageError, match=words):
            synthesize(room / run, out, **wished)
    with pytest.raises(DataError, match="not there any more"):
        synthesize(tmp_path / "gone", out, 1)
    assert not out.exists()
    synthesize(room / "pix2pix", out, 2)
    with pytest.raises(UsageError, match="other seed"):
        synthesize(room / "pix2pix", out, 2, seed=1)
    before = pair_files(out)
    synthesize(room / "pix2pix", out, 1, seed=1, overwrite=True)
    assert len(pair_files(out)) == 2 and not pair_files(out).items() <= before.items()
    strange = tmp_path / "strange"
    shutil.copytree(scenes, strange)
    with pytest.raises(UsageError, match="not from here"):
        synthesize(room / "pix2pix", strange, 1)


def test_a_folder_that_has_changed_since_is_refused(room: Path, tmp_path: Path) -> None:
    shutil.copytree(room / "pix2pix", tmp_path / "run")
    (tmp_path / "run" / "data.json").write_text(json.dumps({"validation": 99, "test": 0}))
    with pytest.raises(DataError, match="validation: 99 -> "):
        synthesize(tmp_path / "run", tmp_path / "out", 1)


# masks by a segmenter


def test_certain_pixels_are_labelled_and_the_others_left_open() -> None:
    classes = Classes.named(("a", "b"))
    p = np.array([[[0.95, 0.6, 0.1]], [[0.05, 0.4, 0.9]]], np.float32)  # K 1 3
    mask, sure = certainty(Prediction("x", np.zeros((1, 3, 3), np.uint8), classes, p), 0.9)
    assert mask.tolist() == [[0, IGNORE, 1]] and np.allclose(sure, [[0.95, 0.6, 0.9]])
    overlapping = Classes.named(("a", "b"), overlapping=True)
    labels, least = certainty(Prediction("x", np.zeros((1, 3, 3), np.uint8), overlapping, p), 0.9)
    assert labels.tolist() == [[[1, IGNORE, 0]], [[0, IGNORE, 1]]] and np.allclose(least, [[0.95, 0.6, 0.9]])


@pytest.fixture
def labelled(room: Path, tmp_path: Path) -> Path:
    """Pseudo-labels of the pictures without a mask, of which the more certain half is learnt from."""
    summary = pseudo_label(room / "unet", tmp_path / "pseudo", confidence=0.2, keep_share=0.5)
    assert summary.kept - summary.thrown in (0, 1) and summary.thrown >= 3
    return tmp_path / "pseudo"


def status(folder: Path) -> dict[str, str]:
    return {each.name: each.status for each in read_review(folder)}


def test_the_pictures_without_a_mask_are_labelled_and_no_others(room: Path, labelled: Path) -> None:
    sets = open_sets(room / "scenes", labelled=LABELLED)
    unknown = {entry.name for entry in sets.train.entries} - {e.name for e in sets.train.labelled().entries}
    rows = read_review(labelled)
    assert {each.name for each in rows} == unknown
    assert [each.confidence for each in rows] == sorted(each.confidence for each in rows)
    assert [each.status for each in rows] == sorted(each.status for each in rows)  # "left out" before "new"
    assert all(sum(each.shares) == pytest.approx(1, abs=1e-3) for each in rows)
    folder = open_folder(labelled)
    learnt = {entry.name for entry in folder.entries if folder.labelled(entry)}
    assert learnt == {name for name, word in status(labelled).items() if word == "new"}
    for entry in folder.entries:
        assert entry.image.read_bytes() == (room / "scenes" / "images" / entry.image.name).read_bytes()
    page = (labelled / "review.html").read_text()
    assert "<script" not in page and "<link" not in page
    assert [page.index(f"<h3>{each.name}<") for each in rows] == sorted(page.index(f"<h3>{e.name}<") for e in rows)


def test_what_a_person_decided_is_never_taken_back(room: Path, labelled: Path) -> None:
    kept = [name for name, word in status(labelled).items() if word == "new"]
    left = [name for name, word in status(labelled).items() if word == "left out"]
    corrected = np.full((32, 32), 3, np.int16)
    write_mask(labelled / "masks" / f"{kept[0]}.png", corrected, CLASSES)
    write_mask(labelled / "rejected" / f"{left[0]}.png", corrected, CLASSES)
    (labelled / "masks" / f"{kept[1]}.png").unlink()
    lines = (labelled / "review.csv").read_text().splitlines()
    lines = [line.replace(",new,", ",reject,") if line.startswith(kept[2]) else line for line in lines]
    (labelled / "review.csv").write_text("\n".join(lines) + "\n")
    review(labelled, accept=[kept[3], left[1]])
    decided = {
        kept[0]: "corrected", left[0]: "corrected", kept[1]: "rejected", kept[2]: "rejected", kept[3]: "accepted",
        left[1]: "accepted",
    }  # fmt: skip
    assert {name: status(labelled)[name] for name in decided} == decided
    there = {path.stem for path in (labelled / "masks").iterdir()}
    assert there == {kept[0], left[0], kept[3], left[1]}
    fixed = {name: content for name, content in files(labelled).items() if name.startswith(("masks/", "rejected/"))}
    pseudo_label(room / "unet", labelled, confidence=0.21, overwrite=True)  # everything else anew
    assert {name: status(labelled)[name] for name in decided} == decided
    after = files(labelled)
    for name in decided:
        for place in (f"masks/{name}.png", f"rejected/{name}.png"):
            assert after.get(place) == fixed.get(place)
    undecided = set(status(labelled)) - set(decided)
    assert all(status(labelled)[name] == "new" for name in undecided)
    review(labelled, reject=[kept[3]])
    assert (labelled / "rejected" / f"{kept[3]}.png").is_file() and not (labelled / "masks" / f"{kept[3]}.png").exists()
    review(labelled, accept_all=True)
    assert set(status(labelled).values()) == {"accepted", "corrected", "rejected"}


def test_the_same_again_does_what_is_missing_and_other_settings_are_refused(room: Path, labelled: Path) -> None:
    before = files(labelled)
    name = next(name for name, word in status(labelled).items() if word == "new")
    (labelled / "images" / f"{name}.png").unlink()
    again = pseudo_label(room / "unet", labelled, confidence=0.2, keep_share=0.5)
    assert again.skipped == len(status(labelled)) - 1
    after = files(labelled)
    same = [each for each in before if each not in ("review.html", "pseudo_labels.jsonl")]
    assert {each: after[each] for each in same} == {each: before[each] for each in same}
    with pytest.raises(UsageError, match="other confidence"):
        pseudo_label(room / "unet", labelled, confidence=0.4)
    all_of_them = pseudo_label(room / "unet", labelled, confidence=0.2)  # only which ones are learnt from is new
    assert all_of_them.kept == all_of_them.skipped == len(status(labelled))


def test_pictures_from_elsewhere_get_names_of_their_own_and_held_back_ones_are_refused(
    room: Path, tmp_path: Path
) -> None:
    held = open_sets(room / "scenes", labelled=LABELLED).validation.entries[0]
    place = tmp_path / "more"
    place.mkdir()
    (place / held.image.name).write_bytes(encode_png(np.zeros((20, 30, 3), np.uint8)))
    (place / "broken.png").write_bytes(b"no picture")
    summary = pseudo_label(room / "unet", tmp_path / "out", place, confidence=0.0)
    assert summary.kept == 1 and [path.name for path, _ in summary.failed] == ["broken.png"]
    assert status(tmp_path / "out") == {f"{held.name}_png": "new"}
    copied = place / "innocent.png"
    shutil.copy(held.image, copied)
    for wanted in (copied, [held.image], room / "scenes" / "images"):
        with pytest.raises(UsageError, match="held back to measure on"):
            pseudo_label(room / "unet", tmp_path / "other", wanted)
    assert not (tmp_path / "other").exists()


def test_labels_that_make_no_sense_are_refused_in_words(room: Path, tmp_path: Path, labelled: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="labels nothing"):
        pseudo_label(room / "gan", out)
    with pytest.raises(UsageError, match="shares"):
        pseudo_label(room / "unet", out, confidence=1.2)
    with pytest.raises(UsageError, match="no pictures are given"):
        pseudo_label(room / "unet", out, [])
    write_run(tmp_path / "all", UNetConfig(encoder="plain", width=4, depth=2, classes=5), room / "scenes", labelled=12)
    with pytest.raises(DataError, match="nothing to label"):
        pseudo_label(tmp_path / "all", out)
    assert not out.exists()
    with pytest.raises(DataError, match="no folder of pseudo-labels"):
        review(room / "scenes")
    with pytest.raises(UsageError, match="no picture nobody"):
        review(labelled, reject=["nobody"])
    name = next(iter(status(labelled)))
    with pytest.raises(UsageError, match="accepted and rejected"):
        review(labelled, accept=[name], reject=[name])
    text = (labelled / "review.csv").read_text()
    (labelled / "review.csv").write_text(text.replace(",new,", ",perhaps,", 1))
    with pytest.raises(DataError, match="perhaps"):
        review(labelled)
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0].keys() == {"name", "status", "confidence", "labelled", "digest", *CLASSES.names}


def test_a_temperature_that_was_fitted_is_applied(room: Path, tmp_path: Path) -> None:
    shutil.copytree(room / "unet", tmp_path / "run")
    assert Run(tmp_path / "run").temperature() == 1
    (tmp_path / "run" / "temperature.json").write_text('{"temperature": 50.0}')
    unsure = pseudo_label(tmp_path / "run", tmp_path / "a", confidence=0.0)
    sure = pseudo_label(room / "unet", tmp_path / "b", confidence=0.0)
    assert 0.2 <= unsure.numbers["confidence"] < sure.numbers["confidence"]


def test_a_mask_file_keeps_what_is_not_known(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [IGNORE, 4]], np.int16)
    folder = PairFolder(tmp_path, "synthesis", CLASSES)
    folder.begin({}, False)
    folder.write_image("a", ".png", encode_png(np.zeros((2, 2, 3), np.uint8)))
    folder.write_labels("a", mask)
    opened_ = open_folder(tmp_path)
    found = opened_.read(opened_.entries[0]).mask
    assert found is not None and np.array_equal(found, mask)
    assert read_class_table(tmp_path / "classes.toml").classes == CLASSES
    assert read_image(tmp_path / "images" / "a.png").shape == (2, 2, 3)
