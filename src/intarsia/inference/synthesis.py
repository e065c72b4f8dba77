"""Pairs of pictures and masks by a generator, to learn from beside real ones.

    a mask ──► generator ──► picture ──► a segmenter's answer ── like the mask? ── yes ──► images/, masks/
                                                                                └─ no ───► counted and thrown away

The mask is a real one, changed in its place and scale; one that a model of masks drew; one of a folder; or the
generator draws it together with the picture. A pair has a number, and is the same whatever count is asked for with it.

The filter is after Yang et al., "FreeMask: Synthetic Images with Dense Annotations Make Stronger Segmentation Models",
2023, https://arxiv.org/abs/2310.15160, where a segmenter of real pictures says which pixels of a drawn one to leave
out; here it says so of the whole pair.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.augment import AugmentConfig, augment
from ..data.batches import Samples, permutation
from ..data.folder import open_folder
from ..data.pictures import fitted
from ..drawing import encode_png, grid, overlay, to_rgb8
from ..errors import OutOfMemoryError, UsageError
from ..files import remove_file, write_atomically
from ..metrics.confusion import Confusion, LabelConfusion
from ..models.combined.shape_prior import ShapePrior
from ..models.contract import Draws, GenerativeModel, Model
from ..models.generative.diffusion import Diffusion
from ..models.generative.pair_gan import PairGAN
from ..models.generative.pix2pix import Pix2Pix
from ..models.sampling import CHUNK, draw, generator_of
from ..records import IGNORE, Classes, Labels, Mask, Prediction, Sample
from .editing import MULTIPLE
from .pairs import PairFolder, Row, Step, Summary
from .predictor import WHOLE_CPU, Predictor, fingerprint
from .reading import read_classes
from .record import writing
from .studio import fitted_planes, one_hot, to_uint8
from .tiling import Tiling, is_out_of_memory, predict_tiled
from .works import encode_picture, suffix_of

SIDE = 512  # pixels: the most that is rendered a side of a real mask, by generators that take any size
SHOWN = 24  # pairs on the sheet
OF_MASKS = 2**62  # added to the seed for what masks are drawn from: other random numbers than the pictures'
AGREEMENT = "mean over the classes of the mask of their IoU in the filter's answer, of one picture"


@dataclass(frozen=True)
class Template:
    """What a picture is to show."""

    source: str  # where it comes from, in a few words
    mask: Mask | None = None  # (H, W); None where classes overlap
    labels: Labels | None = None  # (K, H, W); None where they exclude each other

    def planes(self, classes: int) -> np.ndarray:
        """(H, W, K) float32: 1 where a class is."""
        if self.mask is not None:
            return one_hot(self.mask, classes)
        assert self.labels is not None
        return np.ascontiguousarray(np.moveaxis(self.labels == 1, 0, -1), np.float32)

    def at(self, size: tuple[int, int], classes: int) -> Template:
        """The same at a size (height, width): scaled until it covers it, its middle cut out."""
        planes = self.planes(classes)
        if planes.shape[:2] == size:
            return self
        if self.mask is None:
            return Template(self.source, labels=np.moveaxis(fitted(planes, size) > 0.5, -1, 0).astype(np.int8))
        planes = fitted_planes(planes, size)
        return Template(self.source, np.where(planes.any(axis=2), planes.argmax(axis=2), IGNORE).astype(np.int16))

    @property
    def labelled(self) -> np.ndarray:
        labelled = self.labels if self.mask is None else self.mask
        assert labelled is not None
        return labelled


class Templates(Protocol):
    """Masks by number: the same number gives the same mask."""

    def identity(self) -> Mapping[str, Any]:
        """What tells them from others, fit for JSON."""

    def __getitem__(self, number: int, /) -> Template: ...


class RealTemplates:
    """The masks of labelled pictures, each as often as the others, in another place, scale and direction each time."""

    def __init__(
        self, samples: Samples, names: Sequence[str], geometry: AugmentConfig, size: tuple[int, int] | None, seed: int
    ) -> None:
        """size: of every template; None: each picture's own, of at most SIDE pixels a side. A mask is never scaled so
        small that something outside of the picture would be seen, nor turned by less than a quarter."""
        self.samples, self.names, self.size, self.seed = samples, tuple(names), size, seed
        self.geometry = geometry.geometry().model_copy(update={"rotate": 0.0, "stretch": 0.0})

    def identity(self) -> Mapping[str, Any]:
        told = self.geometry.model_dump(mode="json", include={"scale", "flip_horizontal", "flip_vertical", "transpose"})
        return {"kind": "real", "size": self.size, "names": _digest(self.names), **told}

    def __getitem__(self, number: int, /) -> Template:
        epoch, place = divmod(number, len(self.samples))
        sample = self.samples[int(permutation(len(self.samples), self.seed, epoch)[place])]
        height, width = sample.size
        crop = self.size or (min(height, SIDE), min(width, SIDE))
        turned = self.geometry.transpose > 0
        least = max(crop[0] / height, crop[1] / width, *((crop[0] / width, crop[1] / height) if turned else (0.0,)))
        low, high = (max(each, least) for each in self.geometry.scale)
        config = self.geometry.model_copy(update={"crop": crop, "scale": (low, high)})
        blank = np.zeros((height, width, 1), np.uint8)  # where something is has nothing to do with how it looks
        moved = augment(
            Sample(sample.name, blank, sample.mask, sample.labels), config, np.random.default_rng((self.seed, number))
        )
        return Template(f"mask of {sample.name}", moved.mask, moved.labels)


class FileTemplates:
    """Mask files, one after the other."""

    def __init__(self, files: Sequence[Path], classes: Classes) -> None:
        self.files, self.classes = tuple(files), classes

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "files", "names": _digest([f"{each.name} {each.stat().st_size}" for each in self.files])}

    def __getitem__(self, number: int, /) -> Template:
        path = self.files[number % len(self.files)]
        return Template(path.name, read_classes(path, self.classes))


class DrawnTemplates:
    """Masks by a model: of what masks look like (shape_prior), or of pictures that were masks, a channel a class."""

    def __init__(self, model: Model, classes: Classes, seed: int, temperature: float = 1.0) -> None:
        self.model, self.classes, self.seed, self.temperature = model.eval(), classes, seed, temperature
        self._chunk = lru_cache(maxsize=4)(self._drawn)
        channels = model.config.channels if isinstance(model, Draws) else None
        if isinstance(model, ShapePrior) or channels == len(classes) or (channels == 1 and len(classes) == 2):
            return
        raise UsageError(
            f"--mask-run draws no masks of {len(classes)} classes; give the run of a shape_prior, or of a vae that was "
            f"trained on masks as pictures of {len(classes)} channels, one a class."
        )

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "drawn", "weights": fingerprint(self.model), "temperature": self.temperature}

    def __getitem__(self, number: int, /) -> Template:
        drawn = self._chunk(number // CHUNK)[number % CHUNK]
        source = "a drawn mask"
        if drawn.ndim == 3:
            return Template(source, labels=drawn.astype(np.int8))
        return Template(source, drawn.astype(np.int16))

    def _drawn(self, chunk: int) -> np.ndarray:
        """(CHUNK, H, W) class numbers, or (CHUNK, K, H, W) labels."""
        numbers = range(chunk * CHUNK, (chunk + 1) * CHUNK)
        if isinstance(self.model, ShapePrior):
            generators = [generator_of(self.seed + OF_MASKS, number) for number in numbers]
            with torch.inference_mode():
                return self.model.draw_masks(CHUNK, generators, self.temperature).cpu().numpy()
        assert isinstance(self.model, Draws)
        planes = torch.stack(list(draw(self.model, numbers, self.seed + OF_MASKS)))  # N C H W
        if self.classes.overlapping:
            return (planes > 0.5).numpy()
        return (planes.argmax(dim=1) if planes.shape[1] > 1 else (planes[:, 0] > 0.5).long()).numpy()


def makes_pairs(model: Model) -> bool:
    """Whether a model draws pictures for masks, or with them."""
    told = isinstance(model, Diffusion) and model.config.condition == "mask"
    return told or isinstance(model, PairGAN) or (isinstance(model, Pix2Pix) and model.config.task == "mask_to_picture")


def size_of(model: Model) -> tuple[int, int] | None:
    """The only size that a model of pairs draws; None where it draws any."""
    return model.config.size if isinstance(model, GenerativeModel) and not isinstance(model, Pix2Pix) else None


def pairs(
    model: Model, templates: Templates | None, numbers: Iterable[int], seed: int
) -> Iterator[tuple[Template, np.ndarray]]:
    """What each picture shows, and the picture (C, H, W) float32 in [0, 1], for numbers >= 0 in the order asked; the
    model is in eval mode. templates: None for a model that draws masks itself."""
    device = next(model.parameters()).device
    if isinstance(model, PairGAN):
        for chunk, together in groupby(numbers, lambda number: number // CHUNK):
            noise = model.noise([generator_of(seed, i) for i in range(chunk * CHUNK, (chunk + 1) * CHUNK)])
            with torch.inference_mode():
                pictures, masks = (each.float().cpu() for each in model.pairs(noise.to(device)))
            for number in together:
                mask = masks[number % CHUNK].argmax(dim=0).numpy().astype(np.int16)
                yield Template("drawn with its picture", mask), pictures[number % CHUNK].numpy()
        return
    assert templates is not None and isinstance(model, Pix2Pix | Diffusion)
    classes = model.config.classes
    if isinstance(model, Pix2Pix):
        tiling = Tiling(None, WHOLE_CPU, 0.25, MULTIPLE)
        for number in numbers:
            template = templates[number]
            with torch.inference_mode():
                yield template, predict_tiled(lambda x: model(x.to(device)), template.planes(classes), tiling)
        return

    @lru_cache(maxsize=2 * CHUNK)
    def wanted(number: int) -> Template:
        return templates[number].at(model.config.size, classes)

    def condition(number: int) -> Tensor:
        return torch.from_numpy(np.moveaxis(wanted(number).planes(classes), -1, 0).copy())

    listed = list(numbers)
    for number, picture in zip(listed, draw(model, listed, seed, condition), strict=True):
        yield wanted(number), picture.numpy()


def agreement(template: Template, answer: Prediction) -> float:
    """Mean IoU over the classes that a mask shows, [0, 1], NaN where it shows none: see AGREEMENT."""
    classes = len(answer.classes)
    if template.labels is not None:
        several = LabelConfusion.zeros(classes)
        several.add(template.labels, answer.labels)
        return several.mean_iou
    assert template.mask is not None
    one = Confusion.zeros(classes)
    one.add(template.mask, answer.mask)
    return one.mean_iou


def synthesize_files(
    model: Model,
    classes: Classes,
    templates: Templates | None,
    out: Path,
    count: int,
    *,
    judge: Predictor | None = None,
    agree: float = 0.7,
    seed: int = 0,
    deep: bool = False,
    told: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Step | None = None,
) -> Summary:
    """Write pairs 0 to `count - 1` of a seed into `out`, but for those whose agreement with the judge is below `agree`;
    the same call again goes on. deep: pictures are written with 16 bits. told: what else is noted in synthesis.json."""
    began = time.monotonic()
    settings: dict[str, Any] = {
        "generator": fingerprint(model),
        "classes": list(classes.names),
        "masks": "drawn with the pictures" if templates is None else dict(templates.identity()),
        "filter": None if judge is None else judge.settings(),
        "agree": None if judge is None else agree,
        "seed": seed,
    }
    settings = json.loads(json.dumps(settings))  # as it will be read again: lists for tuples
    folder = PairFolder(out, "synthesis", classes)
    names = {f"made-{number:06d}": number for number in range(count)}
    with writing(out):
        done = folder.begin(settings, overwrite)
        ready = {
            name for name, row in done.items() if not row["kept"] or all(f.is_file() for f in _whole(folder, name))
        }
        waiting = [name for name in names if name not in ready]
        skipped = count - len(waiting)
        made = pairs(model, templates, (names[name] for name in waiting), seed)
        for index, name in enumerate(waiting, start=1):
            row = _made(folder, name, _guarded(made), judge, agree, deep)
            folder.note(row)
            done[name] = row
            if progress is not None:
                progress(skipped + index, count)
        rows = [done[name] for name in sorted(done)]  # more than `count` where more were asked for before
        kept = [row for row in rows if row["kept"]]
        counts = {"drawn": len(rows), "kept": len(kept), "thrown": len(rows) - len(kept)}
        _write_sheet(folder, [row["name"] for row in kept[:SHOWN]], judge)
        folder.describe(settings, {"counts": counts, "agreement": AGREEMENT if judge else None, **(told or {})})
    numbers = {} if judge is None else {"agreement": float(np.mean([row["agreement"] or 0.0 for row in rows]))}
    seconds = time.monotonic() - began
    words = _words(counts, numbers, agree)
    return Summary(out, counts["kept"], counts["thrown"], skipped, (), seconds, words, numbers)


def _made(
    folder: PairFolder, name: str, pair: tuple[Template, np.ndarray], judge: Predictor | None, agree: float, deep: bool
) -> Row:
    """The picture and its mask are written, where the judge agrees; what is noted of them."""
    template, values = pair
    picture = np.ascontiguousarray(np.moveaxis(values, 0, -1)).clip(0, 1) if deep else to_uint8(values)
    likeness = None if judge is None else agreement(template, judge.predict(picture, name))
    likeness = None if likeness is None or np.isnan(likeness) else round(likeness, 4)
    kept = judge is None or (likeness is not None and likeness >= agree)
    if kept:
        folder.write_image(name, suffix_of(picture.shape[2]), encode_picture(picture))
        folder.write_labels(name, template.labelled)
    return {"name": name, "mask": template.source, "agreement": likeness, "kept": kept}


def _whole(folder: PairFolder, name: str) -> list[Path]:
    return [*(folder.image_files(name) or [folder.out / name]), *folder.mask_files(name)]


def _guarded(made: Iterator[tuple[Template, np.ndarray]]) -> tuple[Template, np.ndarray]:
    try:
        return next(made)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError("a picture does not fit into memory; take smaller masks, or --device cpu.") from None


def _write_sheet(folder: PairFolder, names: Sequence[str], judge: Predictor | None) -> None:
    """The first pairs side by side, to be looked at: picture, mask, and what the filter says of the picture."""
    path = folder.out / "sheet.png"
    if not names:
        remove_file(path)
        return
    opened = open_folder(folder.out, write_classes=False)
    shown = []
    for entry in opened.select(names).entries:
        sample = opened.read(entry)
        mask = sample.mask
        if sample.labels is not None:
            there = sample.labels == 1
            mask = np.where(there.any(axis=0), there.argmax(axis=0), IGNORE).astype(np.int16)
        assert mask is not None
        shown += [to_rgb8(sample.image), overlay(sample.image, mask, folder.classes)]
        if judge is not None:
            shown.append(judge.predict(sample.image).overlay())
    columns = 3 if judge is not None else 2
    write_atomically(path, encode_png(grid(shown, 2 * columns if len(names) > 1 else columns)))


def _words(counts: Mapping[str, int], numbers: Mapping[str, float], agree: float) -> str:
    if "agreement" not in numbers:
        return f"{counts['kept']} pairs; nobody looked whether the pictures show what their masks say: give a --filter."
    return (
        f"{counts['kept']} of {counts['drawn']} pairs are kept, {counts['thrown']} thrown away: there the filter's "
        f"answer and the mask have a mean IoU below {agree:g} (over the classes of the mask, of each picture by "
        f"itself); the mean over all pairs is {numbers['agreement']:.2f}."
        + (" Nothing is left to learn from: train the generator longer." if not counts["kept"] else "")
    )


def _digest(words: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(words).encode(errors="surrogateescape"), digest_size=8).hexdigest()
