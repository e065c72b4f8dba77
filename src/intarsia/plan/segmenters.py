"""The rules for segmenters. They are few and in the order in which they are used. They were settled on validation
pictures of street scenes, cracks, cell membranes and nuclei (`docs/results.md`); where a set is unlike these, edit the
file that `plan` writes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..data.fingerprint import Fingerprint, for_channels
from ..data.sets import Sets
from ..losses import class_weights
from ..models import MODELS
from ..models.combined import Combination
from ..models.contract import SemanticModel

CPU_CROP, GPU_CROP = 288 * 384, 512 * 512  # pixels of a training crop
RARE = 0.03  # a class with a smaller share of the pixels is called rare
FEWEST = 4  # labelled pictures that can say so
EXPOSURES = 3.0  # times the contrast (a tenth of the pictures against a tenth) from which levels are each picture's own
UPRIGHT = 0.75  # a class with this share of its pixels in one half of the pictures says where up is


def rules(sets: Sets, picture: Fingerprint, device: str, model: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    classes = sets.classes
    tree, reasons = shared_rules(sets, picture, device, CPU_CROP)
    upright = finds_up(sets)
    rare = rare_classes(sets, picture)

    loss: dict[str, Any] = {"terms": {"cross_entropy": 1.0}}
    if rare or len(classes) == 2:
        loss["terms"] = {"cross_entropy": 1.0, "dice": 0.5 if len(classes) > 2 else 1.0}
        reasons["model.loss.terms.dice"] = (
            f"{', '.join(rare[:6])} are rare (under {RARE:.0%} of the pixels): Dice counts each class alike" if rare
            else "two classes: Dice follows the overlap that is measured"
        )  # fmt: skip
    if rare and not classes.overlapping:
        loss["class_weights"] = "sqrt"
        loss["weights"] = [round(w, 4) for w in class_weights(picture.class_pixels, "sqrt")]
        reasons["model.loss.class_weights"] = "halfway between weighing pixels alike and classes alike"
        reasons["model.loss.weights"] = "from the training pixels: the inverse root of each class's share"
    tree["model"] |= {"name": model or "unet", "overlapping": classes.overlapping, "loss": loss}
    combined = model is not None and issubclass(MODELS.get(model, SemanticModel), Combination)
    own, section = tree["model"], "model"  # where the settings of the segmenter itself stand
    if combined:
        own, section = tree["model"].setdefault("segmenter", {"name": "unet"}), "model.segmenter"
        reasons["model.segmenter.name"] = "the sturdiest from few pictures, inside the combination as alone"
    decoder = combined or model in (None, "unet", "probabilistic_unet")  # what ends in the decoder of a U-Net
    if decoder:
        add_decoder(own, section, reasons, upright)
    reasons["model.name"] = (
        "as asked for" if model else "the sturdiest from few pictures; `intarsia models` lists the others"
    )
    if classes.overlapping:
        reasons["model.overlapping"] = "each class has mask files of its own, so a pixel may be of several or of none"
    add_recommended(tree, reasons, model)
    return tree, reasons


def shared_rules(sets: Sets, picture: Fingerprint, device: str, cpu_crop: int) -> tuple[dict[str, Any], dict[str, str]]:
    """What goes for every model that learns from masks or objects: what the pictures are, how they may be changed, and
    how it is trained. cpu_crop: pixels of a crop on a processor."""
    classes, cpu = sets.classes, device == "cpu"
    upright = finds_up(sets)
    rare = rare_classes(sets, picture)
    height, width = picture.median
    exposed = exposures_differ(sets)
    tree: dict[str, Any] = {
        "model": {
            "channels": sets.train.channels,
            "classes": len(classes),
            "mean": [round(float(m), 4) for m in for_channels(picture.mean, sets.train.channels)],
            "deviation": [round(max(float(d), 1e-3), 4) for d in for_channels(picture.deviation, sets.train.channels)],
        },
        "augment": {
            "crop": crop_for(picture.median, cpu_crop if cpu else GPU_CROP),
            "scale": [0.7, 1.6] if upright else [0.8, 1.25],
            "rotate": 5.0 if upright else 15.0,
            "flip_vertical": 0.0 if upright else 0.5,
            "transpose": 0.0 if upright else 0.5,
            "rare_crops": 0.3 if rare else 0.0,
            "tint": 0.1 if sets.train.channels == 3 else 0.0,
            "shadow": 0.2 if upright else 0.0,
        },
        "train": {
            "batch": 8 if cpu else 16,
            "learning_rate": 2e-3,
            "optimizer": "adamw",
            "weight_decay": 0.02,
            "schedule": "cosine",
        },
    }
    reasons = {
        "augment.crop": f"of pictures that are mostly {height}x{width}; larger crops cost time, smaller ones context",
        "train.batch": "8 keeps batch statistics steady and a processor busy" if cpu else "16 keep a GPU busy",
        "model.channels": "what all pictures can be shown with",
        "model.classes": f"{', '.join(classes.names[:6])}{', …' if len(classes) > 6 else ''}",
        "model.mean": "of the training pictures; the model standardises by it inside",
        "model.deviation": "likewise, over all pixels of all of them",
        "augment.flip_vertical": "the classes show which way is up: pictures are not turned over"
        if upright
        else "no class shows which way is up: all eight orientations are used",
        "augment.transpose": "likewise",
        "augment.rotate": "a camera held a little askew" if upright else "what the eight orientations leave open",
        "augment.scale": "things near and far" if upright else "one magnification, with some play",
        "train.learning_rate": "for AdamW and nets of this size, trained from scratch",
        "train.weight_decay": "twice the default: few pictures are learnt by heart soon",
        "train.schedule": "falls to zero at the end of the budget: the last steps average, the first explore",
    }
    if exposed:
        tree["model"]["levels"] = "picture"
        del tree["model"]["mean"], tree["model"]["deviation"]  # of stretched pictures; fit measures them
        del reasons["model.mean"], reasons["model.deviation"]
        reasons["model.levels"] = "some pictures have many times the contrast of others: each is stretched to its own"
    if sets.train.channels == 3:
        reasons["augment.tint"] = "the colour of the light, or of a stain, differs from picture to picture"
    if rare:
        reasons["augment.rare_crops"] = f"so that {', '.join(rare[:4])} are seen often enough"
    if upright:
        reasons["augment.shadow"] = "light and shade vary out of doors"
    return tree, reasons


def exposures_differ(sets: Sets) -> bool:
    """Whether some pictures have many times the contrast of others, as microscopes give, and daylight does not."""
    contrasts = [float(np.sqrt(each.variance.mean())) for each in sets.measures]
    low, high = np.percentile(contrasts, (10, 90)) if contrasts else (1.0, 1.0)
    return bool(high > EXPOSURES * max(low, 1e-6))


def rare_classes(sets: Sets, picture: Fingerprint) -> list[str]:
    """The names of classes that are there, but on few of the labelled pixels."""
    return [name for name, share in zip(sets.classes.names, picture.shares, strict=True) if 0 < share < RARE]


def add_decoder(own: dict[str, Any], section: str, reasons: dict[str, str], upright: bool) -> None:
    """Writes the encoder and decoder of a U-Net into `own`, the settings that stand at `section`."""
    if upright:
        own |= {"encoder": "medium", "finest": 4, "width": 12}
        reasons[f"{section}.encoder"] = "things of many sizes need depth; plain 3x3 convolutions suit a processor"
        reasons[f"{section}.width"] = "of the decoder, counted at full size: it ends with four times as many"
        reasons[f"{section}.finest"] = "the decoder ends at quarter size: the time is better spent on deeper features"
    else:
        own |= {"encoder": "small", "finest": 1, "width": 16}
        reasons[f"{section}.encoder"] = (
            "texture and outline decide more than context; a small net learns from few pictures"
        )
        reasons[f"{section}.finest"] = "the decoder goes on to full size, for thin parts and exact outlines"
        reasons[f"{section}.width"] = "of the decoder at full size, where channels cost most"


def add_recommended(tree: dict[str, Any], reasons: dict[str, str], model: str | None) -> None:
    """Writes over the rules what the model itself says of how it is best trained."""
    for dotted, value in (MODELS[model].recommended if model in MODELS else {}).items():
        *sections, key = dotted.split(".")
        branch = tree
        for name in sections:
            branch = branch.setdefault(name, {})
        branch[key] = value
        for told in [each for each in reasons if f"{each}.".startswith(f"{dotted}.")]:
            del reasons[told]
        reasons[dotted] = f"what suits {model}"


def crop_for(size: tuple[int, int], pixels: int) -> list[int]:
    """Height and width of a crop: of a picture's shape, in multiples of 32, of at most about `pixels`."""
    height, width = max(size[0], 1), max(size[1], 1)
    factor = min(1.0, math.sqrt(pixels / (height * width)))
    return [max(64, 32 * round(factor * side / 32)) for side in (height, width)]


def finds_up(sets: Sets, most: int = 40) -> bool:
    """Whether some class keeps to the upper or the lower half of the pictures (sky, road): they have an up."""
    labelled = sets.train.labelled()
    if len(labelled) < FEWEST:  # of so few pictures, a class leans to one half by chance
        return False
    every = max(1, len(labelled) // most)
    counts = np.zeros((2, len(sets.classes)))
    for index in range(0, len(labelled), every):
        sample = labelled[index]
        planes = (
            sample.labels == 1
            if sample.labels is not None
            else sample.mask[None] == np.arange(len(sets.classes))[:, None, None]  # type: ignore[index]
        )
        middle = planes.shape[1] // 2
        counts += np.stack([planes[:, :middle].sum(axis=(1, 2)), planes[:, -middle:].sum(axis=(1, 2))])
    total = counts.sum(axis=0)
    seen = total > 0.03 * total.sum()
    leaning = counts[:, seen].max(axis=0) / np.maximum(total[seen], 1)
    return bool((leaning > UPRIGHT).any())
