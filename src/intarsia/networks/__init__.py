"""Bricks that two or more models use unchanged."""

from .encoders import OWN_ENCODERS, Encoder, OutputStride, build_encoder

__all__ = ["OWN_ENCODERS", "Encoder", "OutputStride", "build_encoder"]
