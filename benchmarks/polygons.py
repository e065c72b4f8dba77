"""Precision and recall of GANs on pictures whose manifold is known exactly: filled triangles.

    python benchmarks/polygons.py --out results/polygons

After Lucic, Kurach, Michalski, Gelly, Bousquet, "Are GANs Created Equal?", 2018, arxiv.org/abs/1711.10337, section 5. A
picture is grey, 16x16 pixels, black around one white triangle whose edges are smoothed over one pixel; its six numbers,
the corners' places, are all that there is to learn. So what a GAN draws is measured without features and without taste:

precision   share of drawn pictures within TOLERANCE of some triangle. The nearest is found by fitting corners to the
            picture by descent, begun at the smallest triangle around its bright region. Fits can end too early, so
            this is a lower bound. `--check` measures the measure: new triangles pass (100 % of 512), squares, discs and
            blurred triangles do not (0 %), two triangles in one picture rarely (0.4 %; loose 3.1 %), and noise of 0.1
            within a triangle does as far as it is below the tolerance (25 %; loose 99 %).
recall      share of held-out triangles within TOLERANCE of some picture that the generator can draw. The nearest is
            found by descending the noise from the two best of 4096 draws, held within the ball that holds 99.9 % of
            the noise.
F           their harmonic mean.
TOLERANCE   0.75 / 28 = 0.027 root mean square of the pixels in [0, 1]: the paper's 0.75 for 28x28 pixels. All three are
            given for twice that too (loose), since few steps of a small network draw an edge roughly.
density, coverage, and k-NN precision and recall: k = 5, 1024 drawn against 1024 held-out pictures, distances of pixels;
            after Naeem et al. 2020, arxiv.org/abs/2002.09797, and Kynkaanniemi et al. 2019, arxiv.org/abs/1904.06991.
copying     mean distance of drawn pictures to their nearest training picture, over that of held-out ones: 1 is
            no closer to the training pictures than new triangles are, 0 is copies.

Every contestant trains for the same number of the generator's steps on the same pictures in the same order, through
the library's own loop, with the settings that it recommends but for batches of 32, a rate of 5e-4 and what CONTESTANTS
says: WGAN-GP's critic has two turns for one of the generator (five in its paper), so its seconds are longer, and the
table gives them. What is measured is the moving average of the weights. Each finished case is appended to
OUT/polygons.json and skipped the next time; OUT/*.png shows 64 pictures of each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from intarsia.models.generative.gan import GAN, GANConfig
from intarsia.records import Batch
from intarsia.training.config import TrainConfig
from intarsia.training.loop import batches_a_step, prepare, train
from intarsia.training.machine import make_fabric, tune_allocator

SIZE = 16  # pixels of a side
SMALLEST = 0.06  # of a triangle, share of the picture
PICTURES = 10_000  # at a share of 1
HELD_OUT = 1024
TOLERANCE = 0.75 / 28
LATENT = 64
EVERYTHING = ("colour", "translation", "cutout")

#: name -> settings of the model, settings of the training
CONTESTANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dcgan": ({}, {}),
    "wgan-gp": ({"game": "wasserstein", "gradient_penalty": 10.0, "critic_steps": 2}, {"betas": (0.5, 0.9)}),
    "hinge+sn": ({"game": "hinge", "spectral_norm": True}, {"rates": {"critic": 2.0}}),
}


def triangles(count: int, seed: int) -> Tensor:
    """Corners (count, 3, 2) in pixels, x then y: uniform in the picture without its rim, none too small to be seen."""
    random, found = np.random.default_rng(seed), np.empty((0, 3, 2))
    while len(found) < count:
        corners = random.uniform(SIZE / 16, SIZE * 15 / 16, (2 * count, 3, 2))
        (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
        found = np.concatenate([found, corners[np.abs(ax * by - ay * bx) / 2 >= SMALLEST * SIZE**2]])
    return torch.from_numpy(found[:count]).float()


def drawn(corners: Tensor, softness: float = 1.0) -> Tensor:
    """Pictures (N, 1, SIZE, SIZE) in [0, 1] of convex polygons (N, corners in order, 2). A pixel is 1/2 plus the
    distance of its middle to the nearest edge's line in pixels over `softness`, positive inside, within [0, 1]."""
    middle = torch.arange(SIZE) + 0.5
    following = corners.roll(-1, 1)
    along = following - corners  # N corners 2
    x, y = corners[..., 0], corners[..., 1]
    turn = (x * following[..., 1] - y * following[..., 0]).sum(1, keepdim=True).sign()  # which way round they are given
    inwards = turn[..., None] * torch.stack([-along[..., 1], along[..., 0]], -1)
    normal = inwards / (along.norm(dim=-1, keepdim=True) + 1e-6)
    offset = (normal * corners).sum(-1)  # N corners
    across = normal[..., 0, None, None] * middle + normal[..., 1, None, None] * middle[:, None]  # N corners H W
    distance = (across - offset[..., None, None]).amin(dim=1, keepdim=True)
    return (0.5 + distance / softness).clamp(0, 1)


