"""Pairs that nobody drew: `synthesize` by a generator, `pseudo_label` by a segmenter, `review` by a person in between.

Both open the pictures of a run as its training did, so that pictures held back for validation and test are neither
read nor labelled, and masks that were hidden from the training stay hidden.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..config import Config, DataConfig
from ..data.batches import Samples
from ..data.folder import Entry
from ..data.sets import Sets
from ..errors import DataError, UsageError
from ..inference.inputs import find_inputs, give_names
from ..inference.pairs import PairFolder, Step, Summary
from ..inference.predictor import Predictor, device_named
from ..inference.pseudo_labels import Reviewed, classes_of, decide, label_files, read_review
from ..inference.record import writing
from ..inference.synthesis import (
    DrawnTemplates,
    FileTemplates,
    RealTemplates,
    Templates,
    makes_pairs,
    size_of,
    synthesize_files,
)
from ..models.contract import SemanticModel
from ..models.generative.pair_gan import PairGAN
from ..report.review import write_review_page
from ..runs import Run
from ..training.machine import tune_allocator
from . import generators
from .wishes import open_sets_for, stored_config

Device = Literal["auto", "cpu", "cuda"]
SCALE = (0.8, 1.25)  # of real masks, where no filter's configuration says how pictures may be changed


def synthesize(
    run: str | Path,
    out: str | Path,
    count: int,
    *,
    masks: str | Path = "real",
    mask_run: str | Path | None = None,
    filter_run: str | Path | None = None,
    agree: float = 0.7,
    seed: int = 0,
    device: Device = "auto",
    overwrite: bool = False,
    progress: Step | None = None,
) -> Summary:
    """Writes pairs 0 to `count - 1` of a seed by a generator into a folder that `fit` learns from (data.generated).

    run: of a pix2pix with task = "mask_to_picture", a diffusion with condition = "mask", or a pair_gan.
    masks: "real", those of the run's own labelled training pictures, mirrored, scaled and cropped at random; "drawn",
    by `mask_run`; or a folder of mask files. A pair_gan draws its masks itself.
    mask_run: of a shape_prior, or of a vae that was trained on masks, a channel a class.
    filter_run: of a segmenter that was trained on real masks alone; pairs are kept where the mean IoU of its answer
    with the mask, over the classes of the mask, is at least `agree`. None: all are kept.

    Real masks are mirrored, scaled and exchanged in x and y as the filter's training does it; without a filter they are
    mirrored from left to right and scaled by SCALE. Raises UsageError for runs that don't go together, DataError.
    """
    if count < 1 or not 0 <= agree <= 1 or not 0 <= seed < 2**62:
        raise UsageError(
            f"count = {count}, agree = {agree:g}, seed = {seed}: give 1 pair or more, a share in [0, 1], and a seed of "
            "0 or more."
        )
    source = Run(run)
    config, model, classes = stored_config(source), source.load_model(), source.classes()
    if not makes_pairs(model):
        raise UsageError(
            f"{source.folder} holds a {config.model.name} that draws no pictures for masks; give a run of pix2pix with "
            "model.task = 'mask_to_picture', of diffusion with model.condition = 'mask', or of pair_gan."
        )
    tune_allocator()
    sets = _own_sets(source, config, required=masks == "real" and not isinstance(model, PairGAN))
    judge = None if filter_run is None else _judge(Run(filter_run), source, config, sets, device)
    model.to(device_named(device))
    if isinstance(model, PairGAN):
        if masks != "real" or mask_run is not None:
            raise UsageError(f"{source.folder} draws the masks together with the pictures; leave --masks out.")
        templates: Templates | None = None
    else:
        geometry = None if filter_run is None else stored_config(Run(filter_run)).augment
        templates = _templates(source, config, sets, masks, mask_run, geometry, size_of(model), seed, device)
    told = {
        "run": source.name,
        "filter_run": None if filter_run is None else Run(filter_run).name,
        "learnt_from": [] if sets is None else [entry.name for entry in sets.train.labelled().entries],
    }
    deep = sets is not None and sets.train.labelled()[0].image.dtype != np.uint8
    return synthesize_files(
        model, classes, templates, Path(out), count, judge=judge, agree=agree, seed=seed, deep=deep, told=told,
        overwrite=overwrite, progress=progress,
    )  # fmt: skip


def pseudo_label(
    run: str | Path,
    out: str | Path,
    pictures: str | Path | Sequence[str | Path] | None = None,
    *,
    confidence: float = 0.9,
    keep_share: float = 1.0,
    device: Device = "auto",
    overwrite: bool = False,
    progress: Step | None = None,
) -> Summary:
    """Labels pictures by a segmenter into a folder that a person reviews and `fit` learns from (data.generated).

    pictures: files, folders or patterns; None: the training pictures of the run's own folder that have no mask, or
    whose mask was hidden. Pictures that the run holds back for validation or test are refused.
    confidence: pixels of which the likeliest class is less probable, [0, 1], are left open; the run's temperature is
    applied. keep_share: of the pictures, [0, 1], the most certain ones, that are learnt from.

    Writes review.csv and review.html beside them. The same call again does what is missing; what a person corrected,
    accepted or rejected stays, also with `overwrite`. Raises UsageError, DataError.
    """
    if not 0 <= confidence <= 1 or not 0 <= keep_share <= 1:
        raise UsageError(
            f"confidence = {confidence:g} and keep_share = {keep_share:g} are shares; give both in [0, 1]."
        )
    source = Run(run)
    config, model = stored_config(source), source.load_model()
    if not isinstance(model, SemanticModel):
        raise UsageError(f"{source.folder} holds a {config.model.name}, which labels nothing; give a segmenter's run.")
    tune_allocator()
    sets = _own_sets(source, config, required=pictures is None)
    found = _unlabelled(sets) if pictures is None and sets is not None else _outside(pictures or (), Path(out), sets)
    predictor = Predictor(model, source.classes(), device=device, temperature=source.temperature())
    learnt = [] if sets is None else [entry.name for entry in sets.train.labelled().entries]
    summary = label_files(
        predictor, found, Path(out), confidence=confidence, keep_share=keep_share, overwrite=overwrite,
        told={"run": source.name, "learnt_from": learnt}, progress=progress,
    )  # fmt: skip
    folder = PairFolder(Path(out), "pseudo_labels", predictor.classes)
    write_review_page(folder, read_review(folder.out))
    return summary


def review(
    folder: str | Path, accept: Sequence[str] = (), reject: Sequence[str] = (), accept_all: bool = False
) -> list[Reviewed]:
    """The pictures of a folder of pseudo-labels, the least certain first, after a person's decisions: those given
    here, those written into review.csv, and masks that were changed or taken away. Rejected masks are moved to
    rejected/, where `fit` does not look; review.html is renewed. Raises UsageError for unknown names, DataError."""
    out = Path(folder)
    if not (out / "pseudo_labels.json").is_file():
        raise DataError(f"{out} is no folder of pseudo-labels; give one that `intarsia pseudo-label` made.")
    opened = PairFolder(out, "pseudo_labels", classes_of(out))
    with writing(out):
        rows = decide(opened, accept, reject, accept_all)
        write_review_page(opened, rows)
    return rows


def _own_sets(run: Run, config: Config, required: bool) -> Sets | None:
    """The pictures that the run was trained on, in the same parts; None where they are gone and not required."""
    if not Path(config.data.folder).is_dir():
        if required:
            raise DataError(f"{config.data.folder}, which {run.folder} was trained on, is not there any more.")
        return None
    sets = open_sets_for(config.data.model_copy(update={"generated": None}), config.seed)
    before = run.read_data()
    now = {"train": len(sets.train), "validation": len(sets.validation), "test": len(sets.test)}
    changed = [f"{part}: {before[part]} -> {count}" for part, count in now.items() if before.get(part, count) != count]
    if changed:
        raise DataError(
            f"{config.data.folder} has other pictures than {run.folder} was trained on ({', '.join(changed)}), so that "
            "nobody knows which were held back; restore them, or train anew."
        )
    if sets.classes.names != run.classes().names:
        raise DataError(
            f"{config.data.folder} now has the classes {', '.join(sets.classes.names)}, {run.folder} was trained with "
            f"{', '.join(run.classes().names)}; restore its classes.toml."
        )
    return sets


def _judge(run: Run, generator: Run, config: Config, sets: Sets | None, device: Device) -> Predictor:
    """The filter: a segmenter of the same classes that saw neither made pairs nor what the generator holds back."""
    model = run.load_model()
    if not isinstance(model, SemanticModel):
        raise UsageError(f"the filter {run.folder} holds a generative model; give the run of a segmenter.")
    if run.classes().names != generator.classes().names:
        raise UsageError(
            f"the filter {run.folder} has the classes {', '.join(run.classes().names)}, {generator.folder} has "
            f"{', '.join(generator.classes().names)}; give a segmenter of the same ones in the same order."
        )
    theirs = stored_config(run)
    if theirs.data.generated is not None:
        raise UsageError(
            f"the filter {run.folder} has itself learnt from made pairs ({theirs.data.generated}) and would agree with "
            "their mistakes; give a run that was trained on real masks alone."
        )
    _refuse_leak(run, theirs, config, sets)
    return Predictor(model, run.classes(), device=device, temperature=run.temperature())


def _refuse_leak(run: Run, theirs: Config, config: Config, sets: Sets | None) -> None:
    """UsageError where a run has learnt from pictures that the generator's run holds back."""
    if sets is None or os.path.realpath(theirs.data.folder) != os.path.realpath(config.data.folder):
        return
    if _division(theirs.data, theirs.seed) == _division(config.data, config.seed):
        return
    learnt = {entry.name for entry in open_sets_for(theirs.data, theirs.seed).train.labelled().entries}
    seen = sorted(learnt & held_back(sets))
    if seen:
        raise UsageError(
            f"{run.folder} has learnt from {len(seen)} pictures that the generator's run holds back, such as {seen[0]};"
            " train both with the same seed and shares, or with the same data.split_seed."
        )


