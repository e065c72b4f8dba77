"""Every model there is, by name. From this dictionary come the command line's list, the union of all configurations
and the contract test."""

from typing import Annotated

from pydantic import Field

from .combined import (
    Adversarial,
    AdversarialConfig,
    FixMatch,
    FixMatchConfig,
    FrozenFeatures,
    FrozenFeaturesConfig,
    MeanTeacher,
    MeanTeacherConfig,
    SegmentationAutoencoder,
    SegmentationAutoencoderConfig,
    ShapePrior,
    ShapePriorConfig,
    UniMatch,
    UniMatchConfig,
    VAESegmenter,
    VAESegmenterConfig,
    WNet,
    WNetConfig,
)
from .contract import InstanceConfig, InstanceModel, Model, ModelConfig, SemanticConfig, SemanticModel
from .generative import (
    GAN,
    VAE,
    VAEGAN,
    VQVAE,
    Autoencoder,
    AutoencoderConfig,
    Diffusion,
    DiffusionConfig,
    GANConfig,
    PairGAN,
    PairGANConfig,
    Pix2Pix,
    Pix2PixConfig,
    VAEConfig,
    VAEGANConfig,
    VQVAEConfig,
)
from .instance import InstanceSegNet, InstanceSegNetConfig, MaskRCNN, MaskRCNNConfig, Watershed, WatershedConfig
from .semantic import (
    FCN,
    DeepLab,
    DeepLabConfig,
    FCDenseNet,
    FCDenseNetConfig,
    FCNConfig,
    HoldsSegmenter,
    ProbabilisticUNet,
    ProbabilisticUNetConfig,
    RealTime,
    RealTimeConfig,
    SegNet,
    SegNetConfig,
    UNet,
    UNetConfig,
)

MODELS: dict[str, type[Model]] = {
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "deeplab": DeepLab,
    "fc_densenet": FCDenseNet,
    "realtime": RealTime,
    "probabilistic_unet": ProbabilisticUNet,
    "mean_teacher": MeanTeacher,
    "fixmatch": FixMatch,
    "unimatch": UniMatch,
    "wnet": WNet,
    "segmentation_autoencoder": SegmentationAutoencoder,
    "vae_segmenter": VAESegmenter,
    "frozen_features": FrozenFeatures,
    "adversarial": Adversarial,
    "shape_prior": ShapePrior,
    "instance_segnet": InstanceSegNet,
    "mask_rcnn": MaskRCNN,
    "watershed": Watershed,
    "autoencoder": Autoencoder,
    "gan": GAN,
    "pair_gan": PairGAN,
    "pix2pix": Pix2Pix,
    "vae_gan": VAEGAN,
    "diffusion": Diffusion,
    "vqvae": VQVAE,
    "vae": VAE,
}

AnyModel = Annotated[
    FCNConfig
    | UNetConfig
    | SegNetConfig
    | DeepLabConfig
    | FCDenseNetConfig
    | RealTimeConfig
    | ProbabilisticUNetConfig
    | MeanTeacherConfig
    | FixMatchConfig
    | UniMatchConfig
    | WNetConfig
    | SegmentationAutoencoderConfig
    | VAESegmenterConfig
    | FrozenFeaturesConfig
    | AdversarialConfig
    | ShapePriorConfig
    | InstanceSegNetConfig
    | MaskRCNNConfig
    | WatershedConfig
    | AutoencoderConfig
    | GANConfig
    | PairGANConfig
    | Pix2PixConfig
    | VAEGANConfig
    | DiffusionConfig
    | VQVAEConfig
    | VAEConfig,
    Field(discriminator="name"),
]


def build(config: AnyModel, fetch: bool = True) -> Model:
    """The model that a configuration describes, with fresh weights.

    fetch: whether pretrained weights that the configuration asks for are fetched. False where the model's own weights
    are loaded next: a trained run opens without the network.

    Raises UsageError for an encoder that does not exist or does not fit, or weights that can't be fetched.
    """
    if not fetch and "pretrained" in type(config).model_fields:
        config = config.model_copy(update={"pretrained": False})
    elif not fetch and isinstance(config, HoldsSegmenter) and "pretrained" in type(config.segmenter).model_fields:
        config = config.model_copy(update={"segmenter": config.segmenter.model_copy(update={"pretrained": False})})
    return MODELS[config.name](config)


__all__ = [
    "MODELS",
    "AnyModel",
    "InstanceConfig",
    "InstanceModel",
    "Model",
    "ModelConfig",
    "SemanticConfig",
    "SemanticModel",
    "build",
]