def distances(pictures: Tensor, steps: int = 160) -> Tensor:
    """(N,) root mean square difference between each picture (N, 1, H, W) and the triangle that fits it best."""
    corners = torch.from_numpy(np.stack([_around(picture[0].numpy()) for picture in pictures])).requires_grad_(True)
    optimizer = torch.optim.Adam([corners], 0.3)
    best = torch.full((len(pictures),), math.inf)
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - share) + 0.01
        softness = max(1.0, 3.0 - 4.0 * share)  # wide edges at first, so that more pixels pull
        errors = (drawn(corners, softness) - pictures).square().mean(dim=(1, 2, 3))
        optimizer.zero_grad()
        errors.sum().backward()
        optimizer.step()
        if softness == 1.0:
            best = torch.minimum(best, errors.detach().sqrt())
    return best


def _around(picture: np.ndarray) -> np.ndarray:
    """(3, 2) float32: the corners of the smallest triangle around the pixels brighter than 1/2."""
    rows, columns = np.nonzero(picture > 0.5)
    points = np.stack([columns, rows], 1).astype(np.float32) + 0.5
    found = cv2.minEnclosingTriangle(points[:, None])[1] if len(points) > 3 else None
    if found is None or not np.isfinite(found).all():
        found = SIZE * np.array([[0.25, 0.25], [0.75, 0.25], [0.5, 0.75]], np.float32)
    return found.reshape(3, 2)


