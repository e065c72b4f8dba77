"""Negative log-likelihood of MNIST under variational autoencoders, dynamically binarised, in nats a picture.

    python benchmarks/mnist_likelihood.py ../shared/data/mnist --minutes 12 --threads 1
    python benchmarks/mnist_likelihood.py ../shared/data/mnist --epochs 1000 --device cuda --samples 5000
    python benchmarks/mnist_likelihood.py ../shared/data/mnist --models conv --minutes 25 --precision bf16-mixed

vae1, vae5, iwae5, iwae50   the networks of the IWAE paper (Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, table
                            1, one stochastic layer): 784-200-200-50, tanh; k = 1, 5, 5 and 50
flow                        the same with 300-300-40, SiLU, and a prior of affine couplings
conv                        a convolutional VAE with that prior

Where we differ from the paper: Adam with batches of 100 and one cosine fall of the rate from 2e-3 after a short rise,
where the paper takes batches of 20 and 3280 epochs of falling rates; a moving average of the weights; for k = 50 the
gradient is a mean over samples drawn by their weight, which the paper names but does not use. The last 5,000 of the
training pictures are not trained on: they choose among the weights of the run. The test pictures are binarised once
(each by a generator of its own seed), and only the chosen weights see them.

The result of each model is written to OUT/likelihood.json as soon as it is there; models that are there are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intarsia.data.stack import read_stack
from intarsia.files import write_atomically
from intarsia.models import build
from intarsia.models.contract import Losses
from intarsia.models.generative import VAE, VAEConfig
from intarsia.records import Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import Training, prepare, train
from intarsia.training.machine import choose_device, describe, make_fabric, tune_allocator

VALIDATION = 5_000  # the last of the training pictures
WATCHED = 1_000  # of them during training
BATCH = 100

PAPER: dict[str, Any] = {
    "channels": 1, "size": (28, 28), "body": "dense", "hidden": (200, 200), "latent": 50, "activation": "tanh",
    "likelihood": "bernoulli", "binarise": True,
}  # fmt: skip
FLOW: dict[str, Any] = {"prior": "flow", "flow_steps": 8, "flow_width": 128}
MODELS: dict[str, dict[str, Any]] = {
    "vae1": {},
    "vae5": {"importance_samples": 5},
    "iwae5": {"objective": "iwae", "importance_samples": 5},
    "iwae50": {"objective": "iwae", "importance_samples": 50, "gradient_samples": 8},
    "flow": {"hidden": (300, 300), "latent": 40, "activation": "silu", **FLOW},
    "conv": {"body": "conv", "latent": 40, "activation": "silu", "width": 32, "residual": 0, "features": 256,
             "upsample": "subpixel", "finest": 2, **FLOW},
}  # fmt: skip
PUBLISHED = {"vae1": 87.78, "vae5": 87.15, "iwae5": 85.46, "iwae50": 84.59, "flow": 84.6, "conv": 84.6}  # conv: a goal


def batches(images: Tensor, size: int, seed: int) -> Iterator[Batch]:
    """Epoch after epoch, each in an order of its own; what is left over at its end is dropped."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for begin in range(0, len(order) - size + 1, size):
            yield Batch(images[order[begin : begin + size]])


def binarised(images: Tensor, seed: int) -> Tensor:
    """Each pixel 1 as often as it is bright, always the same for a seed."""
    drawn = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(images.device).lt(images).float()


def likelihood(model: VAE, images: Tensor, samples: int) -> Tensor:
    """(N,) nats: the bound of each picture."""
    torch.manual_seed(0)
    return torch.cat([model.bound(part, samples) for part in images.split(500)])


def start_at_mean(model: VAE, images: Tensor) -> None:
    """The decoder's last bias draws the mean picture, as in the IWAE paper's own code; without it, the first epochs of
    a short run go into that."""
    last = model.decoder.head[-1]
    if model.config.body == "dense" and isinstance(last, torch.nn.Linear):
        with torch.no_grad():
            last.bias.copy_(images.mean(dim=0).flatten().clamp(0.001, 0.999).logit())


class Curve:
    """Watches the training: a point of validation about `count` times, and the weights that did best."""

    def __init__(self, images: Tensor, count: int, samples: int, epoch: int) -> None:
        self.images, self.count, self.samples, self.epoch = images, count, samples, epoch
        self.points: list[dict[str, float]] = []
        self.best = math.inf
        self.weights: dict[str, Tensor] = {}

    def __call__(self, training: Training, losses: dict[str, Losses]) -> None:
        if training.progress.share * self.count >= len(self.points) + 1:
            self.measure(training)
            self.points[-1] |= {name: float(term) for name, term in losses["model"].items()}

    def measure(self, training: Training) -> None:
        model = training.model
        assert isinstance(model, VAE)
        with training.average.applied(model), torch.random.fork_rng():
            nll = -likelihood(model, self.images, self.samples).mean().item()
        progress = training.progress
        epochs = progress.step / self.epoch
        self.points.append({"step": progress.step, "epochs": epochs, "seconds": progress.seconds, "nll": nll})
        if nll < self.best:
            self.best = nll
            self.weights = {name: tensor.clone() for name, tensor in training.average.tensors.items()}
        print("  " + ", ".join(f"{name} {value:.2f}" for name, value in self.points[-1].items()), flush=True)


