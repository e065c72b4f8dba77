"""A model that holds a segmenter: which one is said in a section of its own, what both know is said once."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializationInfo, field_serializer, model_validator

from ..contract import PictureConfig, SemanticConfig, SemanticModel
from .deeplab import DeepLab, DeepLabConfig
from .fc_densenet import FCDenseNet, FCDenseNetConfig
from .fcn import FCN, FCNConfig
from .realtime import RealTime, RealTimeConfig
from .segnet import SegNet, SegNetConfig
from .unet import UNet, UNetConfig

#: the segmenters by name: for themselves, and inside others (but for those that have a loss of their own)
SEGMENTERS: dict[str, type[SemanticModel]] = {
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "deeplab": DeepLab,
    "fc_densenet": FCDenseNet,
    "realtime": RealTime,
}

AnySegmenter = Annotated[
    FCNConfig | UNetConfig | SegNetConfig | DeepLabConfig | FCDenseNetConfig | RealTimeConfig,
    Field(discriminator="name"),
]

SHARED = frozenset(SemanticConfig.model_fields)  # what the holder says once, for itself and for its segmenter


class HoldsSegmenter(PictureConfig):
    """What says which segmenter is inside."""

    segmenter: AnySegmenter = UNetConfig()  # its channels, classes, statistics and loss are the whole model's

    @model_validator(mode="before")
    @classmethod
    def _said_once(cls, given: Any) -> Any:
        inner = given.get("segmenter") if isinstance(given, dict) else None
        twice = sorted(SHARED & inner.keys()) if isinstance(inner, dict) else []
        if twice:
            raise ValueError(f"segmenter.{twice[0]} is that of the whole model; set model.{twice[0]} instead.")
        if isinstance(inner, dict) and "name" not in inner:  # settings of the segmenter there is by default
            return given | {"segmenter": {"name": "unet"} | inner}
        return given

    @field_serializer("segmenter")
    def _own_settings(self, segmenter: AnySegmenter, info: SerializationInfo) -> dict[str, Any]:
        options: dict[str, Any] = {"mode": info.mode, "exclude_none": info.exclude_none}
        own = segmenter.model_dump(exclude=set(SHARED), exclude_unset=info.exclude_unset, **options)
        return {"name": segmenter.name} | own


def build_segmenter(config: Any, shared: PictureConfig, classes: int | None = None) -> SemanticModel:
    """The segmenter (an AnySegmenter) with the channels, statistics, classes and loss of what holds it, as far as that
    has them. classes: how many maps it gives, in place of the holder's."""
    facts = {name: getattr(shared, name) for name in SHARED & type(shared).model_fields.keys()}
    if classes is not None:
        facts["classes"] = classes
    return SEGMENTERS[config.name](config.model_copy(update=facts))