def reached(model: GAN, targets: Tensor, seed: int, starts: int = 2, steps: int = 100) -> Tensor:
    """(N,) root mean square difference between each target (N, 1, H, W) and the nearest picture the model can draw."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(4096, LATENT, generator=random)
    with torch.no_grad():
        pictures = torch.cat([model(part) for part in noise.split(256)])
    far = torch.cdist(targets.flatten(1), pictures.flatten(1))
    latent = noise[far.topk(starts, largest=False).indices.flatten()].requires_grad_(True)
    wanted = targets.repeat_interleave(starts, 0)
    radius = math.sqrt(LATENT) + 3 / math.sqrt(2)  # the norm is about N(sqrt(Z), 1/2)
    optimizer = torch.optim.Adam([latent], 0.1)
    best = torch.full((len(wanted),), math.inf)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps) + 0.005
        errors = (model(latent) - wanted).square().mean(dim=(1, 2, 3))
        best = torch.minimum(best, errors.detach().sqrt())
        (latent.grad,) = torch.autograd.grad(errors.sum(), latent)
        optimizer.step()
        with torch.no_grad():
            latent *= (radius / latent.norm(dim=1, keepdim=True)).clamp(max=1)
    return best.view(-1, starts).amin(dim=1)


def neighbours(real: Tensor, fake: Tensor, k: int = 5) -> dict[str, float]:
    """k-NN precision, recall, density and coverage of pixels."""
    real, fake = real.flatten(1), fake.flatten(1)
    real_radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the nearest is the picture itself
    fake_radius = torch.cdist(fake, fake).kthvalue(k + 1, dim=1).values
    far = torch.cdist(real, fake)
    inside = far < real_radius[:, None]
    return {
        "knn_precision": inside.any(dim=0).float().mean().item(),
        "knn_recall": (far < fake_radius).any(dim=1).float().mean().item(),
        "density": inside.float().sum(dim=0).mean().item() / k,
        "coverage": inside.any(dim=1).float().mean().item(),
    }


def batches(pictures: Tensor, size: int, seed: int) -> Iterator[Batch]:
    """Endless: every picture once, in an order drawn anew each time."""
    random = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(pictures), generator=random)])
        yield Batch(pictures[order[:size]])
        order = order[size:]


def case(name: str, augment: bool, share: float, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains one contestant and measures it."""
    given, settings = CONTESTANTS[name]
    pictures = drawn(triangles(round(PICTURES * share), 1000 + seed))
    held_out = drawn(triangles(HELD_OUT, 1))
    torch.manual_seed(seed)
    model = GAN(
        GANConfig(
            channels=1, size=(SIZE, SIZE), latent=LATENT, width=arguments.width,
            augment=EVERYTHING if augment else (), **given,
        )
    )  # fmt: skip
    recommended = {key.removeprefix("train."): value for key, value in GAN.recommended.items()}
    options = {"batch": 32, "learning_rate": 5e-4, "device": "cpu", **settings}
    options |= {"precision": arguments.precision, "threads": arguments.threads}
    config = TrainConfig(**{**recommended, **options})
    fabric = make_fabric(config, "cpu")
    training, wrapped = prepare(model, config, seed, fabric)
    train(training, wrapped, fabric, batches(pictures, config.batch, seed), arguments.steps)
    begin = time.perf_counter()
    result: dict[str, Any] = {
        "model": name, "augment": augment, "share": share, "pictures": len(pictures), "seed": seed,
        "steps": arguments.steps, "batch": config.batch, "width": arguments.width, "bits": arguments.precision,
        "critic_steps": batches_a_step(model), "threads": arguments.threads, "train_seconds": training.progress.seconds,
    }  # fmt: skip
    with training.average.applied(model):
        model.requires_grad_(False)
        noise = torch.randn(HELD_OUT, LATENT, generator=torch.Generator().manual_seed(7))
        fake = torch.cat([model(part) for part in noise.split(256)])
        result |= model.health(Batch(held_out)) | neighbours(held_out, fake)
        off, missed = distances(fake[:512]), reached(model, held_out[:128], 11)
    for suffix, tolerance in (("", TOLERANCE), ("_loose", 2 * TOLERANCE)):
        precision = (off <= tolerance).float().mean().item()
        recall = (missed <= tolerance).float().mean().item()
        both = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        result |= {f"precision{suffix}": precision, f"recall{suffix}": recall, f"f{suffix}": both}
    result |= {"precision_median": off.median().item(), "recall_median": missed.median().item()}
    known = pictures.flatten(1)
    near = [torch.cdist(each.flatten(1), known).amin(dim=1).mean().item() for each in (fake, held_out)]
    result |= {"copying": near[0] / near[1], "measure_seconds": time.perf_counter() - begin}
    write_grid(arguments.out / f"{label(result)}.png", fake[:64])
    return {key: value.item() if isinstance(value, Tensor) else value for key, value in result.items()}


def label(result: dict[str, Any]) -> str:
    augmented = "augmented" if result["augment"] else "plain"
    return f"{result['model']}-{augmented}-{result['share']:g}-seed{result['seed']}"


def write_grid(path: Path, pictures: Tensor, columns: int = 16) -> None:
    cells = (255 * torch.nn.functional.pad(pictures[:, 0], (0, 1, 0, 1), value=0.4)).round().byte().numpy()
    rows = [np.concatenate(list(cells[i : i + columns]), axis=1) for i in range(0, len(cells), columns)]
    picture = np.concatenate(rows, axis=0)
    cv2.imwrite(str(path), cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST))


