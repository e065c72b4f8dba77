"""The rules for models of objects, on top of those that go for every model that learns from labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.fingerprint import Fingerprint
from ..data.sets import Sets
from ..models import MODELS
from ..models.semantic import HoldsSegmenter
from .segmenters import add_decoder, add_recommended, shared_rules

CPU_CROP = 256 * 256  # pixels of a training crop: objects need less around them than scenes do
DEFAULT = "instance_segnet"
SMALL = 24.0  # pixels: the median side of objects below which the network looks at them at full size


def rules(sets: Sets, picture: Fingerprint, device: str, model: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    tree, reasons = shared_rules(sets, picture, device, CPU_CROP)
    name = model or DEFAULT
    tree["model"]["name"] = name
    reasons["model.name"] = "as asked for" if model else "objects are numbered: the model that tells neighbours apart"
    sizes = np.concatenate([np.zeros((0, 2)), *(each.objects for each in sets.measures if each.objects is not None)])
    side = float(np.median(sizes)) if len(sizes) else SMALL
    if name in MODELS and issubclass(MODELS[name].Config, HoldsSegmenter):
        own = tree["model"].setdefault("segmenter", {"name": "unet"})
        reasons["model.segmenter.name"] = "joined maps of every size: outlines as exact as objects are small"
        add_decoder(own, "model.segmenter", reasons, upright=False)
        if side < SMALL:
            own |= {"encoder": "plain", "depth": 4}
            reasons["model.segmenter.encoder"] = (
                f"objects are mostly {side:.0f} pixels wide: they are seen at full size"
            )
            reasons["model.segmenter.width"] = "channels at full size, doubled with each halving"
            reasons["model.segmenter.depth"] = "halvings: the deepest map sees a few objects at once"
    if len(sizes) and name == DEFAULT:
        tree["model"]["unit"] = round(max(side / 2, 2.0), 1)
        reasons["model.unit"] = "half the median side of the objects: ways to centres are then about 1"
    if device == "cpu":
        tree["train"]["batch"] = 4
        reasons["train.batch"] = "a crop holds many objects: more steps in the same time"
    if name == "mask_rcnn":
        reasons["model.anchor_sizes"] = "of the objects' sizes: a tenth of them are smaller than the finest level's"
        reasons["model.anchor_ratios"] = "height over width of the objects: the lowest tenth, the middle, the highest"
    tree["augment"]["scale"] = [0.7, 1.4]
    reasons["augment.scale"] = "objects of one kind differ in size; so they do between instruments"
    add_recommended(tree, reasons, name)
    return tree, reasons
