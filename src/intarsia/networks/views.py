"""Strong views of pictures, made inside a model: what a student sees while its teacher sees the picture as it is.

Light and colour as in UniMatch (Yang et al., 2023, https://arxiv.org/abs/2208.09910, section 4.1), which has them from
SimCLR (Chen et al., 2020): jitter, grey, blur. Nothing here moves a pixel, so that a teacher's answer stays in place;
CutMix and ClassMix move whole regions, of picture and answer alike. All chance comes from torch's global generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

JITTERED = 0.8  # share of the pictures whose light and colour are changed
GREYED = 0.2  # share of the pictures that lose their colours
BLURRED = 0.5  # share of the pictures that are blurred


def strong(images: Tensor, strength: float = 1.0) -> Tensor:
    """Pictures (B, C, H, W) in [0, 1] in another light, other colours, blurred or noisy: likewise, each by chance of
    its own. strength: of the changes; 1 halves or doubles brightness at most, 0 leaves everything as it is."""
    if strength <= 0:
        return images
    count, channels = images.shape[:2]

    def drawn(low: float, high: float, planes: int = 1) -> Tensor:
        return torch.empty(count, planes, 1, 1, device=images.device).uniform_(low, high)

    def some(share: float) -> Tensor:
        return drawn(0, 1) < share

    half = 0.5 * strength
    brightness, contrast = torch.exp(drawn(-half, half)), torch.exp(drawn(-half, half))
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    x = middle + contrast * (images * brightness - middle)
    if channels > 1:
        grey = x.mean(dim=1, keepdim=True)
        x = grey + torch.exp(drawn(-half, half)) * (x - grey)  # saturation
        x = x * torch.exp(drawn(-0.5 * half, 0.5 * half, channels))  # the colour of the light
    x = torch.where(some(JITTERED), x, images)
    if channels > 1:
        x = torch.where(some(GREYED * min(strength, 1)), x.mean(dim=1, keepdim=True).expand_as(x), x)
    x = torch.where(some(BLURRED), blurred(x, drawn(0.1, 1 + strength)), x)
    x = x + drawn(0, 0.04 * strength) * torch.randn_like(x)
    return x.clamp(0, 1)


def blurred(images: Tensor, deviation: Tensor) -> Tensor:
    """Pictures (B, C, H, W), each under a Gaussian of its own deviation (B, 1, 1, 1) in pixels, cut off after 4."""
    reach = 4
    place = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (place / deviation.view(-1, 1)).square())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(images.dtype)  # B 9
    count, channels = images.shape[:2]
    x = images.reshape(1, count * channels, *images.shape[2:])
    rows = kernel.repeat_interleave(channels, dim=0)
    groups = count * channels
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), rows.view(groups, 1, 1, -1), groups=groups)
    x = F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), rows.view(groups, 1, -1, 1), groups=groups)
    return x.view_as(images)


def boxes(count: int, height: int, width: int, share: float, device: torch.device) -> Tensor:
    """(count, 1, H, W) bool: for CutMix, True in a rectangle of 2 to 40 % of each plane's area, with probability
    `share`; elsewhere False (Yun et al., 2019, https://arxiv.org/abs/1905.04899; sizes as in UniMatch)."""
    drawn = torch.rand(count, 5, device=device)
    area = 0.02 + 0.38 * drawn[:, 0]
    ratio = torch.exp((2 * drawn[:, 1] - 1) * 1.2)  # of the sides, from 0.3 to 3.3
    tall, wide = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    top, left = drawn[:, 2] * (1 - tall), drawn[:, 3] * (1 - wide)
    y = ((torch.arange(height, device=device) + 0.5) / height).view(1, -1, 1)
    x = ((torch.arange(width, device=device) + 0.5) / width).view(1, 1, -1)
    top, left, tall, wide = (each.view(-1, 1, 1) for each in (top, left, tall, wide))
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
    return (inside & (drawn[:, 4] < share).view(-1, 1, 1))[:, None]


def class_regions(probabilities: Tensor, share: float) -> Tensor:
    """(B, 1, H, W) bool: for ClassMix, True where the likeliest class is one of a random half of those that the answer
    (B, K, H, W) shows, with probability `share` (Olsson et al., 2021, https://arxiv.org/abs/2007.07936)."""
    count, classes = probabilities.shape[:2]
    answer = probabilities.argmax(dim=1)  # B H W
    planes = torch.zeros(count, classes, dtype=torch.bool, device=answer.device)
    shown = planes.scatter(1, answer.flatten(1), True)
    order = torch.where(shown, torch.rand(count, classes, device=answer.device), 2.0).argsort(dim=1).argsort(dim=1)
    chosen = shown & (order < ((shown.sum(dim=1, keepdim=True) + 1) // 2))
    taken = chosen.gather(1, answer.flatten(1)).view_as(answer)
    return (taken & (torch.rand(count, 1, 1, device=answer.device) < share))[:, None]