def check() -> None:
    """What passes for a triangle and what does not."""
    corners = triangles(512, 2)
    truth = drawn(corners)
    blurred = torch.from_numpy(np.stack([cv2.GaussianBlur(p[0].numpy(), (0, 0), 1.0) for p in truth]))[:, None]
    random = np.random.default_rng(3)
    angles = np.sort(random.uniform(0, 2 * np.pi, (512, 1)) + np.arange(4) * np.pi / 2, axis=1)
    squares = SIZE * random.uniform(0.15, 0.45, (512, 1, 1)) * np.stack([np.cos(angles), np.sin(angles)], -1)
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    discs = SIZE * random.uniform(0.12, 0.4, (512, 1, 1)) * np.stack([np.cos(around), np.sin(around)], -1)
    print(f"share within {TOLERANCE:.3f}, within {2 * TOLERANCE:.3f}, median distance, of 512")
    for name, pictures in {
        "triangles": truth,
        "noise of 0.1 in the triangle": (truth + 0.1 * torch.randn_like(truth) * (truth > 0)).clamp(0, 1),
        "blurred triangles": blurred,
        "squares": drawn(torch.from_numpy(squares + SIZE / 2).float()),
        "discs": drawn(torch.from_numpy(discs + SIZE / 2).float()),
        "two triangles": torch.maximum(truth, truth.flip(0)),
    }.items():
        far = distances(pictures)
        near = [(far <= each).float().mean() for each in (TOLERANCE, 2 * TOLERANCE)]
        print(f"{name:32} {near[0]:6.1%} {near[1]:6.1%} {far.median():7.4f}")


COLUMNS = (
    "precision", "recall", "f", "precision_loose", "recall_loose", "f_loose",
    "density", "coverage", "knn_precision", "knn_recall", "copying", "train_seconds",
)  # fmt: skip


def table(results: list[dict[str, Any]]) -> None:
    """A row a case: means over seeds, and the largest less the smallest where there are several."""
    print(f"\n{'model':10} {'augment':8} {'share':>6} " + " ".join(f"{name:>15}" for name in COLUMNS))
    key = ("model", "augment", "share")
    ordered = sorted(results, key=lambda r: (list(CONTESTANTS).index(r["model"]), -r["share"], r["augment"]))
    for (name, augment, share), rows in itertools.groupby(ordered, lambda r: tuple(r[k] for k in key)):
        found = list(rows)
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in found]
            spread = f" ±{(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        print(f"{name:10} {'yes' if augment else 'no':8} {share:6.0%} " + " ".join(f"{cell:>15}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000, help="of the generator, in every case")
    parser.add_argument("--models", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.1], help=f"of {PICTURES} pictures")
    parser.add_argument("--augment", nargs="+", choices=("no", "yes"), default=["no", "yes"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--out", type=Path, default=Path("polygons"))
    parser.add_argument("--check", action="store_true", help="only say what passes for a triangle")
    arguments = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(arguments.threads)
    if arguments.check:
        return check()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "polygons.json"
    results: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    write_grid(arguments.out / "real.png", drawn(triangles(64, 1)))
    done = {(label(result), result["steps"], result["width"]) for result in results}
    for seed, share, name, augment in itertools.product(
        arguments.seeds, arguments.shares, arguments.models, [each == "yes" for each in arguments.augment]
    ):
        wanted = label({"model": name, "augment": augment, "share": share, "seed": seed})
        if (wanted, arguments.steps, arguments.width) in done:
            continue
        results.append(case(name, augment, share, seed, arguments))
        file.write_text(json.dumps(results, indent=1))
        print(wanted, {k: round(v, 3) for k, v in results[-1].items() if isinstance(v, float)}, flush=True)
    return table(results)


if __name__ == "__main__":
    main()
