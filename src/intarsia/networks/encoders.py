"""Encoders: pictures to maps of features, each coarser than the one before.

Two kinds, by name: our own ("tiny", "small", "fast", "medium", "large"), and every backbone of timm that gives maps of
features ("timm/resnet18", "timm/convnext_tiny.fb_in22k", ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .blocks import ResidualBlock, conv_block

if TYPE_CHECKING:
    from types import ModuleType

OutputStride = Literal[8, 16, 32]


class Encoder(nn.Module, ABC):
    """Pictures (B, C, H, W), H and W multiples of the last reduction, to maps of features, finest first."""

    channels: tuple[int, ...]  # of each map
    reductions: tuple[int, ...]  # of each map: powers of 2, never falling; map i is (B, channels[i], H/r, W/r)

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps, as many as `channels` has entries."""


class ConvEncoder(Encoder):
    """A residual network of 3x3 convolutions only: the operation that a processor does best.

        x (B, C, H, W)
        │
        stages.0   3x3 stride 2                      ──► (B, widths[0], H/2,  W/2)
        stages.1   3x3 stride 2, residual blocks     ──► (B, widths[1], H/4,  W/4)
        stages.2   3x3 stride 2, residual blocks     ──► (B, widths[2], H/8,  W/8)
        stages.3   3x3 stride 2, residual blocks     ──► (B, widths[3], H/16, W/16)
        stages.4   3x3 stride 2, residual blocks     ──► (B, widths[4], H/32, W/32)

    After He, Zhang, Ren, Sun: Deep Residual Learning, 2016, https://arxiv.org/abs/1512.03385. Where we differ: the
    stem is one strided 3x3 convolution, not 7x7 and a pooling; a stage begins with a strided convolution outside the
    residual sum, so that there are no 1x1 shortcuts.

    With `output_stride` 8 or 16 the stages below it keep the size and dilate their convolutions instead.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], blocks: tuple[int, ...], output_stride: OutputStride | None = None
    ) -> None:
        super().__init__()
        reduction, dilation, inputs = 1, 1, channels
        stages, reductions = [], []
        for width, count in zip(widths, blocks, strict=True):
            stride = 2 if output_stride is None or reduction < output_stride else 1
            entry = conv_block(inputs, width, stride=stride, dilation=dilation)
            reduction *= stride
            dilation *= 2 // stride
            stages.append(nn.Sequential(entry, *(ResidualBlock(width, dilation) for _ in range(count))))
            reductions.append(reduction)
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.channels, self.reductions = widths, tuple(reductions)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class TimmEncoder(Encoder):
    """A backbone of timm (https://github.com/huggingface/pytorch-image-models), as `net`."""

    def __init__(self, name: str, channels: int, pretrained: bool, output_stride: OutputStride | None) -> None:
        super().__init__()
        self.net = _timm_backbone(name, channels, pretrained, output_stride)
        self.channels = tuple(self.net.feature_info.channels())
        self.reductions = tuple(self.net.feature_info.reduction())
        self._try(name, channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.net(x))

    def _try(self, name: str, channels: int) -> None:
        """Refuse what takes one size only, or gives no maps (B, C, H/r, W/r), before hours are spent on it."""
        height, width = 64, 96
        expected = [(c, height // r, width // r) for c, r in zip(self.channels, self.reductions, strict=True)]
        training = self.training
        try:
            with torch.no_grad():
                given = [tuple(each.shape[1:]) for each in self.eval()(torch.zeros(1, channels, height, width))]
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else "it takes no such size"
            raise UsageError(
                f'encoder "timm/{name}" failed on a picture of {height} x {width} pixels ({reason}); '
                'take one that works on any size, such as "timm/resnet18" or "timm/convnext_tiny".'
            ) from error
        self.train(training)
        if given != expected or list(self.reductions) != sorted(self.reductions):
            raise UsageError(
                f'encoder "timm/{name}" gives maps of (channels, height, width) {given} where {expected} was expected; '
                'take a backbone with maps of falling size, such as "timm/resnet18" or "timm/convnext_tiny".'
            )


#: name -> widths of the five stages, residual blocks in each
OWN_ENCODERS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny": ((16, 16, 32, 64, 96), (0, 1, 1, 1, 1)),  # 0.35 M parameters
    "small": ((16, 32, 64, 128, 256), (0, 1, 1, 2, 2)),  # 3.4 M
    "fast": ((32, 64, 128, 256, 256), (0, 0, 2, 3, 3)),  # 8.7 M; no block above 1/8: for 8-bit numbers
    "medium": ((32, 48, 128, 256, 384), (0, 1, 3, 4, 3)),  # 13 M; little at 1/4, where processors wait for memory
    "large": ((32, 64, 128, 256, 512), (0, 3, 4, 6, 3)),  # 24 M
}


def build_encoder(
    name: str, channels: int, pretrained: bool = False, output_stride: OutputStride | None = None
) -> Encoder:
    """The encoder of that name for pictures of that many channels.

    pretrained: start from timm's weights (ImageNet, mostly), fetched once and kept in its cache.
    output_stride: the last map is H/8, H/16 or H/32 in size; None leaves it as the encoder is (mostly H/32).

    Raises UsageError for a name that nobody has, a backbone that can't do it, or weights that can't be fetched.
    """
    if name.startswith("timm/"):
        return TimmEncoder(name.removeprefix("timm/"), channels, pretrained, output_stride)
    if name not in OWN_ENCODERS:
        raise UsageError(_unknown(name))
    if pretrained:
        raise UsageError(
            f'encoder "{name}" has no pretrained weights; set pretrained = false, or take one of timm, '
            'such as encoder = "timm/resnet18".'
        )
    widths, blocks = OWN_ENCODERS[name]
    return ConvEncoder(channels, widths, blocks, output_stride)


def _unknown(name: str) -> str:
    """The sentences for a name that is neither ours nor begins with timm/."""
    ours = ", ".join(f'"{each}"' for each in OWN_ENCODERS)
    near = get_close_matches(name, OWN_ENCODERS, n=1)
    if not near and _timm().is_model(name):
        near = [f"timm/{name}"]
    hint = f' Did you mean "{near[0]}"?' if near else ""
    return (
        f'encoder "{name}" is not known; take one of {ours}, or a backbone of timm written as "timm/NAME", '
        f'such as "timm/resnet18".{hint}'
    )


def _timm() -> ModuleType:
    import timm  # seconds to import, so only for those who use it

    return timm  # type: ignore[no-any-return]


def _timm_backbone(name: str, channels: int, pretrained: bool, output_stride: OutputStride | None) -> Any:
    timm = _timm()
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models() + timm.list_pretrained(), n=1)
        hint = f'; did you mean "timm/{near[0]}"?' if near else "; timm.list_models() lists them."
        raise UsageError(f'encoder "timm/{name}" is not in timm {timm.__version__}{hint}')
    options: dict[str, Any] = {} if output_stride in (None, 32) else {"output_stride": output_stride}
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, in_chans=channels, **options)
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        if options:
            raise UsageError(
                f"encoder \"timm/{name}\" can't keep its last map at 1/{output_stride} of the picture's size; "
                'take one that dilates, such as "timm/resnet50" or one of ours.'
            ) from error
        raise UsageError(f'encoder "timm/{name}" can\'t give maps of features ({error}); take another.') from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise UsageError(f'encoder "timm/{name}" can\'t give maps of features ({error}); take another.') from error
        raise UsageError(
            f'the pretrained weights of encoder "timm/{name}" can\'t be had ({str(error).splitlines()[0]}); '
            "connect to the network once, or set pretrained = false."
        ) from error