def _division(data: DataConfig, seed: int) -> tuple[Any, ...]:
    """All that the division into training, validation and test depends on."""
    return data.validation, data.test, data.leave_out, seed if data.split_seed is None else data.split_seed


def held_back(sets: Sets) -> set[str]:
    """The names of the pictures that are not learnt from."""
    return {*sets.splits.validation, *sets.splits.test}


def _templates(
    run: Run,
    config: Config,
    sets: Sets | None,
    masks: str | Path,
    mask_run: str | Path | None,
    geometry: Any,
    size: tuple[int, int] | None,
    seed: int,
    device: Device,
) -> Templates:
    """The masks that pictures are drawn for."""
    classes = run.classes()
    if (masks == "drawn") != (mask_run is not None):
        raise UsageError("--masks drawn and --mask-run RUN go together; give both, or neither.")
    if masks == "real":
        assert sets is not None
        samples: Samples = generators.parts(config, sets)[0]
        changes = config.augment.model_copy(update={"flip_horizontal": 0.5, "scale": SCALE})
        names = [entry.name for entry in sets.train.labelled().entries]
        return RealTemplates(samples, names, geometry or changes, size, seed)
    if mask_run is not None:
        drawer = Run(mask_run)
        model = drawer.load_model()
        if isinstance(model, SemanticModel):
            if drawer.classes().names != classes.names:
                raise UsageError(
                    f"{drawer.folder} draws masks of {', '.join(drawer.classes().names)}, {run.folder} wants "
                    f"{', '.join(classes.names)}; train both on the same classes."
                )
            _refuse_leak(drawer, stored_config(drawer), config, sets)
        return DrawnTemplates(model.to(device_named(device)), classes, seed)
    folder = Path(masks)
    if not folder.exists():
        raise UsageError(f"--masks {masks}: write real, drawn, or a folder of mask files, which this is not.")
    if classes.overlapping:
        raise UsageError("a folder of masks can't say where classes overlap; take --masks real or drawn.")
    files = [each.path for each in find_inputs([folder])]
    if sets is not None:
        kept_away = {file.resolve() for entry in _held_entries(sets) for file in entry.masks if file is not None}
        seen = [file for file in files if file.resolve() in kept_away]
        if seen:
            raise UsageError(
                f"{len(seen)} masks of {folder} are of pictures held back to measure on, such as {seen[0].name}; take "
                "--masks real, which takes the training pictures' alone, or another folder."
            )
    return FileTemplates(files, classes)


