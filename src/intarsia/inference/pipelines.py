"""What is exported: a model from bytes to its answer, as one module.

pictures (N, H, W, C) uint8 or uint16
│ pad to the stride, repeating the border    on the bytes, where it is cheapest
│ to [0, 1] and standardised                 one multiplication and one addition
│ network ── at the padded size ── crop
│
├─ Pipeline, of a segmenter
│  ├─ argmax ──────────────────────────────► classes (N, H, W) uint8
│  └─ / temperature ─ softmax or sigmoid ──► probabilities (N, K, H, W) float32, on request
│
└─ MapPipeline, of a model of objects whose network is a segmenter
   └─ softmax, sigmoid, ways in pixels ────► maps (N, M, H, W) float32, of which a grouping makes objects
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.contract import SemanticModel
from ..models.instance.map_model import MapModel
from .engines import NOTHING


class Logits(nn.Module):
    """The first half: from bytes to logits at the pictures' own size."""

    scale: Tensor  # (1, C, 1, 1): standardised = picture * scale + shift
    shift: Tensor  # (1, C, 1, 1)

    def __init__(self, model: SemanticModel, bits: int, half: bool = False) -> None:
        super().__init__()
        self.model, self.half_precision = model, half
        self.register_buffer("scale", 1 / (model.deviation.float() * (2**bits - 1)))
        self.register_buffer("shift", -model.mean.float() / model.deviation.float())
        self.enlarged = _is_enlarged(model)

    @abstractmethod
    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """The file's outputs for pictures (N, H, W, C) of uint8 or uint16."""

    def logits(self, pictures: Tensor) -> Tensor:
        """(N, K, H, W) float32 for pictures (N, H, W, C)."""
        height, width = pictures.shape[1:3]
        stride = self.model.stride
        if stride > 1:
            rows = torch.arange((height + stride - 1) // stride * stride, device=pictures.device).clamp(max=height - 1)
            columns = torch.arange((width + stride - 1) // stride * stride, device=pictures.device).clamp(max=width - 1)
            pictures = pictures.index_select(1, rows).index_select(2, columns)  # N H' W' C
        x = pictures.permute(0, 3, 1, 2).float()  # N C H' W'
        x = x * self.scale + self.shift
        x = x.half() if self.half_precision else x
        logits = self.model.heads(x, auxiliary=False)[0].float()  # N K h w
        if self.enlarged:
            logits = F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)  # N K H' W'
        return logits[:, :, :height, :width]


class Pipeline(Logits):
    """A segmenter from bytes to classes. The drawing is at the top of this file."""

    def __init__(
        self, model: SemanticModel, bits: int, probabilities: bool, temperature: float = 1.0, half: bool = False
    ) -> None:
        super().__init__(model, bits, half)
        self.overlapping, self.wants_probabilities, self.temperature = model.overlapping, probabilities, temperature

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        logits = self.logits(pictures)  # N K H W
        # Flat, or OpenVINO looks for the largest in maps whose channels lie side by side: 10 times as long.
        classes = logits.flatten(2).argmax(dim=1).to(torch.uint8).unflatten(1, logits.shape[2:])  # N H W
        if self.overlapping:  # a probability above 1/2 is a logit above 0
            classes = torch.where(logits.amax(dim=1) > 0, classes, torch.full_like(classes, NOTHING))
        if not self.wants_probabilities:
            return (classes,)
        logits = logits / self.temperature
        return classes, logits.sigmoid() if self.overlapping else logits.softmax(dim=1)


class MapPipeline(Logits):
    """A model of objects from bytes to its maps. The drawing is at the top of this file."""

    def __init__(self, model: MapModel, bits: int, half: bool = False) -> None:
        super().__init__(model.segmenter, bits, half)
        self.whole = model

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return (self.whole.maps(self.logits(pictures)[:, : self.whole.count]),)  # N M H W


def pipeline_of(
    model: SemanticModel | MapModel, bits: int, probabilities: bool, temperature: float = 1.0, half: bool = False
) -> Logits:
    """The module that is exported of a model; of a model of objects, which has neither, without the middle two."""
    if isinstance(model, MapModel):
        return MapPipeline(model, bits, half)
    return Pipeline(model, bits, probabilities, temperature, half)


def _is_enlarged(model: SemanticModel) -> bool:
    """Whether the network's answer is smaller than the padded picture."""
    side = 4 * model.stride
    channels = int(model.get_buffer("mean").numel())
    weight = next(model.parameters(), None)
    probe = torch.zeros(1, channels, side, side, dtype=torch.float32 if weight is None else weight.dtype)
    with torch.inference_mode():
        return model.heads(probe, auxiliary=False)[0].shape[2:] != probe.shape[2:]
