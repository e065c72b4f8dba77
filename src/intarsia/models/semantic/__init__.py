"""Pictures to a class for every pixel."""

from .deeplab import DeepLab, DeepLabConfig
from .fc_densenet import FCDenseNet, FCDenseNetConfig
from .fcn import FCN, FCNConfig
from .holding import SEGMENTERS, SHARED, AnySegmenter, HoldsSegmenter, build_segmenter
from .probabilistic_unet import ProbabilisticUNet, ProbabilisticUNetConfig
from .realtime import RealTime, RealTimeConfig
from .segnet import SegNet, SegNetConfig
from .unet import UNet, UNetConfig

__all__ = [
    "FCN",
    "SEGMENTERS",
    "SHARED",
    "AnySegmenter",
    "DeepLab",
    "DeepLabConfig",
    "FCDenseNet",
    "FCDenseNetConfig",
    "FCNConfig",
    "HoldsSegmenter",
    "ProbabilisticUNet",
    "ProbabilisticUNetConfig",
    "RealTime",
    "RealTimeConfig",
    "SegNet",
    "SegNetConfig",
    "UNet",
    "UNetConfig",
    "build_segmenter",
]
