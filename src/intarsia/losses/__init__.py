"""What training descends, one file a family."""

from .config import LossConfig, class_weights
from .lovasz import lovasz_loss
from .pixelwise import focal, weighted_mean
from .region import dice_loss, jaccard_loss, tversky_loss
from .semantic import SegmentationLoss

__all__ = [
    "LossConfig",
    "SegmentationLoss",
    "class_weights",
    "dice_loss",
    "focal",
    "jaccard_loss",
    "lovasz_loss",
    "tversky_loss",
    "weighted_mean",
]
