"""Pictures to a class for every pixel."""

from .deeplab import DeepLab, DeepLabConfig
from .fc_densenet import FCDenseNet, FCDenseNetConfig
from .fcn import FCN, FCNConfig
from .segnet import SegNet, SegNetConfig
from .unet import UNet, UNetConfig

__all__ = [
    "FCN",
    "DeepLab",
    "DeepLabConfig",
    "FCDenseNet",
    "FCDenseNetConfig",
    "FCNConfig",
    "SegNet",
    "SegNetConfig",
    "UNet",
    "UNetConfig",
]
