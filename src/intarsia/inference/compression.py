"""Pictures as small files, through the codes of a VQ-VAE.

    compress     picture ─ encoder ─ codes ─ range coder, told how likely each code is ──► bytes
    decompress   bytes ─ range coder, told the same ─ codes ─ decoder ──► picture

The file, numbers with the most significant byte first:

    4 bytes   magic, b"INTA"
    1         version of this format
    1         bytes a value: 1 = uint8, 2 = uint16, 4 = float32
    4, 4      height and width in pixels
    1         channels (those of the model)
    1         levels: how many of the model's codebooks were used
    16        fingerprint of the model's weights
    …         the range coder's words of 4 bytes, least significant first
    4         CRC-32 of all before

A decoder must be told, for each code, exactly the chances that its encoder was told: one rounding apart and all that
follows is garbage. Sums of a float network depend on the machine and the number of threads. Therefore the prior is
computed in whole numbers here (`WholeNumbers`; Balle et al.: Integer Networks for Data Compression, 2019), which are
the same everywhere. The decoder network that turns codes into a picture may round differently on another machine: there
a value may differ by one step, and nothing follows from it.

Large pictures are done in parts. Networks see each part with a margin as wide as they look, so there are no seams; the
codes of a part are told from those of that part only.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..data.read import LIMIT_PIXELS
from ..errors import DataError, UsageError
from ..models.contract import Model
from ..models.generative.coarse_to_fine import ODD, Group, groups, visible
from ..models.generative.vqvae import VQVAE, Residual
from ..records import Image
from .predictor import fingerprint

SUFFIX = ".intarsia"
VERSION = 1
PART = 128  # codes of a side that are done at once; 1024 pixels where a code stands for 8 x 8

_HEADER = struct.Struct(">4sBBIIBB16s")
_MAGIC = b"INTA"
_TYPES: dict[int, type[np.generic]] = {1: np.uint8, 2: np.uint16, 4: np.float32}
_BITS = 10  # after the point, of activations and logits
_WEIGHT_BITS = 12  # after the point, of weights
_LARGEST = 2**20  # of weights and activations: with up to 4096 terms, sums stay below 2^53 and are exact in a double
_TOTAL = 2**16  # what the chances of the codes of a place add up to
_FEWEST_BYTES = _HEADER.size + 4


@dataclass(frozen=True)
class Header:
    """What a compressed picture says of itself."""

    height: int
    width: int
    channels: int
    bytes_a_value: int  # 1, 2 or 4: uint8, uint16 or float32
    levels: int  # codebooks used
    model: str  # 32 hexadecimal digits, `fingerprint` of the model


@torch.inference_mode()
def compress(model: Model, image: Image, quality: int | None = None) -> bytes:
    """The bytes of a picture (H, W, C), uint8, uint16 or float32 in [0, 1]. quality: how many of the model's codebooks
    are used, the more the larger and better; None: all. Raises UsageError for another model than a VQ-VAE or another
    quality, DataError for another kind of picture."""
    model = _suited(model)
    most = model.config.quantizers
    levels = most if quality is None else quality
    if not 1 <= levels <= most:
        raise UsageError(f"the quality is a number of codebooks, 1 to {most} with this model, but {levels} was given.")
    if image.ndim != 3 or image.size == 0 or image.shape[2] != model.config.channels:
        raise DataError(f"the model packs pictures (H, W, {model.config.channels}), but the shape is {image.shape}.")
    size = next((size for size, kind in _TYPES.items() if image.dtype == kind), None)
    if size is None:
        raise DataError(f"pictures of uint8, uint16 or float32 can be packed, but this one is {image.dtype}.")
    height, width = image.shape[:2]
    _within_limit(height, width, LIMIT_PIXELS)
    header = _HEADER.pack(
        _MAGIC, VERSION, size, height, width, model.config.channels, levels, bytes.fromhex(fingerprint(model))
    )
    writer, prior = _Writer(), WholeNumbers(model)
    codes = np.zeros((levels, *_map_size(model, height, width)), np.int32)
    for part in _parts(model, height, width):
        pixels = image[part.pixels.rows, part.pixels.columns]
        seen = model.codes(_tensor(pixels, model), levels)[0]
        codes[:, part.codes.rows, part.codes.columns] = seen[:, part.inner.rows, part.inner.columns].cpu().numpy()
        prior.pass_over(codes[:, part.codes.rows, part.codes.columns], writer)
    content = header + writer.words()
    return content + struct.pack(">I", zlib.crc32(content))


@torch.inference_mode()
def decompress(model: Model, data: bytes, limit: int = LIMIT_PIXELS) -> Image:
    """The picture (H, W, C) of `compress`, with the type of values it had. The same as the model's own reconstruction.
    Raises DataError for what is no whole file of this model, or has more pixels than `limit`; nothing is decoded, and
    no memory taken, before that is settled."""
    model = _suited(model)
    header = read_header(data)
    if header.model != fingerprint(model):
        raise DataError(
            "the file was packed with another model, or with other weights of this one; give the model that packed it. "
            f"Its fingerprint is {header.model}, this model's is {fingerprint(model)}."
        )
    if header.channels != model.config.channels or header.levels > model.config.quantizers:
        raise DataError("the file's header does not fit the model that it names; the file is damaged, pack it again.")
    _within_limit(header.height, header.width, limit)
    size = _map_size(model, header.height, header.width)
    # No code is certain: the likeliest can be told in 16 bits at most so short.
    fewest = 0.9 * -math.log2(1 - (model.config.codes - 1) / _TOTAL) * header.levels * size[0] * size[1]
    if 8 * (len(data) - _FEWEST_BYTES) + 64 < fewest:
        raise DataError(
            f"a picture of {header.height}x{header.width} pixels can't be in a file of {len(data)} bytes; "
            "the file is damaged, pack the picture again."
        )
    reader, prior = _Reader(data[_HEADER.size : -4]), WholeNumbers(model)
    codes = np.zeros((header.levels, *size), np.int32)
    for part in _parts(model, header.height, header.width):
        prior.pass_over(codes[:, part.codes.rows, part.codes.columns], reader)
    reader.finish()
    image = np.empty((header.height, header.width, header.channels), _TYPES[header.bytes_a_value])
    device = next(model.parameters()).device
    for part in _parts(model, header.height, header.width):
        seen = torch.from_numpy(codes[None, :, part.around.rows, part.around.columns].astype(np.int64)).to(device)
        pixels = model.pictures(model.embedding(seen))[0].clamp(0, 1)
        image[part.own.rows, part.own.columns] = _values(pixels[:, part.cut.rows, part.cut.columns], image.dtype)
    return image


def read_header(data: bytes) -> Header:
    """What the file says of itself; DataError where it is no whole file of this kind."""
    if data[:4] != _MAGIC:
        raise DataError("this is no compressed picture of Intarsia: it does not begin with the letters INTA.")
    if len(data) < _FEWEST_BYTES:
        raise DataError(f"the file ends after {len(data)} bytes, within its header; copy or pack it again.")
    _, version, size, height, width, channels, levels, model = _HEADER.unpack_from(data)
    if version != VERSION:
        raise DataError(
            f"the file has version {version} of the format, and this program reads {VERSION}; use a newer one."
        )
    if zlib.crc32(data[:-4]) != struct.unpack(">I", data[-4:])[0]:
        raise DataError("the file is damaged or cut off: its checksum does not fit; copy or pack it again.")
    if size not in _TYPES or not (height and width and channels and levels):
        raise DataError("the file's header makes no sense; the file is damaged, pack the picture again.")
    return Header(height, width, channels, size, levels, model.hex())


def _suited(model: Model) -> VQVAE:
    if isinstance(model, VQVAE):
        return model
    name = getattr(model.config, "name", type(model).__name__)
    raise UsageError(f"pictures are packed with a vqvae, but the model is a {name}; train one with --model vqvae.")


def _within_limit(height: int, width: int, limit: int) -> None:
    if height * width > limit:
        raise DataError(f"the picture has {height}x{width} pixels, and the limit is {limit:,}; cut it into parts.")


# the range coder


class Coder(Protocol):
    def __call__(self, codes: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """Codes (n,) int32, whose chances are (n, K) whole numbers that add up to 2^16: written, or read."""


class _Writer:
    def __init__(self) -> None:
        import constriction  # loads quickly, but only this needs it

        self._encoder = constriction.stream.queue.RangeEncoder()
        self._model = constriction.stream.model.Categorical(perfect=False)

    def __call__(self, codes: np.ndarray, chances: np.ndarray) -> np.ndarray:
        self._encoder.encode(codes, self._model, (chances / _TOTAL).astype(np.float32))  # exact: a power of 2
        return codes

    def words(self) -> bytes:
        return self._encoder.get_compressed().astype("<u4").tobytes()


class _Reader:
    def __init__(self, data: bytes) -> None:
        import constriction

        if len(data) % 4:
            raise DataError("the file is damaged: its codes are no whole number of words; pack the picture again.")
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self._model = constriction.stream.model.Categorical(perfect=False)

    def __call__(self, codes: np.ndarray, chances: np.ndarray) -> np.ndarray:
        try:
            return self._decoder.decode(self._model, (chances / _TOTAL).astype(np.float32))
        except (AssertionError, ValueError) as error:  # the coder's own words for "impossible"
            raise DataError("the file is damaged: its codes make no sense; pack the picture again.") from error

    def finish(self) -> None:
        if not self._decoder.maybe_exhausted():
            raise DataError("the file is damaged: more follows after its last code; pack the picture again.")


# the prior in whole numbers


class WholeNumbers:
    """The model's prior, rounded once to whole numbers: the same chances in every process and on every machine.

    A number x stands as round(x * 2^10), a weight as round(w * 2^12). Sums of products of whole numbers are computed in
    doubles, where they are exact below 2^53, in whatever order; then they are divided by 2^12 and rounded down.
    """

    def __init__(self, model: VQVAE) -> None:
        self.prior = prior = model.prior
        self.seen, self.known, self.where, self.depth, self.below = (
            _rounded(table, _BITS) for table in (prior.seen, prior.known, prior.where, prior.depth, prior.below)
        )
        self.weights = {
            module: (
                np.moveaxis(_rounded(module.weight, _WEIGHT_BITS), 1, 3).reshape(module.out_channels, -1).T,
                _rounded(module.bias, _BITS + _WEIGHT_BITS, _LARGEST * 2**_WEIGHT_BITS),
            )
            for module in prior.modules()
            if isinstance(module, nn.Conv2d) and module.bias is not None
        }

    def pass_over(self, codes: np.ndarray, coder: Coder) -> None:
        """Hands all codes (levels, h, w) to the coder, in the prior's order and with their chances, and puts what comes
        back into their places."""
        levels, height, width = codes.shape
        sight = np.zeros((height, width, len(self.known)))
        for group in groups(height, width):
            rows, columns = slice(group.top, None, group.step), slice(group.left, None, group.step)
            context = self._context(sight, group, levels)  # a b width
            total = np.broadcast_to(self.known, context.shape).copy()
            for level in range(levels):
                chances = self._chances(context, level)
                place = codes[level, rows, columns]
                found = coder(np.ascontiguousarray(place).reshape(-1), chances).reshape(place.shape)
                codes[level, rows, columns] = found
                context = context + self.below[level][found]
                total += self.seen[level][found]
            sight[rows, columns] = total

    def _context(self, sight: np.ndarray, group: Group, levels: int) -> np.ndarray:
        seen = sight[:: 2**group.scale, :: 2**group.scale]
        seen = seen * visible(group.kind, *seen.shape[:2]).numpy()[..., None]
        scale = self.prior.scales if group.kind == 0 else min(group.scale, self.prior.scales - 1)
        x = seen + self.where[scale, group.kind] + self.depth[levels - 1]
        for module in self.prior.trunk:
            x = self._module(module, x)
        top, left = ODD[group.kind]
        return x[top::2, left::2]

    def _module(self, module: nn.Module, x: np.ndarray) -> np.ndarray:
        if isinstance(module, nn.Sequential):
            for each in module:
                x = self._module(each, x)
            return x
        if isinstance(module, Residual):
            return x + self._convolved(module.second, np.maximum(self._convolved(module.first, np.maximum(x, 0)), 0))
        if isinstance(module, nn.Conv2d):
            return self._convolved(module, x)
        return np.maximum(x, 0)  # ReLU, the only other one

    def _convolved(self, module: nn.Conv2d, x: np.ndarray) -> np.ndarray:
        """(h, w, outputs) for x (h, w, inputs), zeros beyond the edge."""
        weight, bias = self.weights[module]  # (taps taps inputs) outputs
        height, width = x.shape[:2]
        taps = module.kernel_size[0]
        x = np.pad(x.clip(-_LARGEST, _LARGEST), ((taps // 2, taps // 2), (taps // 2, taps // 2), (0, 0)))
        windows = [x[i : i + height, j : j + width] for i, j in product(range(taps), repeat=2)]
        columns = np.concatenate(windows, axis=2).reshape(height * width, -1)
        return np.floor((columns @ weight + bias) / 2**_WEIGHT_BITS).reshape(height, width, -1)

    def _chances(self, context: np.ndarray, level: int) -> np.ndarray:
        """(places, K) int64, each at least 1, that add up to 2^16 at each place."""
        hidden = np.maximum(self._convolved(self.prior.hidden[level], context), 0)  # type: ignore[arg-type]
        logits = self._convolved(self.prior.scores[level], hidden)  # type: ignore[arg-type]
        flat = logits.reshape(-1, logits.shape[2]).astype(np.int64)
        below = flat.max(axis=1, keepdims=True) - flat  # >= 0, 2^10 = half as likely
        share = _powers()[below & (2**_BITS - 1)] >> np.minimum(below >> _BITS, 62)
        chances = 1 + share * (_TOTAL - flat.shape[1]) // share.sum(axis=1, keepdims=True)
        rest = _TOTAL - chances.sum(axis=1)  # what rounding down left over goes to the likeliest
        chances[np.arange(len(flat)), flat.argmax(axis=1)] += rest
        return chances


def _rounded(values: Tensor, bits: int, largest: int = _LARGEST) -> np.ndarray:
    """round(values * 2^bits) in doubles, which hold it exactly."""
    return np.rint(values.detach().cpu().numpy().astype(np.float64) * 2**bits).clip(-largest, largest)


@cache
def _powers() -> np.ndarray:
    """(2^10,) int64, 2^20 * 2^(-i / 2^10) rounded down, by whole square roots: no library's rounding is in it."""
    found = []
    for i in range(2**_BITS):
        root = 2 ** (20 * 2**_BITS - i)
        for _ in range(_BITS):
            root = math.isqrt(root)
        found.append(root)
    return np.array(found, np.int64)


