"""What every model promises. A class here is abstract; a class in any other file is final.

    forward   tensors -> tensors      the function that is exported
    parts     -> {name: module}       what is trained; a part left out stays frozen
    turns     -> (name, ...)          who is trained when, within one step
    loss      batch -> {name: scalar} "total" is descended, the rest is only logged
    advance   progress ->             after each step: annealing, moving averages
    predict   pictures -> result      semantic and instance models

Generative models say by their base classes what they can do: Draws, Reconstructs, Encodes, Mends, Bounded.

Axes: B pictures, C channels, H x W pixels, K classes, Z whatever axes a latent has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ..losses import LossConfig, SegmentationLoss
from ..networks.encoders import Encoder
from ..records import Batch, Instances

Losses = dict[str, Tensor]


class ModelConfig(BaseModel):
    """What builds a model; travels with its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Model(nn.Module, ABC):
    Config: ClassVar[type[ModelConfig]]
    #: how it is best trained where the user says nothing: {"train.learning_rate": 2e-4}; `plan` writes these down
    recommended: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def parts(self) -> dict[str, nn.Module]:
        """What is trained, by name, each with an optimizer of its own."""
        return {"model": self}

    def turns(self) -> tuple[str, ...]:
        """The parts in the order in which they step within one training step; a part may step several times."""
        return tuple(self.parts())

    @abstractmethod
    def loss(self, batch: Batch, part: str = "model") -> Losses:
        """Named scalars for a batch; `total` is what the part descends. Finite also where nothing is labelled."""

    def advance(self, progress: float) -> None:
        """Called after each step with the share of the training done, in [0, 1]."""


class PictureConfig(ModelConfig):
    """What every model that looks at pictures of any size needs to know about them."""

    channels: int = Field(3, ge=1)  # of the pictures
    mean: tuple[float, ...] = (0.5,)  # of the training pictures in [0, 1], one number or one a channel
    deviation: tuple[float, ...] = (0.25,)  # likewise; pictures are standardised inside the model
    levels: Literal["as_is", "picture"] = "as_is"  # picture: who asks stretches each between its darkest and brightest


class PictureModel(Model):
    """A model that looks at pictures in [0, 1] of any size. Inside, they are standardised, and padded to its stride."""

    config: PictureConfig
    mean: Tensor  # (1, C, 1, 1)
    deviation: Tensor  # (1, C, 1, 1)
    stride: int = 32  # sides are padded to a multiple of it on the way in, and cropped on the way out

    def __init__(self, config: PictureConfig) -> None:
        super().__init__(config)
        self.register_buffer("mean", _per_channel(config.mean, config.channels, "mean"))
        self.register_buffer("deviation", _per_channel(config.deviation, config.channels, "deviation"))

    def standardised(self, images: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [0, 1] as the network wants them: sides padded to multiples of the stride."""
        x = (images - self.mean) / self.deviation
        below, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x

    def at_size(self, maps: Tensor, images: Tensor) -> Tensor:
        """What the network gave (B, M, h, w) for the standardised pictures, at the pictures' own size (B, M, H, W)."""
        height, width = images.shape[2:]
        padded = torch.Size((height + -height % self.stride, width + -width % self.stride))
        return _resized(maps, padded)[:, :, :height, :width]


class SemanticConfig(PictureConfig):
    """What every semantic model needs to know about pictures and classes."""

    classes: int = Field(2, ge=1)  # K, background included where it is one
    overlapping: bool = False  # True: a pixel may be of several classes (sigmoid), False: of one (softmax)
    loss: LossConfig = LossConfig()


class SemanticModel(PictureModel):
    """images -> a class for every pixel. A model writes `heads`; everything else is here. One that learns from more
    than labelled pixels (`models/combined/`) writes a `loss` of its own, of which `supervised` is a part."""

    learns_from_unlabelled: ClassVar[bool] = False  # whether `loss` learns from pictures that nobody labelled
    needs_masks: ClassVar[bool] = True  # False: it finds regions of its own in pictures, and masks are only welcome

    def __init__(self, config: SemanticConfig) -> None:
        super().__init__(config)
        self.criterion = SegmentationLoss(config.loss, config.classes, config.overlapping)
        self.overlapping = config.overlapping

    @abstractmethod
    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        """Logits for standardised pictures x (B, C, H, W), H and W multiples of `stride`: the answer first
        (B, K, h, w), h <= H and w <= W; where `auxiliary`, then those of deep supervision, for the loss only."""

    def logits(self, images: Tensor, auxiliary: bool = False) -> tuple[Tensor, ...]:
        """`heads` of pictures in [0, 1] of any size, each brought to the pictures' own size (B, K, H, W)."""
        x = self.standardised(images)
        return tuple(self.at_size(each, images) for each in self.heads(x, auxiliary))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) for pictures (B, C, H, W) in [0, 1], any H and W from 1."""
        return self.logits(images)[0]

    def loss(self, batch: Batch, part: str = "model") -> Losses:
        return self.supervised(batch)

    def supervised(self, batch: Batch) -> Losses:
        """`total`, and each term of the criterion for the main head; deep supervision adds `auxiliary`. All are 0, with
        gradients of 0, where nothing is labelled."""
        return self.judged(self.logits(batch.images, auxiliary=True), batch)

    def judged(self, logits: Sequence[Tensor], batch: Batch) -> Losses:
        """`supervised` for logits (B, K, H, W) that are there already: the answer's first, then deep supervision's."""
        main, *others = logits
        target = batch.labels if self.overlapping else batch.masks
        terms: Losses = self.criterion(main, target)
        if others:
            extra = torch.stack([self.criterion(each, target)["total"] for each in others]).mean()
            weight = self.criterion.config.auxiliary_weight
            terms = {**terms, "auxiliary": extra, "total": terms["total"] + weight * extra}
        return terms

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities (B, K, H, W) in [0, 1]; exclusive classes sum to 1."""
        logits = self(images)
        return logits.sigmoid() if self.overlapping else logits.softmax(dim=1)


