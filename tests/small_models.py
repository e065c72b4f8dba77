"""Models so small that a step takes milliseconds, one line each, and batches whose truth is known."""

from typing import Any

import torch
from pydantic import TypeAdapter

from intarsia.models import AnyModel, SemanticModel, build
from intarsia.records import IGNORE, Batch

#: name of the case -> configuration of a model so small that a step takes milliseconds
SMALL: dict[str, dict[str, Any]] = {
    "fcn": {"name": "fcn", "encoder": "tiny", "auxiliary": True, "dropout": 0.0},
    "fcn-dilated": {"name": "fcn", "encoder": "tiny", "variant": "dilated", "auxiliary": True},
    "unet": {"name": "unet", "width": 8, "depth": 2, "auxiliary": True},
    "unet-encoder": {"name": "unet", "encoder": "tiny", "width": 8},
    "segnet": {"name": "segnet", "width": 8},
    "segnet-basic": {"name": "segnet", "width": 8, "variant": "basic"},
    "deeplab": {"name": "deeplab", "encoder": "tiny", "width": 16, "auxiliary": True, "dropout": 0.0},
    "deeplab-v3": {"name": "deeplab", "encoder": "tiny", "width": 16, "version": "v3", "output_stride": 8},
    "fc_densenet": {"name": "fc_densenet", "growth": 4, "layers": (2, 2, 2), "stem": 8, "dropout": 0.0},
    "realtime": {"name": "realtime", "encoder": "tiny", "width": 16, "auxiliary": True},
    "probabilistic_unet": {"name": "probabilistic_unet", "width": 8, "depth": 2, "latent": 3},
    "mean_teacher": {"name": "mean_teacher", "segmenter": {"name": "unet", "width": 8, "depth": 2}},
    "fixmatch": {"name": "fixmatch", "segmenter": {"name": "unet", "width": 8, "depth": 2}, "threshold": 0.0},
    "fixmatch-classmix": {
        "name": "fixmatch",
        "segmenter": {"name": "fcn", "encoder": "tiny", "dropout": 0.0},
        "mix": "classmix",
        "thresholds": "quantile",
    },
    "unimatch": {"name": "unimatch", "segmenter": {"name": "unet", "width": 8, "depth": 2}, "threshold": 0.0},
    "adversarial": {"name": "adversarial", "segmenter": {"name": "unet", "width": 8, "depth": 2}, "critic_width": 8},
    "adversarial-pictures": {
        "name": "adversarial",
        "segmenter": {"name": "fcn", "encoder": "tiny", "dropout": 0.0},
        "critic_sees": "labels_and_picture",
        "critic_width": 8,
        "critic_depth": 2,
    },
    "shape_prior": {
        "name": "shape_prior",
        "segmenter": {"name": "unet", "width": 8, "depth": 2},
        "mask_size": (16, 16),
        "width": 4,
        "latent": 4,
    },
    "segmentation_autoencoder": {
        "name": "segmentation_autoencoder",
        "segmenter": {"name": "unet", "width": 8, "depth": 2},
        "width": 8,
    },
    "segmentation_autoencoder-blind": {
        "name": "segmentation_autoencoder",
        "segmenter": {"name": "unet", "width": 8, "depth": 2, "auxiliary": True},
        "blind_spot": True,
        "finest_skip": 1,
        "width": 8,
    },
    "vae_segmenter": {
        "name": "vae_segmenter",
        "segmenter": {"name": "unet", "width": 8, "depth": 2},
        "width": 8,
        "latent": 4,
    },
    "frozen_features": {"name": "frozen_features", "segmenter": {"name": "unet", "width": 8, "depth": 2}, "width": 16},
    "wnet": {
        "name": "wnet",
        "segmenter": {"name": "unet", "width": 8, "depth": 2},
        "cut": 0.2,
        "reconstruction": 0.2,
        "cut_side": 32,
        "decoder_width": 4,
        "decoder_depth": 1,
    },
}
ANY_MODEL: TypeAdapter[Any] = TypeAdapter(AnyModel)


def made(case: str, seed: int = 0, **options: Any) -> SemanticModel:
    torch.manual_seed(seed)
    model = build(ANY_MODEL.validate_python({**SMALL[case], **options}))
    assert isinstance(model, SemanticModel)
    return model


def squares(count: int = 2, channels: int = 3, height: int = 64, width: int = 96) -> Batch:
    """Bright squares (class 1) on a dark, noisy ground (class 0); the last columns are IGNORE."""
    images = 0.3 * torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(count, height, width, dtype=torch.int64)
    for i in range(count):
        images[i, :, 8 : 8 + 24, 16 + 8 * i : 48 + 8 * i] += 0.6
        masks[i, 8 : 8 + 24, 16 + 8 * i : 48 + 8 * i] = 1
    masks[:, :, -4:] = IGNORE
    return Batch(images, masks, labelled=torch.ones(count, dtype=torch.bool))


def as_labels(batch: Batch) -> Batch:
    """The same, for two classes that may overlap."""
    assert batch.masks is not None
    labels = torch.stack([batch.masks == 0, batch.masks == 1], dim=1).float()
    labels[(batch.masks == IGNORE).unsqueeze(1).expand_as(labels)] = IGNORE
    return Batch(batch.images, labels=labels, labelled=batch.labelled)


def without_labels(batch: Batch) -> Batch:
    masks = None if batch.masks is None else torch.full_like(batch.masks, IGNORE)
    labels = None if batch.labels is None else torch.full_like(batch.labels, IGNORE)
    return Batch(batch.images, masks, labels, labelled=torch.zeros(len(batch), dtype=torch.bool))