# parts of large pictures


@dataclass(frozen=True)
class _Window:
    rows: slice
    columns: slice


@dataclass(frozen=True)
class _Part:
    """A part of a picture, and what must be seen for it."""

    codes: _Window  # its codes, in the map
    own: _Window  # its pixels, in the picture
    around: _Window  # its codes and their margin, in the map
    pixels: _Window  # the pixels of these, in the picture
    inner: _Window  # its codes, in `around`
    cut: _Window  # its pixels, in what is decoded of `around`


def _map_size(model: VQVAE, height: int, width: int) -> tuple[int, int]:
    return -(-height // model.stride), -(-width // model.stride)


def _parts(model: VQVAE, height: int, width: int) -> Iterator[_Part]:
    rows, columns = _map_size(model, height, width)
    for top, left in product(range(0, rows, PART), range(0, columns, PART)):
        vertical, horizontal = _spans(top, rows, height, model), _spans(left, columns, width, model)
        yield _Part(*(_Window(a, b) for a, b in zip(vertical, horizontal, strict=True)))


def _spans(first: int, count: int, pixels: int, model: VQVAE) -> tuple[slice, ...]:
    """Along one side, in the order of `_Part`, for the part that begins with code `first` of `count`."""
    stride, margin = model.stride, model.halo // model.stride
    last = min(first + PART, count)
    low, high = max(first - margin, 0), min(last + margin, count)
    own = slice(first * stride, min(last * stride, pixels))
    return (
        slice(first, last), own, slice(low, high), slice(low * stride, min(high * stride, pixels)),
        slice(first - low, last - low), slice(own.start - low * stride, own.stop - low * stride),
    )  # fmt: skip


def _tensor(image: Image, model: VQVAE) -> Tensor:
    """(1, C, H, W) in [0, 1] on the model's device."""
    top = 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
    values = np.moveaxis(image, -1, 0)[None].astype(np.float32) / np.float32(top)
    return torch.from_numpy(np.ascontiguousarray(values)).to(next(model.parameters()).device)


def _values(pixels: Tensor, kind: np.dtype) -> np.ndarray:
    """(H, W, C) of pixels (C, H, W) in [0, 1]."""
    values = np.moveaxis(pixels.float().cpu().numpy(), 0, -1)
    if kind == np.float32:
        return values
    return np.rint(values * np.float32(np.iinfo(kind).max)).astype(kind)
