"""Pictures a second in training VAEs and GANs: our loop, a plain PyTorch loop, and pythae's trainer.

    pip install pythae
    python benchmarks/generative_speed.py --seconds 20 --turns 5 --out speed.json

The networks are ours for all contestants, with the same loss (Bernoulli likelihood and divergence; non-saturating
game), batch of 64, Adam, float32 and number of threads. Data are in memory: MNIST's 60,000 digits, or 2,048 pictures of
noise.

ours     `intarsia.training.loop` on `intarsia.data.batches` with all that `fit` does by default at each step: batches
         that can be repeated, a moving average of the weights, a check that loss and gradient are finite; channels last
         and glibc's allocator told to keep memory, as `fit` does
plain    what PyTorch's tutorials write: a shuffled `DataLoader` of a `TensorDataset`, zero_grad, backward, step; the
         GAN's drawn pictures serve critic and generator (ours draws fresh ones for each)
pythae   its VAE and `BaseTrainer`, our networks as its encoder and decoder

Each contestant is a process of its own; they take turns. Printed are medians and extremes, pictures a second of the
processor (all cores together: steadier where others use the machine too), and how many times as fast ours was in the
same round. Start-up times are those of fresh processes, in turns too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

BATCH, WARM = 64, 10  # pictures a step; steps before the clock starts
MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist" / "train-images-idx3-ubyte.gz"
DENSE = {"body": "dense", "hidden": (200, 200), "latent": 50, "activation": "tanh"}
#: case -> configuration of the model
CASES: dict[str, dict[str, Any]] = {
    "vae dense 28x28": {"name": "vae", "channels": 1, "size": (28, 28), "likelihood": "bernoulli", **DENSE},
    "vae conv 28x28": {"name": "vae", "channels": 1, "size": (28, 28), "likelihood": "bernoulli"},
    "vae conv 64x64x3": {"name": "vae", "channels": 3, "size": (64, 64), "likelihood": "bernoulli"},
    "gan 28x28": {"name": "gan", "channels": 1, "size": (28, 28)},
    "gan 64x64x3": {"name": "gan", "channels": 3, "size": (64, 64)},
}
STARTS = {
    "import intarsia": ["-c", "import intarsia"],
    "intarsia --help": ["-m", "intarsia", "--help"],
    "import intarsia.models": ["-c", "import intarsia.models, intarsia.training.loop"],
    "import torch": ["-c", "import torch"],
    "import pythae.models": ["-c", "import pythae.models, pythae.trainers"],
}


class Enough(Exception):
    """The time is up."""


class Clock:
    """Called after each step: starts after WARM steps, and raises Enough `seconds` later."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.begin, self.end = seconds, 0, 0.0, 0.0
        self.cpu_begin = self.cpu_end = 0.0

    def __call__(self) -> None:
        self.steps += 1
        self.end, self.cpu_end = time.perf_counter(), time.process_time()
        if self.steps == WARM:
            self.begin, self.cpu_begin = self.end, self.cpu_end
        if self.steps > WARM and self.end - self.begin >= self.seconds:
            raise Enough

    @property
    def speed(self) -> float:
        return BATCH * (self.steps - WARM) / (self.end - self.begin)

    @property
    def cpu_speed(self) -> float:
        return BATCH * (self.steps - WARM) / (self.cpu_end - self.cpu_begin)


def pictures(case: str, mnist: Path) -> Any:
    """(N, H, W, C) uint8."""
    import numpy as np

    from intarsia.data.stack import read_stack

    config = CASES[case]
    if config["channels"] == 1:
        return read_stack(mnist)[0]
    return np.random.default_rng(0).integers(0, 256, (2048, *config["size"], config["channels"]), np.uint8)


def model_of(case: str) -> Any:
    import torch
    from pydantic import TypeAdapter

    from intarsia.models import AnyModel, build

    torch.manual_seed(0)
    return build(TypeAdapter(AnyModel).validate_python(CASES[case]))


