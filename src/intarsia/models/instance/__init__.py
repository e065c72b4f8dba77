"""Pictures to objects."""

from .instance_segnet import InstanceSegNet, InstanceSegNetConfig
from .mask_rcnn import MaskRCNN, MaskRCNNConfig
from .watershed import Watershed, WatershedConfig

__all__ = ["InstanceSegNet", "InstanceSegNetConfig", "MaskRCNN", "MaskRCNNConfig", "Watershed", "WatershedConfig"]