def measured(name: str, options: argparse.Namespace, pictures: Tensor, test: Tensor) -> dict[str, Any]:
    """Trains one model and measures it."""
    device = choose_device(options.device)
    settings = {**MODELS[name], **(json.loads(options.set) if options.set else {})}
    config = VAEConfig.model_validate({**PAPER, **settings})
    training_pictures, validation = pictures[:-VALIDATION].to(device), binarised(pictures[-VALIDATION:], 1).to(device)
    epoch = len(training_pictures) // options.batch
    minutes = options.conv_minutes if name == "conv" and options.conv_minutes else options.minutes
    train_config = TrainConfig(
        **({"epochs": options.epochs} if options.epochs else {"minutes": minutes}), batch=options.batch,
        optimizer="adam", learning_rate=options.rate, weight_decay=0.0, clip=options.clip, average=options.average,
        schedule="cosine", warmup=0.01, precision=options.precision, device=options.device, threads=options.threads,
    )  # fmt: skip
    torch.manual_seed(options.seed)
    fabric = make_fabric(train_config, device)
    model = build(config)
    assert isinstance(model, VAE)
    start_at_mean(model, training_pictures)
    training, wrapped = prepare(model, train_config, options.seed, fabric)
    curve = Curve(validation[:WATCHED], options.watch_points, options.watch_samples, epoch)
    steps = round(options.epochs * epoch) if options.epochs else None
    train(training, wrapped, fabric, batches(training_pictures, options.batch, options.seed), steps, [curve])
    curve.measure(training)
    model.load_state_dict(curve.weights)
    model.eval()

    begin = time.perf_counter()
    result: dict[str, Any] = {
        "model": config.model_dump(), "train": train_config.model_dump(), "seed": options.seed,
        "device": describe(device), "threads": torch.get_num_threads(), "steps": training.progress.step,
        "epochs": training.progress.step / epoch, "minutes": training.progress.seconds / 60,
        "parameters": sum(each.numel() for each in model.parameters()),
        "validation_nll_50": curve.best, "validation_curve": curve.points,
    }  # fmt: skip
    if not options.no_test:
        bounds = likelihood(model, binarised(test, 2).to(device), options.samples)
        result |= {
            "test_nll": -bounds.mean().item(), "test_nll_standard_error": (bounds.std() / len(bounds) ** 0.5).item(),
            "samples": options.samples, "test_minutes": (time.perf_counter() - begin) / 60,
        }  # fmt: skip
        torch.manual_seed(0)
        elbo = torch.cat([model.bound(part, 1) for part in binarised(test, 2).to(device).split(500)])
        found = model.health(Batch(binarised(test, 2).to(device)))
        variance = found["means_square_sum"] / len(test) - (found["means_sum"] / len(test)).square()
        result |= {"test_elbo": elbo.mean().item(), "active": int((variance > 0.01).sum())}  # Burda et al., section 5.2
        torch.save(model.state_dict(), options.out / f"{name}.pt")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the idx files")
    parser.add_argument("--models", default="vae1,vae5,iwae5,iwae50,flow,conv", help="which, by comma")
    parser.add_argument("--minutes", type=float, default=12.0, help="of training, each model")
    parser.add_argument("--conv-minutes", type=float, help="of the convolutional one, if not the same")
    parser.add_argument("--epochs", type=float, help="instead of minutes")
    parser.add_argument("--samples", type=int, default=500, help="of the bound on the test pictures; the paper's: 5000")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=0.0)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--watch-samples", type=int, default=50, help="of the bound on the validation pictures")
    parser.add_argument("--watch-points", type=int, default=25, help="of the validation curve")
    parser.add_argument("--set", help="JSON of settings of the model, over its own")
    parser.add_argument("--no-test", action="store_true", help="for choosing settings: the validation curve alone")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_likelihood"))
    options = parser.parse_args()

    tune_allocator()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "likelihood.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    pictures, test = (
        torch.from_numpy(read_stack(options.folder / f"{part}-images-idx3-ubyte.gz")[0].copy())
        .permute(0, 3, 1, 2)
        .div(255)
        for part in ("train", "t10k")
    )
    for name in options.models.split(","):
        if name in results:
            continue
        print(name, flush=True)
        results[name] = measured(name, options, pictures, test)
        write_atomically(path, json.dumps(results, indent=1).encode())
        print(table(results), flush=True)


def table(results: dict[str, Any]) -> str:
    rows = ["| model | NLL, nats | published | ELBO | samples | epochs | minutes |", "|---|---|---|---|---|---|---|"]
    for name, each in results.items():
        if "test_nll" in each:
            rows.append(
                f"| {name} | {each['test_nll']:.2f} ± {each['test_nll_standard_error']:.2f} | {PUBLISHED[name]:.2f} | "
                f"{-each['test_elbo']:.2f} | {each['samples']} | {each['epochs']:.0f} | {each['minutes']:.1f} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
