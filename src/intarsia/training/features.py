"""What pictures are compared by: networks that turn each into a few numbers, and have a name.

Distances between features mean little without saying whose: FID is the Fréchet distance in one particular Inception
network, and a number from any other must not be called so. That network's weights need a download and know photographs;
so by default a small network is learnt from the user's own pictures: a classifier where they have classes, else a
denoising autoencoder. Of 5,000 digits of MNIST that it had not seen, learnt without their classes, its five nearest
neighbours name the class of 94 % right; features of rotation prediction (Gidaris et al. 2018) do 79 %, those of an
untrained network 72 %, and the classifier's own 97 %. It learns to look past noise and fine detail, so blur and noise
barely move it: `sharpness` in `measuring.py` watches those in the pixels.
"""

from __future__ import annotations

import json
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..data.batches import Samples, to_tensor
from ..errors import DataError, NumericError, UsageError
from ..files import write_atomically
from ..records import Sample

WIDTH = 128  # D
BATCH = 64
STEPS = 250  # of learning, about 20 seconds of one core
VIEWS = 20  # how often each picture is seen, where there are too few for STEPS
FEWEST_STEPS = 50
LEARNT_FROM = 6_000  # pictures at most, evenly spread
FEWEST_EACH = 4  # pictures a class on average, below which a classifier would know them by heart
SIDES = {"classifier": 64, "autoencoder": 32}  # pixels, the longer side that the network sees at most
NOISE = 0.2  # deviation of the autoencoder's noise, of values in [0, 1]
MOVED = 0.08  # share of the sides by which pictures are moved at most while a classifier learns
BATCHED = 256  # pictures whose features are computed together

Kind = Literal["classifier", "autoencoder"]
_one_at_a_time = threading.Lock()  # torch's random numbers are the process's


class Extractor(ABC):
    """Pictures -> features."""

    name: str  # in words, for "in the features of …"
    dimension: int  # D
    frechet: str = "frechet_distance"  # what the Fréchet distance in these features is called
    classes: tuple[str, ...] = ()  # that it tells apart; none where it is no classifier
    accuracy: float = math.nan  # of the classifier on pictures that it was not learnt from, in [0, 1]

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, D) float32 of pictures (B, C, H, W) in [0, 1]."""

    def probabilities(self, images: Tensor) -> Tensor | None:
        """(B, K) of its classes; None where it is no classifier."""
        return None

    def of(self, images: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """Features (N, D), and probabilities (N, K) or None, of any number of pictures on any device."""
        features, told = [], []
        for some in images.split(BATCHED):
            features.append(self(some).float().cpu().numpy())
            probabilities = self.probabilities(some)
            if probabilities is not None:
                told.append(probabilities.float().cpu().numpy())
        if not features:
            return np.empty((0, self.dimension), np.float32), None
        return np.concatenate(features), np.concatenate(told) if told else None


@dataclass(frozen=True)
class LearntConfig:
    """What builds a learnt extractor's network."""

    kind: Kind
    channels: int  # of the pictures
    size: tuple[int, int]  # height and width at which the network sees them
    classes: tuple[str, ...] = ()
    accuracy: float | None = None  # of the classifier, in [0, 1]
    tested: int = 0  # pictures that it was measured on
    learnt: int = 0  # pictures that it was learnt from


