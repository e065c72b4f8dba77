"""torchvision's weights for FCN, DeepLab v3 and Mask R-CNN, in our models: trained on COCO, the first two with the 21
classes of Pascal VOC, Mask R-CNN with COCO's own 91.

To have them:

    model = build(torchvision_config("deeplabv3_resnet50"))
    load_torchvision(model, fetch_torchvision("deeplabv3_resnet50"))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..errors import UsageError
from .contract import Model
from .instance.mask_rcnn import MaskRCNN, MaskRCNNConfig
from .semantic.deeplab import DeepLab, DeepLabConfig
from .semantic.fcn import FCN, FCNConfig

SegmenterName = Literal["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"]
MaskRCNNName = Literal["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"]
TorchvisionName = Literal[
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
]
COCO_CLASSES = 91  # the background, and 90 numbers, of which torchvision's Mask R-CNN uses 80
EPSILON = 1e-5  # of batch norms; torchvision's first Mask R-CNN was trained with none

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision applies them outside

#: where a tensor's name begins in torchvision -> in ours; the first that fits
BACKBONE = {"backbone.": "encoder.net.", "aux_classifier.": "auxiliary_head."}
FCN_NAMES = {**BACKBONE, "classifier.": "head."}
DEEPLAB_NAMES = {
    **BACKBONE,
    "classifier.0.convs.4.1.": "aspp.pooling.conv.",
    "classifier.0.convs.4.2.": "aspp.pooling.norm.",
    "classifier.0.convs.": "aspp.branches.",
    "classifier.0.project.": "aspp.project.",
    "classifier.1.": "refine.0.",
    "classifier.2.": "refine.1.",
    "classifier.4.": "classifier.",
}

MASK_RCNN_NAMES = {
    "backbone.body.": "encoder.net.",
    "backbone.fpn.": "pyramid.",
    "rpn.head.": "proposal_head.",
    "roi_heads.": "",
}
#: how names were written when the weights were made -> how they are written now
OLD_NAMES = (
    (re.compile(r"(backbone\.fpn\.\w+_blocks\.\d)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)"), r"\1.0.0.\2"),
)
OLD_MASK_HEAD = re.compile(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)")  # counted from 1

FIRST_CONVOLUTION = "encoder.net.conv1.weight"
LAST_LAYERS: dict[type[Model], tuple[str, ...]] = {  # whose shape depends on the number of classes
    FCN: ("head.4.", "auxiliary_head.4."),
    DeepLab: ("classifier.", "auxiliary_head.4."),
    MaskRCNN: ("box_predictor.", "mask_predictor.mask_fcn_logits."),
}
NOT_LEARNT = ("mean", "deviation", "criterion.")  # of our state, told by the configuration


def torchvision_config(name: SegmenterName, classes: int = 21) -> FCNConfig | DeepLabConfig:
    """The configuration whose model computes what torchvision's of that name computes, auxiliary head included."""
    architecture, backbone = name.split("_")
    encoder = f"timm/{backbone}"
    if architecture == "fcn":
        return FCNConfig(
            classes=classes,
            mean=IMAGENET_MEAN,
            deviation=IMAGENET_DEVIATION,
            encoder=encoder,
            variant="dilated",
            auxiliary=True,
            padded=False,
        )
    return DeepLabConfig(
        classes=classes,
        mean=IMAGENET_MEAN,
        deviation=IMAGENET_DEVIATION,
        encoder=encoder,
        version="v3",
        output_stride=8,
        auxiliary=True,
        dropout=0.5,
        padded=False,
    )


def mask_rcnn_config(name: MaskRCNNName, classes: int = COCO_CLASSES) -> MaskRCNNConfig:
    """The configuration whose model detects what torchvision's Mask R-CNN of that name detects."""
    second = name == "maskrcnn_resnet50_fpn_v2"
    return MaskRCNNConfig(
        classes=classes,
        mean=IMAGENET_MEAN,
        deviation=IMAGENET_DEVIATION,
        encoder="timm/resnet50",
        frozen_norm=True,
        pyramid=256,
        norm="batch" if second else "none",
        shorter_side=800,
        longer_side=1333,
        proposal_depth=2 if second else 1,
        box_samples=512,
        box_width=1024,
        box_depth=4 if second else 0,
        mask_width=256,
        aligned=False,
        detections=100,
    )


def fetch_torchvision(name: TorchvisionName) -> dict[str, Tensor]:
    """torchvision's own weights of that name, downloaded once and kept in torch's cache, checked by their hash.

    Raises UsageError where they can't be fetched.
    """
    from torchvision.models import get_model_weights

    try:
        state = dict(get_model_weights(name).DEFAULT.get_state_dict(check_hash=True, weights_only=True))  # type: ignore[attr-defined]
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"torchvision's weights {name} can't be fetched ({error}); connect to the network once, or put the file "
            f"into {torch.hub.get_dir()}/checkpoints."
        ) from error
    return without_epsilon(state) if name == "maskrcnn_resnet50_fpn" else state


def without_epsilon(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network whose batch norms add no epsilon to the variance, for norms that do."""
    return {name: each - EPSILON if name.endswith("running_var") else each for name, each in state.items()}


def load_torchvision(model: Model, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names of the tensors left as they were, after all others were loaded from torchvision's state dict.

    Left are the last layers where the model has another number of classes, and nothing else. The first convolution is
    converted to the model's number of channels: summed for one, repeated and rescaled for more.

    Raises UsageError where model and weights are not of one kind, and leaves the model alone then.
    """
    if not isinstance(model, FCN | DeepLab | MaskRCNN):
        raise UsageError(
            f"torchvision has no weights for {type(model).__name__}; they fit FCN, DeepLab v3 and Mask R-CNN."
        )
    names = FCN_NAMES if isinstance(model, FCN) else DEEPLAB_NAMES if isinstance(model, DeepLab) else MASK_RCNN_NAMES
    unlike = f"these weights are not those of this {type(model).__name__} (build it by `torchvision_config`)"
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(NOT_LEARNT)}
    loaded: dict[str, Tensor] = {}
    left: list[str] = []
    for theirs, tensor in state.items():
        ours = _renamed(theirs, names)
        if not isinstance(model, MaskRCNN) and ours.startswith("auxiliary_head.") and model.auxiliary_head is None:
            continue
        if ours not in own:
            raise UsageError(f"{unlike}: they hold {theirs}, which the model has not.")
        shape = own[ours].shape
        if ours == FIRST_CONVOLUTION and tensor.shape[1] != shape[1]:
            tensor = _for_channels(tensor, shape[1])
        if tensor.shape == shape:
            loaded[ours] = tensor
        elif ours.startswith(LAST_LAYERS[type(model)]) and tensor.shape[1:] == shape[1:]:
            left.append(ours)
        else:
            raise UsageError(f"{unlike}: {theirs} is {tuple(tensor.shape)} where the model has {tuple(shape)}.")
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # which frozen norms have not
    missing = sorted(own.keys() - loaded.keys() - set(left) - counters)
    if missing:
        raise UsageError(f"{unlike}: they lack {missing[0]}, and {len(missing) - 1} more.")
    model.load_state_dict(loaded, strict=False)
    return tuple(left)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for old, new in OLD_NAMES:
        name = old.sub(new, name)
    name = OLD_MASK_HEAD.sub(lambda found: f"roi_heads.mask_head.{int(found[1]) - 1}.0.{found[2]}", name)
    for theirs, ours in names.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    from timm.models import adapt_input_conv

    return adapt_input_conv(channels, weight)  # type: ignore[no-any-return]
