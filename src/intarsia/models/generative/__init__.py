"""Models of what pictures look like: they draw, complete, mend and compress."""

from .autoencoder import Autoencoder, AutoencoderConfig
from .diffusion import Diffusion, DiffusionConfig
from .gan import GAN, GANConfig
from .pair_gan import PairGAN, PairGANConfig
from .pix2pix import Pix2Pix, Pix2PixConfig
from .vae import VAE, VAEConfig
from .vae_gan import VAEGAN, VAEGANConfig
from .vqvae import VQVAE, VQVAEConfig

__all__ = [
    "GAN",
    "VAE",
    "VAEGAN",
    "VQVAE",
    "Autoencoder",
    "AutoencoderConfig",
    "Diffusion",
    "DiffusionConfig",
    "GANConfig",
    "PairGAN",
    "PairGANConfig",
    "Pix2Pix",
    "Pix2PixConfig",
    "VAEConfig",
    "VAEGANConfig",
    "VQVAEConfig",
]
