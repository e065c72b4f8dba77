"""Regions without any mask, against what several people drew on 24 photographs.

    python benchmarks/regions.py ../shared/data/humans --out results/regions --pictures 24 --minutes 3

Each photograph was divided by 5 to 8 people (segs/NAME_rN.png), who do not agree with each other: `people` is what one
gets against all others, and what a program can hope for. `one region` and `grid` are what nothing at all gets. Scores
and their definitions are those of `intarsia.metrics.regions`: covering, variation of information (nats), probabilistic
Rand index, boundary F within 0.75 % of the diagonal.

A method with a parameter is run with each of its settings; ODS has the one best for all pictures, OIS an oracle's
choice for each. Both were chosen on the pictures that they are measured on, for our methods and for the others alike;
the more settings, the kinder. Clusters are cut into connected pieces, and pieces below 0.2 % of the picture go to their
neighbours. The W-Nets learn from the same pictures, without masks, for MINUTES each.

Others' methods are scikit-image's: Felzenszwalb, Huttenlocher 2004; SLIC (Achanta et al. 2012), alone and merged where
neighbours' mean colours differ by less than a threshold; the watershed of the gradient from evenly spread markers.

Each finished method is a row of OUT/regions.json and skipped the next time. --side reduces pictures and maps: a try.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from skimage import color, filters, graph, segmentation
from torch import Tensor

from intarsia.data.read import read_image, read_mask, to_float
from intarsia.files import write_atomically
from intarsia.inference.clustering import (
    SAMPLES,
    ColourFeatures,
    Features,
    NetworkFeatures,
    absorbed,
    connected,
    fit_clusters,
    labels_at,
    regions_of,
    sampled,
)
from intarsia.inference.self_segment import SelfSegmentConfig, self_segment
from intarsia.metrics.regions import Agreement, RegionScore, agreement, human_agreement
from intarsia.models.combined.wnet import WNet, WNetConfig
from intarsia.models.semantic import UNetConfig
from intarsia.records import IGNORE, Batch

SMALLEST = 0.002  # of a picture
Method = Callable[[np.ndarray], list[np.ndarray]]  # a picture (H, W, 3) uint8 to its maps, one a setting


def pieces(labels: np.ndarray) -> np.ndarray:
    return connected(absorbed(labels, round(SMALLEST * labels.size)))


# ------------------------------------------------------------------------------------------------ others, and nothing


def one_region(image: np.ndarray) -> list[np.ndarray]:
    return [np.zeros(image.shape[:2], np.int16)]


def grid(image: np.ndarray) -> list[np.ndarray]:
    height, width = image.shape[:2]
    y, x = np.indices((height, width))
    return [y * count // height * count + x * count // width for count in (2, 3, 4, 6)]


def felzenszwalb(image: np.ndarray) -> list[np.ndarray]:
    least = round(SMALLEST * image.shape[0] * image.shape[1])
    scales = (100, 200, 400, 800, 1600)
    return [segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=least) for scale in scales]


def slic(image: np.ndarray) -> list[np.ndarray]:
    return [segmentation.slic(image, count, compactness=20, start_label=0) for count in (4, 8, 16, 32, 64)]


def slic_merged(image: np.ndarray) -> list[np.ndarray]:
    fine = segmentation.slic(image, 300, compactness=20, start_label=0)
    lab = color.rgb2lab(image)
    return [
        pieces(graph.cut_threshold(fine, graph.rag_mean_color(lab, fine), threshold)) for threshold in (4, 6, 9, 13, 18)
    ]


def watershed(image: np.ndarray) -> list[np.ndarray]:
    edges = filters.sobel(filters.gaussian(color.rgb2gray(image), 1))
    return [segmentation.watershed(edges, markers=count) - 1 for count in (8, 16, 32, 64, 128)]


# --------------------------------------------------------------------------------------------------------------- ours


def clustered(features: Features) -> Method:
    return lambda image: [pieces(regions_of(image, features, count)) for count in (2, 3, 4, 6, 8)]


def by_itself(image: np.ndarray) -> list[np.ndarray]:
    found = [self_segment(image, SelfSegmentConfig(regions=count)).regions for count in (3, 6, 12)]
    return [pieces(each) for each in found]


def trained_wnet(images: Sequence[np.ndarray], classes: int, minutes: float, seed: int = 0) -> WNet:
    """A W-Net after so many minutes on random crops, mirrored at random; no mask is shown to it."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    crop = min(160, *(min(each.shape[:2]) for each in images)) // 16 * 16
    model = WNet(WNetConfig(classes=classes, segmenter=UNetConfig(width=16, depth=4), cut_side=80)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)

    def batch() -> Batch:
        crops = []
        for number in random.integers(0, len(images), 6):
            image = images[number]
            top, left = (random.integers(0, side - crop + 1) for side in image.shape[:2])
            part = to_float(image[top : top + crop, left : left + crop])
            crops.append(part[:, ::-1] if random.random() < 0.5 else part)
        tensor = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
        return Batch(tensor, torch.full((len(tensor), crop, crop), IGNORE))

    begin, step = time.monotonic(), 0
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - share) + 1e-5
        terms = model.loss(batch())
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        step += 1
    values = {name: round(float(each.detach()), 3) for name, each in terms.items()}
    print(f"  W-Net, {classes} regions: {step} steps, {values}", flush=True)
    return model.eval()


