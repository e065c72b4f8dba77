"""Ways to deal with rare classes, each as settings over a plan, so that they can be compared like with like."""

from __future__ import annotations

from typing import Any


def _ways() -> dict[str, dict[str, Any]]:
    plain: dict[str, Any] = {
        "model.loss": {"terms": {"cross_entropy": 1.0}},
        "augment.rare_crops": 0.0,
        "augment.copy_paste": 0.0,
    }

    def loss(class_weights: str = "none", **terms: float) -> dict[str, Any]:
        return {**plain, "model.loss": {"terms": terms, "class_weights": class_weights}}

    return {
        "none": plain,
        "weights_sqrt": loss("sqrt", cross_entropy=1.0),
        "weights_inverse": loss("inverse", cross_entropy=1.0),
        "weights_effective": loss("effective", cross_entropy=1.0),
        "rare_crops": {**plain, "augment.rare_crops": 0.5},
        "focal": loss(focal=1.0),
        "dice": loss(cross_entropy=1.0, dice=1.0),
        "tversky": loss(cross_entropy=1.0, tversky=1.0),
        "copy_paste": {**plain, "augment.copy_paste": 0.5},
        "combination": {
            **loss("sqrt", cross_entropy=1.0, dice=0.5),
            "augment.rare_crops": 0.3,
            "augment.copy_paste": 0.3,
        },
    }


#: name -> settings for `fit(settings=...)` that put all of these levers, and nothing else, where the way wants them:
#: none               cross entropy, pixels alike, crops anywhere
#: weights_*          cross entropy with class weights from the training pixels (see losses/config.py)
#: rare_crops         half of the crops centred on a class drawn by rarity
#: focal, dice, tversky   the loss; the region terms beside cross entropy, as they start badly alone
#: copy_paste         half of the pictures with up to three regions of rare classes of others (see data/copy_paste.py)
#: combination        what `plan` takes where classes are rare (square-root weights, Dice, rare crops), and copy-paste
IMBALANCE: dict[str, dict[str, Any]] = _ways()
