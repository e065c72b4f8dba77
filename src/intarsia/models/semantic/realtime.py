"""A segmenter for films and live pictures on a processor.

The shape is that of Oršić, Krešo, Bevandić, Šegvić: In Defense of Pre-trained ImageNet Architectures for Real-time
Semantic Segmentation of Road-driving Images, 2019, https://arxiv.org/abs/1903.08469 (SwiftNet): a residual encoder, and
a light way back up that adds the encoder's maps to its own.

Where we differ: every choice is by milliseconds in 8-bit whole numbers on a processor with AVX-512 and VNNI, where a
3x3 convolution with multiples of 16 channels does most operations a second, and depthwise ones, pooling pyramids and
whatever else only moves memory cost as much as they seem to save. So: two strided convolutions down to 1/4 with no
block there; the blocks at 1/8 to 1/32; context by the depth at 1/32 and no pyramid; the answer at 1/4, with half of
the channels; and one convolution a size on the way up. benchmarks/frontier.py measures it beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ...errors import UsageError
from ...networks.blocks import conv_block, resized
from ...networks.encoders import build_encoder
from ..contract import EncoderDecoder, SemanticConfig


class RealTimeConfig(SemanticConfig):
    """What builds a real-time segmenter."""

    name: Literal["realtime"] = "realtime"
    encoder: str = "fast"  # one of ours, or "timm/NAME"
    pretrained: bool = False  # start the encoder from timm's weights
    width: int = Field(128, ge=2)  # channels on the way up; half of it at 1/4; multiples of 32 are fastest
    finest: Literal[4, 8] = 4  # where the way up ends: 1/4 or 1/8 of the picture's size
    auxiliary: bool = False  # deep supervision: a head on each coarser map of the way up, for the loss only
    dropout: float = Field(0.0, ge=0, lt=1)  # share of the coarsest map's features zeroed in training; 0 = none


class Rung(nn.Module):
    """One step up: (B, inputs, h, w) and the encoder's map (B, skip, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.narrow = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)  # before it is enlarged
        self.lateral = nn.Conv2d(skip, outputs, 1)
        self.merge = conv_block(outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        side = self.lateral(skip)
        return self.merge(resized(self.narrow(x), like=side) + side)


class RealTime(EncoderDecoder):
    """An encoder, and a ladder back up to a quarter of the size.

        x (B, C, H, W)
        │
        encoder ─┬─ map at 1/4 ───────────────────────── + ─ 3x3 ── (B, width/2, H/4, W/4) ── classifier ──► (B, K, H/4, W/4)
                 ├─ map at 1/8 ──────────── + ─ 3x3 ─────┘
                 ├─ map at 1/16 ─ + ─ 3x3 ──┘
                 └─ map at 1/32 ──┘                 each +: 1x1 of both, the coarser enlarged

    finest = 8: the ladder ends at 1/8. auxiliary: what stands on each rung but the last has its own of
    `auxiliary_heads`.
    """  # fmt: skip  # noqa: E501

    Config = RealTimeConfig

    def __init__(self, config: RealTimeConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder, config.channels, config.pretrained)
        reductions, channels = self.encoder.reductions, self.encoder.channels
        self.stride = max(reductions)
        deepest = {reduction: index for index, reduction in enumerate(reductions)}  # the last map of each size
        self.joined = [deepest[each] for each in sorted(deepest, reverse=True) if config.finest <= each < self.stride]
        if not self.joined:
            raise UsageError(
                f'encoder "{config.encoder}" has no map between 1/{config.finest} and 1/{self.stride} of the size to '
                "go up by; take another encoder."
            )
        self.dropout = nn.Dropout(config.dropout)
        self.top = nn.Conv2d(channels[-1], config.width, 1)
        rungs, widths, inputs = [], [], config.width
        for index in self.joined:
            outputs = config.width if reductions[index] > 4 else config.width // 2
            rungs.append(Rung(inputs, channels[index], outputs))
            widths.append(outputs)
            inputs = outputs
        self.rungs = nn.ModuleList(rungs)
        self.classifier = nn.Conv2d(inputs, config.classes, 1)
        supervised = widths[:-1] if config.auxiliary else []
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(width, config.classes, 1) for width in supervised)

    def decode(self, maps: Sequence[Tensor], auxiliary: bool) -> tuple[Tensor, ...]:
        y = self.top(self.dropout(maps[-1]))  # B width H/32 W/32
        results = []
        for rung, index in zip(self.rungs, self.joined, strict=True):
            y = rung(y, maps[index])  # B width H/16 W/16, H/8 W/8, then B width/2 H/4 W/4
            results.append(y)
        logits = self.classifier(y)
        if auxiliary:
            return logits, *(head(each) for head, each in zip(self.auxiliary_heads, results, strict=False))
        return (logits,)
