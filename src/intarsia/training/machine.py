"""What this machine is faster with. Nothing here runs at import: `fit` asks for it."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
import time
from functools import cache
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch import nn

from ..errors import UsageError
from .config import TrainConfig

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(wanted: str) -> str:
    """ "cuda" or "cpu": the wanted one, or for "auto" the faster there is. UsageError where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device, available in there.items() if available)
    if not there[wanted]:
        found = ", ".join(device for device, available in there.items() if available)
        raise UsageError(f"train.device = {wanted!r}, but torch {torch.__version__} finds only {found}; take 'auto'.")
    return wanted


def choose_precision(wanted: str, device: str) -> Precision:
    """The wanted precision; "auto": bf16 where the device gains by it (on a CPU that is measured), else 32 bit."""
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device == "cpu":
        return "bf16-mixed" if _seconds(torch.bfloat16) * 1.3 < _seconds(torch.float32) else "32-true"
    return "32-true"


@cache
def _seconds(dtype: torch.dtype) -> float:
    """The fastest of a few forward and backward passes through convolutions of a small U-Net's middle. Measured once,
    so that all who ask in one process get the same answer."""
    layers = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()] * 3
    net = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    images = torch.ones(4, 64, 48, 64).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            result = net(images)
        result.float().mean().backward()
        best = min(best, time.perf_counter() - begin)
    return best


def tune_allocator() -> bool:
    """Lets glibc keep freed memory instead of handing it back after each step: 1.2 to 1.4 times the speed on a CPU.

    By default each large tensor is a fresh mapping, and a training step takes some 300,000 page faults. True where
    it took effect; elsewhere (musl, macOS, Windows) nothing happens.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # mallopt(3)
    libc = ctypes.CDLL(None)
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 * 2**20))
    results = [libc.mallopt(which, value) for which, value in settings]
    return all(results)


def describe(device: str) -> str:
    """The device in words, for reports: the GPU's name, or the processor's and its cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {cores()} core{'s' if cores() > 1 else ''}"


class Autocast(MixedPrecision):
    """Mixed precision that leaves the batch as it is: Fabric's own rounds pictures to 16 bits before any layer."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(config: TrainConfig, device: str) -> Fabric:
    """Lightning Fabric for one device, with the precision of a configuration, launched."""
    if config.threads or device == "cpu":
        torch.set_num_threads(config.threads or cores())
    precision = choose_precision(config.precision, device)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # what it says of precision, `fit` says too
    if precision == "32-true":
        fabric = Fabric(accelerator=device, devices=1, precision=precision)
    else:
        fabric = Fabric(accelerator=device, devices=1, plugins=[Autocast(precision, device)])
    fabric.launch()
    return fabric