def wnet_regions(model: WNet) -> Method:
    @torch.inference_mode()
    def divide(image: np.ndarray) -> list[np.ndarray]:
        x: Tensor = torch.from_numpy(to_float(image)).permute(2, 0, 1)[None]
        return [pieces(labels_at(model(x)[0].numpy(), image.shape[:2]))]

    return divide


def shared_clusters(features: Features, images: Sequence[np.ndarray]) -> Method:
    """Clusters of all pictures together."""
    samples = np.concatenate([sampled(features(image), SAMPLES // len(images), 0) for image in images])
    fitted = [fit_clusters(samples, features.groups, count) for count in (4, 6, 8, 12)]

    def divide(image: np.ndarray) -> list[np.ndarray]:
        found = features(image)
        return [pieces(each.regions(found, image.shape[:2])) for each in fitted]

    return divide


# ---------------------------------------------------------------------------------------------------------- the table


def opened(folder: Path, count: int, side: int | None) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Pictures and people's maps, in the order of their names."""
    found = []
    for path in sorted((folder / "images").iterdir(), key=lambda each: int(each.stem))[:count]:
        image = read_image(path)
        people = [read_mask(each).values.astype(np.int32) for each in sorted((folder / "segs").glob(f"{path.stem}_r*"))]
        if side is not None:
            scale = side / max(image.shape[:2])
            size = round(image.shape[1] * scale), round(image.shape[0] * scale)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            people = [cv2.resize(each, size, interpolation=cv2.INTER_NEAREST) for each in people]
        found.append((image, people))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/regions"))
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=3.0, help="to train each W-Net")
    parser.add_argument("--side", type=int, help="longer side of the pictures, pixels")
    parser.add_argument("--methods", nargs="*", help="only these")
    options = parser.parse_args()

    pairs = opened(options.folder, options.pictures, options.side)
    images = [image for image, _ in pairs]
    nets: dict[int, WNet] = {}

    def net(classes: int) -> WNet:
        if classes not in nets:
            nets[classes] = trained_wnet(images, classes, options.minutes)
        return nets[classes]

    methods: dict[str, Callable[[], Method | None]] = {
        "people": lambda: None,
        "one region": lambda: one_region,
        "grid": lambda: grid,
        "watershed": lambda: watershed,
        "SLIC": lambda: slic,
        "SLIC, merged": lambda: slic_merged,
        "Felzenszwalb": lambda: felzenszwalb,
        "ours: colour, place, texture": lambda: clustered(ColourFeatures()),
        "ours: self_segment": lambda: by_itself,
        "ours: W-Net, 6 regions": lambda: wnet_regions(net(6)),
        "ours: W-Net, 16 regions": lambda: wnet_regions(net(16)),
        "ours: W-Net's features, each picture": lambda: clustered(NetworkFeatures(net(16))),
        "ours: W-Net's features, all pictures": lambda: shared_clusters(NetworkFeatures(net(16)), images),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / "regions.json"
    rows: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    setting = f"{options.pictures} pictures, side {options.side}, {options.minutes:g} minutes"
    for name, make in methods.items():
        key = f"{name} ({setting})"
        if key in rows or (options.methods and not any(each in name for each in options.methods)):
            continue
        print(name, flush=True)
        method, score, begin = make(), RegionScore(), time.process_time()
        for image, people in pairs:
            if method is None:
                score.add(mean_agreement(human_agreement(people)))
            else:
                score.add(*(agreement(people, each) for each in method(image)))
        seconds = (time.process_time() - begin) / len(pairs)
        rows[key] = {
            "method": name,
            "setting": setting,
            "settings": len(score.pictures[0]),
            "regions": float(np.mean([each.regions for each in (row[0] for row in score.pictures)])),
            "processor seconds a picture, scoring included": round(seconds, 2),
            **score.scores().to_dict()["overall"],
        }
        write_atomically(place, json.dumps(rows, indent=1).encode())
    table(row for row in rows.values() if row["setting"] == setting)


def mean_agreement(found: Sequence[Agreement]) -> Agreement:
    """One person against all others, the mean over persons; outlines are pooled."""
    values = {
        name: float(np.mean([getattr(each, name) for each in found]))
        for name in ("covering", "variation_of_information", "rand_index")
    }
    outlines = np.sum([each.outlines for each in found], axis=0)
    return Agreement(**values, outlines=outlines, regions=round(np.mean([each.regions for each in found])))


def table(rows: Any) -> None:
    names = ("covering", "rand_index", "variation_of_information", "boundary_f")
    print("\n| method | covering ODS / OIS | PRI | VI, nats | boundary F | s a picture |\n|---|---|---|---|---|---|")
    for row in rows:
        cells = []
        for name in names:
            ways = [row[each]["value"] for each in (name, f"{name}_ods", f"{name}_ois") if each in row]
            cells.append(" / ".join("-" if each is None else f"{each:.3f}" for each in ways))
        seconds = row["processor seconds a picture, scoring included"]
        print(f"| {row['method']} | {' | '.join(cells)} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