def ours(case: str, images: Any, threads: int, clock: Clock) -> None:
    import torch

    from intarsia.data.augment import AugmentConfig
    from intarsia.data.batches import Cached, batches
    from intarsia.data.stack import Stack
    from intarsia.training.config import TrainConfig
    from intarsia.training.loop import prepare, train
    from intarsia.training.machine import make_fabric, tune_allocator

    tune_allocator()
    model = model_of(case)
    recommended = {key.removeprefix("train."): value for key, value in model.recommended.items()}
    wished = {"device": "cpu", "precision": "32-true", "threads": threads, "steps": 10**6, "batch": BATCH}
    config = TrainConfig(**{**recommended, **wished})
    off = dict.fromkeys(
        ("flip_horizontal", "brightness", "contrast", "saturation", "hue", "gamma", "blur", "noise"), 0.0
    )
    augment = AugmentConfig(crop=model.config.size, scale=(1.0, 1.0), **off)
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(model.to(memory_format=torch.channels_last), config, 0, fabric)
    stream = batches(Cached(Stack(images)), augment, BATCH, seed=0, workers=config.workers)
    train(training, wrapped, fabric, stream, config.steps, [lambda training, losses: clock()])


def endless(images: Any) -> Iterator[Any]:
    """Batches (B, C, H, W) in [0, 1] as most people make them."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    loader = DataLoader(TensorDataset(data), batch_size=BATCH, shuffle=True, drop_last=True)
    while True:
        for (batch,) in loader:
            yield batch


def plain(case: str, images: Any, threads: int, clock: Clock) -> None:
    (plain_vae if CASES[case]["name"] == "vae" else plain_gan)(model_of(case), endless(images), clock)


def plain_vae(model: Any, data: Iterator[Any], clock: Clock) -> None:
    import torch
    import torch.nn.functional as F

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for images in data:
        told = torch.zeros(len(images), 0)
        mean, log_variance = model.encoder(images, told)
        latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = model.decoder(latent, told)
        reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss = (reconstruction + divergence) / len(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock()


def plain_gan(model: Any, data: Iterator[Any], clock: Clock) -> None:
    import torch
    import torch.nn.functional as F

    generator, critic = model.generator.train(), model.critic.train()
    of_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    of_critic = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))
    yes, no = torch.ones(BATCH), torch.zeros(BATCH)
    for images in data:
        drawn = generator(torch.randn(BATCH, *model.latent_shape), None)
        of_critic.zero_grad()
        real = F.binary_cross_entropy_with_logits(critic(2 * images - 1, None), yes)
        fake = F.binary_cross_entropy_with_logits(critic(drawn.detach(), None), no)
        (real + fake).backward()
        of_critic.step()
        of_generator.zero_grad()
        F.binary_cross_entropy_with_logits(critic(drawn, None), yes).backward()
        of_generator.step()
        clock()


def pythae(case: str, images: Any, threads: int, clock: Clock) -> None:
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    model = model_of(case)

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.network = model.encoder

        def forward(self, x: Any) -> Any:
            mean, log_variance = self.network(x, torch.zeros(len(x), 0))
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.network = model.decoder

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.network(z, torch.zeros(len(z), 0)).sigmoid())

    class Stop(TrainingCallback):  # type: ignore[misc]
        def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
            clock()

    shape = (model.config.channels, *model.config.size)
    config = VAEConfig(input_dim=shape, latent_dim=model.config.latent, reconstruction_loss="bce")
    data = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with tempfile.TemporaryDirectory() as folder:
        options = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=BATCH, learning_rate=1e-3, num_epochs=10**4, no_cuda=True
        )
        dataset = BaseDataset(data, torch.zeros(len(data)))
        BaseTrainer(VAE(config, Encoder(), Decoder()), dataset, training_config=options, callbacks=[Stop()]).train()


CONTESTANTS: dict[str, Callable[[str, Any, int, Clock], None]] = {"plain": plain, "ours": ours, "pythae": pythae}


def one(contestant: str, case: str, options: argparse.Namespace) -> dict[str, float]:
    """A turn of a contestant, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    clock = Clock(options.seconds)
    with suppress(Enough):
        CONTESTANTS[contestant](case, pictures(case, options.mnist), options.threads, clock)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"speed": clock.speed, "cpu": clock.cpu_speed, "megabytes": megabytes}