class Ambiguous(SemanticModel):
    """Has several plausible answers for one picture: an answer for each latent, and for each picture a normal
    distribution of latents, the prior. `forward` and `predict` answer for the prior's mean, which is one of the
    plausible answers and not their average; that is `sample(...).mean(0)`. Z: the latent's numbers, S: answers."""

    latent: int  # Z

    @abstractmethod
    def prior_of(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, Z) of the latents of pictures (B, C, H, W) in [0, 1]. Of parts of a picture their
        mean over the parts is that of the picture, but for what the network sees beyond the parts' borders."""

    @abstractmethod
    def answers(self, images: Tensor, latents: Tensor) -> Tensor:
        """Logits (S, B, K, H, W) for pictures (B, C, H, W) and latents (S, B, Z). A picture is encoded once, and
        answered for one latent at a time: an answer is the same bit for bit whatever others are asked for."""

    @torch.inference_mode()
    def sample(self, images: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Class probabilities (S, B, K, H, W) in [0, 1] of `count` plausible answers for each of the pictures.

        generator: on the CPU, of the latents' noise; None: torch's own.
        """
        mean, log_variance = self.prior_of(images)
        noise = torch.randn(count, *mean.shape, generator=generator).to(mean)
        logits = self.answers(images, mean + (log_variance / 2).exp() * noise)
        return logits.sigmoid() if self.overlapping else logits.softmax(dim=2)


class InstanceConfig(PictureConfig):
    """What every model of objects needs to know about pictures and classes."""

    classes: int = Field(2, ge=2)  # K, the background among them, which is class 0: objects are of class 1..K-1


Answer = TypeVar("Answer")


class InstanceModel(PictureModel, Generic[Answer]):
    """images -> objects, in two steps: `answers` asks the network, `objects` makes objects of what it says, by a few
    thresholds that are tuned on validation pictures and kept with the run.

    What the network says of a picture (an `Answer`) is either maps, an array (M, H, W) float32, of which those of tiles
    can be blended; or `Detections`, of which those of tiles can be joined. So a picture in tiles gives one answer, and
    objects are made of that.
    """

    learns_from_unlabelled: ClassVar[bool] = False  # whether `loss` can learn from pictures that nobody labelled
    #: for each threshold the values that are tried, the one to begin with first
    candidates: ClassVar[Mapping[str, tuple[float, ...]]]

    def __init__(self, config: InstanceConfig) -> None:
        super().__init__(config)
        self.classes = config.classes
        self.thresholds: dict[str, float] = {name: values[0] for name, values in self.candidates.items()}

    @abstractmethod
    def answers(self, images: Tensor) -> Sequence[Answer]:
        """What the network says of each of the pictures (B, C, H, W) in [0, 1], any H and W from 1; no gradients."""

    @abstractmethod
    def objects(self, answer: Answer, thresholds: Mapping[str, float] | None = None) -> Instances:
        """The objects of one picture, best score first; thresholds: those to take in place of the model's own."""

    @torch.inference_mode()
    def predict(self, images: Tensor) -> tuple[Instances, ...]:
        """The objects of each of the pictures (B, C, H, W) in [0, 1]."""
        return tuple(self.objects(answer) for answer in self.answers(images))


class GenerativeConfig(ModelConfig):
    """What every generative model needs to know about pictures."""

    channels: int = Field(3, ge=1)  # of the pictures
    size: tuple[int, int] = (64, 64)  # height and width of the pictures that are learnt from and drawn, pixels
    classes: int = Field(0, ge=0)  # K: of whole pictures, or of masks, whichever the model is told; 0 = nothing


class GenerativeModel(Model):
    """A model of what pictures look like. Pictures go in and come out as float32 in [0, 1]; a model that wants another
    range converts inside itself. What it can do beyond `loss` is said by the classes below that it also inherits."""

    config: GenerativeConfig

    @abstractmethod
    def health(self, batch: Batch) -> dict[str, Tensor]:
        """What tells whether training goes wrong, measured on pictures that were not trained on; called in eval mode
        without gradients. Scalars are averaged over batches, vectors added up.

        Known keys, each given by the models that have it:
        kl_dimensions (Z,) nats, sum over the batch's pictures · means_sum, means_square_sum (Z,) of the posterior means
        codes (K,) how often each code of the codebook was used · critic_real, critic_fake: share of real and of drawn
        pictures that the critic recognises, [0, 1] · critic_gradient: mean norm of its gradient on drawn pictures.
        """


class Draws(GenerativeModel):
    """Draws new pictures: `forward` takes standard normal noise (and a condition) to pictures."""

    latent_shape: tuple[int, ...]  # Z: of the noise for one picture

    @abstractmethod
    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Pictures (B, C, *size) in [0, 1] for noise (B, *Z) ~ N(0, I). condition: (B,) int64 of picture classes, or
        (B, K, H, W) float32 one-hot masks, as the model was built for; None where it was built for none."""

    def noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, *Z) ~ N(0, I) on the CPU, each picture's from its own generator, whatever else is in the batch."""
        return torch.stack([torch.randn(self.latent_shape, generator=each) for each in generators])


class Reconstructs(GenerativeModel):
    """Takes a picture apart and puts it together again."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> Tensor:
        """The pictures (B, C, H, W) as the model sees them, in [0, 1] and without chance, at their own size."""


class Encodes(Reconstructs):
    """Has a latent for every picture, and a picture for every latent."""

    @abstractmethod
    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, *Z): the latent of each picture (of a distribution, its mean)."""

    @abstractmethod
    def decode(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, H, W) in [0, 1]: the picture of each latent (of a distribution, its mean)."""


class Mends(GenerativeModel):
    """Gives back a damaged picture whole: trained on pictures that it damaged itself."""

    @abstractmethod
    def mend(self, images: Tensor, known: Tensor | None = None) -> Tensor:
        """Pictures (B, C, H, W) in [0, 1] of any size, mended. known: (B, 1, H, W), 1 where a pixel can be trusted and
        0 where it is missing; None: all are there, noisy, blurred or grey as in training. Known pixels may change;
        who fills holes puts them back."""


class Bounded(GenerativeModel):
    """Bounds the likelihood of a picture from below."""

    @abstractmethod
    def bound(self, images: Tensor, samples: int, condition: Tensor | None = None) -> Tensor:
        """(B,) nats: a lower bound of log p(image), the tighter the more importance samples (1 gives the ELBO). For
        continuous pictures of 8 bits the bound is of the probability of the 256 levels, so that bits per dimension are
        -bound / (C H W ln 2)."""


class EncoderDecoder(SemanticModel):
    """A segmenter in two halves, so that others can share the first one: a picture decoder, a critic of features."""

    encoder: Encoder

    @abstractmethod
    def decode(self, maps: Sequence[Tensor], auxiliary: bool) -> tuple[Tensor, ...]:
        """`heads` for the encoder's maps, finest first."""

    def heads(self, x: Tensor, auxiliary: bool) -> tuple[Tensor, ...]:
        return self.decode(self.encoder(x), auxiliary)


def _resized(logits: Tensor, size: Any) -> Tensor:
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _per_channel(values: tuple[float, ...], channels: int, name: str) -> Tensor:
    if len(values) not in (1, channels):
        raise ValueError(f"{name} has {len(values)} numbers for {channels} channels; give one, or one a channel.")
    spread = values * channels if len(values) == 1 else values
    return torch.tensor(spread, dtype=torch.float32).view(1, channels, 1, 1)