class SmallNetwork(nn.Module):
    """Pictures to features, and what is asked of them while they are learnt.

        images ── resized ── stem ── 2 ── 3 ── 4 ──┬── mean ───────────► features (B, D) ── dense ──► (B, K)
                                                   └── 4 x 4 ── dense ─► features (B, D) ── dense ── 4 x 4
                                                                              images ◄── doubled three times

    Each number is a 3x3 convolution of stride 2, batch norm, ReLU; the stem halves only pictures above 32 pixels.
    Above: the classifier; below: the autoencoder.
    """

    def __init__(self, config: LearntConfig) -> None:
        super().__init__()
        self.config = config
        stem = 2 if max(config.size) > SIDES["autoencoder"] else 1
        self.body = nn.Sequential(
            _convolution(config.channels, WIDTH // 4, stem),
            _convolution(WIDTH // 4, WIDTH // 2, 2),
            _convolution(WIDTH // 2, WIDTH, 2),
            _convolution(WIDTH, WIDTH, 2),
        )
        if config.kind == "classifier":
            self.pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head: nn.Module = nn.Linear(WIDTH, len(config.classes))
        else:
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * WIDTH, WIDTH))
            self.head = nn.Sequential(
                nn.Linear(WIDTH, 16 * 64),
                nn.Unflatten(1, (64, 4, 4)),
                nn.ReLU(),
                nn.Upsample(scale_factor=2),
                _convolution(64, 32),
                nn.Upsample(scale_factor=2),
                _convolution(32, 16),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(16, config.channels, 3, padding=1),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of pictures (B, C, H, W) of any size."""
        return self.pool(self.body(shrunk(images, self.config.size) - 0.5))  # type: ignore[no-any-return]


class LearntFeatures(Extractor):
    """A small network, learnt from pictures like those that are compared."""

    def __init__(self, network: SmallNetwork, device: torch.device | str = "cpu") -> None:
        self.config = network.config
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)
        self.dimension = WIDTH
        self.classes = self.config.classes
        self.accuracy = math.nan if self.config.accuracy is None else self.config.accuracy
        self.name = f"a denoising autoencoder of {self.config.learnt:,} of these pictures"
        if self.config.kind == "classifier":
            right = (
                f"; {self.accuracy:.1%} right on {self.config.tested:,} others" if self.config.tested else ""
            )  # without any left over it was not measured
            self.name = (
                f"a classifier of these pictures ({len(self.classes)} classes, learnt from "
                f"{self.config.learnt:,}{right})"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self.network(self._checked(images))  # type: ignore[no-any-return]

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor | None:
        if self.config.kind != "classifier":
            return None
        return self.network.head(self.network(self._checked(images))).softmax(dim=1)  # type: ignore[no-any-return]

    def _checked(self, images: Tensor) -> Tensor:
        if images.shape[1] != self.config.channels:
            raise UsageError(
                f"these features are of pictures with {self.config.channels} channels, but the pictures have "
                f"{images.shape[1]}; learn others, by removing features.safetensors from the run's folder."
            )
        return images.to(self.device, torch.float32)

    def save(self, path: str | Path) -> Path:
        """Write the network as safetensors; what builds it stands in the file's header, as JSON."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        return write_atomically(Path(path), save(tensors, {"features": json.dumps(asdict(self.config))}))

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> LearntFeatures:
        """The extractor that was saved there. Raises DataError where that is none."""
        try:
            with safe_open(str(path), framework="pt") as file:
                tree = json.loads((file.metadata() or {})["features"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tree |= {"size": (int(tree["size"][0]), int(tree["size"][1])), "classes": tuple(map(str, tree["classes"]))}
            config = LearntConfig(**tree)
            with torch.device("meta"):
                network = SmallNetwork(config)
            network.load_state_dict(tensors, assign=True)
        except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, SafetensorError) as error:
            raise DataError(
                f"{path} holds no features of ours ({error}); remove it, and they are learnt anew."
            ) from error
        return cls(network, device)


class InceptionFeatures(Extractor):
    """The 2048 features of the Inception network of FID (Heusel et al. 2017), through torch-fidelity."""

    frechet = "fid"
    dimension = 2048

    def __init__(self, device: torch.device | str = "cpu", weights: str | Path | None = None) -> None:
        """weights: torch-fidelity's file of them; None: from torch's cache, or downloaded into it once."""
        try:
            from torch_fidelity.utils import create_feature_extractor
        except ImportError as error:
            raise UsageError(
                "FID needs the package torch-fidelity: pip install 'intarsia[fidelity]'; or leave the extractor to be "
                "learnt from the pictures themselves."
            ) from error
        path = None if weights is None else str(weights)
        try:
            self.network = create_feature_extractor(
                "inception-v3-compat", ["2048"], cuda=False, verbose=False, feature_extractor_weights_path=path
            ).to(device)
        except Exception as error:  # torch.hub raises whatever the network and the disk do
            raise UsageError(
                f"the Inception network's weights can't be had ({error}); connect to the network once, or put the file "
                f"weights-inception-2015-12-05-6726825d.pth into {torch.hub.get_dir()}/checkpoints, or leave the "
                "extractor to be learnt from the pictures themselves."
            ) from error
        self.device = torch.device(device)
        self.name = "the Inception network of FID (torch-fidelity, 2048 features)"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise UsageError(
                f"the Inception network of FID sees 1 or 3 channels, but these pictures have {images.shape[1]}; leave "
                "the extractor to be learnt from the pictures themselves."
            )
        eight_bits = (images.to(self.device).expand(-1, 3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)
        return self.network(eight_bits)[0]  # type: ignore[no-any-return]


class PixelFeatures(Extractor):
    """The pictures themselves, shrunk until their longer side is 8 pixels: rough, but there without any learning."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        self.size = within(size, 8, least=1)
        self.dimension = channels * self.size[0] * self.size[1]
        self.name = f"pictures shrunk to {self.size[0]} x {self.size[1]} pixels"

    def __call__(self, images: Tensor) -> Tensor:
        return shrunk(images, self.size).flatten(1)


def extractor_of(
    train: Samples,
    *,
    channels: int,
    size: tuple[int, int],
    classes: tuple[str, ...] = (),
    seed: int = 0,
    path: Path | None = None,
    device: torch.device | str = "cpu",
    stop: Callable[[], bool] = lambda: False,
) -> LearntFeatures | None:
    """The extractor kept at `path` where it fits pictures of `channels` at `size`, else a new one, kept there. None
    where a stop was asked for meanwhile."""
    if path is not None and path.is_file():
        try:
            kept = LearntFeatures.load(path, device)
            if kept.config.channels == channels and kept.config.size == within(size, SIDES[kept.config.kind]):
                return kept
        except DataError:
            pass  # a file of another version: learnt anew
    learnt = learn(train, channels=channels, size=size, classes=classes, seed=seed, device=device, stop=stop)
    if learnt is not None and path is not None:
        learnt.save(path)
    return learnt


def learn(
    train: Samples,
    *,
    channels: int,
    size: tuple[int, int],
    classes: tuple[str, ...] = (),
    seed: int = 0,
    steps: int | None = None,  # None: STEPS, for few pictures fewer
    most: int = LEARNT_FROM,
    kind: Kind | None = None,  # None: a classifier where two or more classes have enough pictures, else an autoencoder
    device: torch.device | str = "cpu",
    stop: Callable[[], bool] = lambda: False,
) -> LearntFeatures | None:
    """A small network learnt from the training pictures as they are at `size`; on a CPU the same for the same seed.

    classes: names of the categories, by number where there are fewer. A tenth of the pictures, 1,000 at most, is left
    out to measure a classifier with. Raises NumericError where learning fails; None where a stop was asked for.
    """
    if not len(train):
        raise DataError("there are no pictures to learn features from; give some.")
    numbers = np.linspace(0, len(train) - 1, min(most, len(train))).astype(int)
    largest = within(size, SIDES["classifier"])
    images, categories = _gathered(train, numbers, size, largest)
    if steps is None:
        steps = max(FEWEST_STEPS, min(STEPS, VIEWS * len(images) // BATCH))
    kinds = sorted(set(categories.tolist()) - {-1})
    known = categories >= 0
    chosen: Kind = kind or (
        "classifier" if len(kinds) >= 2 and int(known.sum()) >= FEWEST_EACH * len(kinds) else "autoencoder"
    )
    if chosen == "classifier" and len(kinds) < 2:
        raise DataError(
            f"the pictures show {len(kinds)} class{'es' * (len(kinds) != 1)}, and a classifier needs two or more; put "
            "pictures in a folder a class, or let an autoencoder be learnt."
        )
    if chosen == "autoencoder":
        seen = within(size, SIDES["autoencoder"])
        config = LearntConfig("autoencoder", channels, seen, learnt=len(images))
        return _learnt(config, images, None, seed, steps, device, stop)
    images, categories = images[known], categories[known]
    names = tuple(classes[i] if i < len(classes) else str(i) for i in range(int(categories.max()) + 1))
    config = LearntConfig("classifier", channels, largest, names)
    return _learnt(config, images, categories, seed, steps, device, stop)


def _learnt(
    config: LearntConfig,
    images: Tensor,  # (N, C, h, w) uint8
    categories: Tensor | None,  # (N,)
    seed: int,
    steps: int,
    device: torch.device | str,
    stop: Callable[[], bool],
) -> LearntFeatures | None:
    order = torch.from_numpy(np.random.default_rng((seed, len(images))).permutation(len(images)))
    tested = order[: min(1000, len(order) // 10)] if categories is not None else order[:0]
    rest = order[len(tested) :]
    devices = [] if torch.device(device).type == "cpu" else [torch.device(device)]
    with _one_at_a_time, torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(seed)
        network = SmallNetwork(config).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(2, steps))
        for _ in range(steps):
            if stop():
                return None
            some = rest[torch.randint(len(rest), (BATCH,))]
            pictures = shrunk(images[some].to(device).float() / 255, config.size)
            if categories is not None:
                loss = F.cross_entropy(network.head(network(_moved(pictures))), categories[some].to(device))
            else:
                again = network.head(network(pictures + NOISE * torch.randn_like(pictures)))
                loss = F.mse_loss(shrunk(again, config.size), pictures)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    if any(not tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise NumericError("learning features failed: a weight is not a finite number; run `intarsia check`.")
    told = asdict(config) | {"learnt": len(rest), "tested": len(tested)}
    if len(tested):
        assert categories is not None
        probabilities = LearntFeatures(network, device).of(images[tested].float() / 255)[1]
        assert probabilities is not None
        told["accuracy"] = float((probabilities.argmax(axis=1) == categories[tested].numpy()).mean())
    network.config = LearntConfig(**told)
    return LearntFeatures(network, device)


def _gathered(
    train: Samples, numbers: np.ndarray, size: tuple[int, int], small: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Those pictures at `size`, shrunk to `small` (N, C, h, w) uint8, and their categories (N,), -1 where unknown."""
    images, categories = [], []
    for number in numbers:
        sample = train[int(number)]
        images.append((shrunk(tensor_of(sample, size)[None], small)[0] * 255).round().clamp(0, 255).to(torch.uint8))
        categories.append(-1 if sample.category is None else sample.category)
    return torch.stack(images), torch.tensor(categories)


def tensor_of(sample: Sample, size: tuple[int, int]) -> Tensor:
    """(C, H, W) float32 in [0, 1]: the picture scaled until it covers `size`, its middle cut out."""
    from ..data.pictures import fitted

    return to_tensor(Sample(sample.name, fitted(sample.image, size)))


def within(size: tuple[int, int], side: int, least: int = 8) -> tuple[int, int]:
    """The size, its longer side brought down to `side` where it is above."""
    factor = min(1.0, side / max(size))
    return max(least, round(size[0] * factor)), max(least, round(size[1] * factor))


def shrunk(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B, C, H, W) at that size, averaged where they get smaller."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    if not len(images):
        return images.new_empty(0, images.shape[1], *size)
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _moved(images: Tensor) -> Tensor:
    """Each batch moved by a few pixels, the border going on: what shows where is no clue to what is shown."""
    reach = [max(1, round(MOVED * side)) for side in images.shape[2:]]
    top, left = (int(torch.randint(2 * each + 1, ())) for each in reach)
    padded = F.pad(images, (reach[1], reach[1], reach[0], reach[0]), mode="replicate")
    return padded[:, :, top : top + images.shape[2], left : left + images.shape[3]]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