def turn(arguments: list[str], environment: dict[str, str]) -> tuple[str, float]:
    """What a fresh Python prints, and its wall-clock seconds."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout, seconds


def summary(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="counted in each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch, for everyone")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--starts", type=int, default=5, help="turns of the start-up times; 0 = none")
    parser.add_argument("--mnist", type=Path, default=MNIST, help="train-images-idx3-ubyte.gz")
    parser.add_argument("--out", type=Path, help="where the numbers are written as JSON")
    parser.add_argument("--one", nargs=2, metavar=("CONTESTANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print("\n" + json.dumps(one(*options.one, options)))
        return

    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": "1000"}
    there = subprocess.run([sys.executable, "-c", "import pythae.models"], capture_output=True).returncode == 0
    if not there:
        print("pythae is not installed (pip install pythae): left out")
    results: dict[str, Any] = {"seconds": options.seconds, "turns": options.turns, "threads": options.threads}
    for case in options.cases:
        entered = [name for name in CONTESTANTS if name != "pythae" or (there and CASES[case]["name"] == "vae")]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in entered}
        for number in range(options.turns):
            for name in entered:
                arguments = [__file__, "--one", name, case, "--seconds", str(options.seconds)]
                arguments += ["--threads", str(options.threads), "--mnist", str(options.mnist)]
                found[name].append(json.loads(turn(arguments, environment)[0].splitlines()[-1]))
                speeds = "{speed:.0f} pictures/s, {cpu:.0f} a second of the processor".format(**found[name][-1])
                print(f"turn {number + 1}: {case}: {name}: {speeds}", file=sys.stderr, flush=True)
        results[case] = {}
        print(f"\n{case:<17}{'pictures/s':>11}{'min':>8}{'max':>8}{'/cpu s':>8}{'MB':>6}   ours is as fast ... times")
        for name, turns in found.items():
            each = {key: [one[key] for one in turns] for key in turns[0]}
            mine = {key: [one[key] for one in found["ours"]] for key in turns[0]}
            ratio, cpu = (
                summary([a / b for a, b in zip(mine[key], each[key], strict=True)]) for key in ("speed", "cpu")
            )
            results[case][name] = {key: summary(values) for key, values in each.items()}
            results[case][name] |= {"ratio": ratio, "cpu_ratio": cpu}
            speed, middle = (
                results[case][name]["speed"],
                {key: statistics.median(values) for key, values in each.items()},
            )
            print(
                f"{name:<17}{speed['median']:11.0f}{speed['min']:8.0f}{speed['max']:8.0f}{middle['cpu']:8.0f}"
                f"{middle['megabytes']:6.0f}   {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}); "
                f"by cpu {cpu['median']:.2f} ({cpu['min']:.2f} to {cpu['max']:.2f})",
                flush=True,
            )

    if options.starts:
        starts = {name: arguments for name, arguments in STARTS.items() if there or "pythae" not in name}
        seconds: dict[str, list[float]] = {name: [] for name in starts}
        for _ in range(options.starts):
            for name, arguments in starts.items():
                seconds[name].append(turn(arguments, environment)[1])
        print(f"\n{'start':<28}{'seconds':>8}{'min':>7}{'max':>7}")
        for name, values in seconds.items():
            print(f"{name:<28}{statistics.median(values):8.2f}{min(values):7.2f}{max(values):7.2f}")
        results["starts"] = {name: summary(values) for name, values in seconds.items()}
    if options.out:
        options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
