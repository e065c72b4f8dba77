"""What training descends, one file a family."""

from .adversarial import (
    Game,
    between,
    critic_loss,
    generator_loss,
    gradient_norms,
    gradient_penalty,
    r1_penalty,
    recognised,
)
from .config import LossConfig, class_weights
from .lovasz import lovasz_loss
from .pixelwise import focal, weighted_mean
from .region import dice_loss, jaccard_loss, tversky_loss
from .semantic import SegmentationLoss
from .variational import (
    bernoulli_log_likelihood,
    bits_per_dimension,
    free_bits,
    gaussian_kl,
    gaussian_log_density,
    gaussian_log_likelihood,
    importance_bound,
    logistic_log_likelihood,
)

__all__ = [
    "Game",
    "LossConfig",
    "SegmentationLoss",
    "bernoulli_log_likelihood",
    "between",
    "bits_per_dimension",
    "class_weights",
    "critic_loss",
    "dice_loss",
    "focal",
    "free_bits",
    "gaussian_kl",
    "gaussian_log_density",
    "gaussian_log_likelihood",
    "generator_loss",
    "gradient_norms",
    "gradient_penalty",
    "importance_bound",
    "jaccard_loss",
    "logistic_log_likelihood",
    "lovasz_loss",
    "r1_penalty",
    "recognised",
    "tversky_loss",
    "weighted_mean",
]
