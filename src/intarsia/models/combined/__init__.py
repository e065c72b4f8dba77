"""Segmenters that learn from more than labelled pixels: unlabelled pictures, reconstructions, critics, made pairs."""

from .adversarial import Adversarial, AdversarialConfig
from .combination import Combination, CombinationConfig
from .fixmatch import FixMatch, FixMatchConfig
from .frozen_features import FrozenFeatures, FrozenFeaturesConfig
from .mean_teacher import MeanTeacher, MeanTeacherConfig
from .segmentation_autoencoder import SegmentationAutoencoder, SegmentationAutoencoderConfig
from .shape_prior import ShapePrior, ShapePriorConfig
from .unimatch import UniMatch, UniMatchConfig
from .vae_segmenter import VAESegmenter, VAESegmenterConfig
from .wnet import WNet, WNetConfig

__all__ = [
    "Adversarial",
    "AdversarialConfig",
    "Combination",
    "CombinationConfig",
    "FixMatch",
    "FixMatchConfig",
    "FrozenFeatures",
    "FrozenFeaturesConfig",
    "MeanTeacher",
    "MeanTeacherConfig",
    "SegmentationAutoencoder",
    "SegmentationAutoencoderConfig",
    "ShapePrior",
    "ShapePriorConfig",
    "UniMatch",
    "UniMatchConfig",
    "VAESegmenter",
    "VAESegmenterConfig",
    "WNet",
    "WNetConfig",
]
