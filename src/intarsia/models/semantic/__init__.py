"""Pictures to a class for every pixel."""

from typing import Annotated, Any

from pydantic import Field

from ..contract import SemanticConfig, SemanticModel
from .deeplab import DeepLab, DeepLabConfig
from .fc_densenet import FCDenseNet, FCDenseNetConfig
from .fcn import FCN, FCNConfig
from .probabilistic_unet import ProbabilisticUNet, ProbabilisticUNetConfig
from .segnet import SegNet, SegNetConfig
from .unet import UNet, UNetConfig

#: the segmenters by name: for themselves, and inside combinations (but for those that have a loss of their own)
SEGMENTERS: dict[str, type[SemanticModel]] = {
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "deeplab": DeepLab,
    "fc_densenet": FCDenseNet,
}

AnySegmenter = Annotated[
    FCNConfig | UNetConfig | SegNetConfig | DeepLabConfig | FCDenseNetConfig, Field(discriminator="name")
]


def build_segmenter(config: Any, shared: SemanticConfig) -> SemanticModel:
    """The segmenter (an AnySegmenter) with the channels, classes, statistics and loss of what holds it."""
    facts = {name: getattr(shared, name) for name in SemanticConfig.model_fields}
    return SEGMENTERS[config.name](config.model_copy(update=facts))


__all__ = [
    "FCN",
    "SEGMENTERS",
    "AnySegmenter",
    "DeepLab",
    "DeepLabConfig",
    "FCDenseNet",
    "FCDenseNetConfig",
    "FCNConfig",
    "ProbabilisticUNet",
    "ProbabilisticUNetConfig",
    "SegNet",
    "SegNetConfig",
    "UNet",
    "UNetConfig",
    "build_segmenter",
]