def _held_entries(sets: Sets) -> list[Entry]:
    return [*sets.validation.entries, *sets.test.entries]


def _unlabelled(sets: Sets) -> dict[str, Path]:
    """The training pictures without a mask, or with one that is hidden, by name."""
    known = {entry.name for entry in sets.train.labelled().entries}
    found = {entry.name: entry.image for entry in sets.train.entries if entry.name not in known}
    if not found:
        raise DataError(
            f"{sets.folder.root} has a mask for each of its {len(sets.train)} training pictures, so there is nothing "
            "to label; give other pictures."
        )
    return found


def _outside(pictures: str | Path | Sequence[str | Path], out: Path, sets: Sets | None) -> dict[str, Path]:
    """The pictures by names that no held-back picture has. UsageError where one is held back, or a copy of such."""
    given = [pictures] if isinstance(pictures, str | Path) else list(pictures)
    if not given:
        raise UsageError("no pictures are given; name files, folders or patterns.")
    inputs = find_inputs(given, out)
    away = [] if sets is None else _held_entries(sets)
    by_size: dict[int, list[Path]] = {}
    for entry in away:
        by_size.setdefault(entry.image.stat().st_size, []).append(entry.image)
    for each in inputs:
        same = [
            path for path in by_size.get(each.path.stat().st_size, []) if filecmp.cmp(path, each.path, shallow=False)
        ]
        if same:
            raise UsageError(
                f"{each.path} is held back to measure on ({same[0].name}); learning from an answer to it would flatter "
                "the score: take it out."
            )
    return {name: each.path for name, each in give_names(inputs, {e.name: str(e.image) for e in away}).items()}
