"""GrowCut as a shortest way against the cellular automaton of its paper, on one core: same labels, how much time?

    python benchmarks/grow_cut.py                  # 1024 x 1024 pixels, 3 channels
    python benchmarks/grow_cut.py --side 512 --full

The automaton (V. Vezhnevets, V. Konouchine, "GrowCut", 2005) is NumPy, a step for all pixels and 8 neighbours at once,
with its g computed once. How many steps it takes is not guessed: a pixel gets its last strength after as many steps as
its strongest way from a seed has, so the longest of these ways, and one step more that changes nothing, is their
number. `--full` runs the automaton to its end, checks that number, and that the labels are the same; without it, the
measured time of a step is multiplied by the number of steps, and the check is done on 128 x 128 pixels. The two take
turns, and the best of each one's times is compared: what else runs on the machine can only add to them.

Pictures: "smooth" is noise blurred by 3 pixels with a little fresh noise, "photo" is scikit-image's own astronaut, and
"noise" is noise. Seeds: a dot of 5 x 5 pixels for each of four labels.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from skimage import data, transform

from intarsia.classical import GrowCutConfig, grow_cut
from intarsia.classical.grow_cut import attacks

HALF = [(0, 1), (1, 0), (1, 1), (1, -1)]
CONFIG = GrowCutConfig()


class Automaton:
    """The rule of the paper, for all pixels at once."""

    def __init__(self, image: np.ndarray, seeds: np.ndarray) -> None:
        height, width = seeds.shape
        self.labels, self.strengths = seeds.astype(np.int32), (seeds > 0).astype(np.float64)
        largest = np.linalg.norm(np.ptp(image, axis=(0, 1)))
        self.pairs = []
        for down, right in [way for y, x in HALF for way in ((y, x), (-y, -x))]:
            p = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
            q = slice(max(0, down), height - max(0, -down)), slice(max(0, right), width - max(0, -right))
            g = 1 - (1 - CONFIG.leak) * np.linalg.norm(image[p] - image[q], axis=2) / largest
            self.pairs.append((p, q, g))

    def step(self) -> bool:
        """Whether anything changed."""
        labels, strengths = self.labels.copy(), self.strengths.copy()
        for p, q, g in self.pairs:
            attack = g * strengths[q]
            wins = attack > self.strengths[p]
            np.copyto(self.strengths[p], attack, where=wins)
            np.copyto(self.labels[p], labels[q], where=wins)
        return not np.array_equal(strengths, self.strengths)


def steps_of(image: np.ndarray, seeds: np.ndarray) -> int:
    """Of the automaton until nothing changes: the most steps of a strongest way, and the one that finds that out."""
    graph = attacks(image, CONFIG)
    count, degree = graph.weights.shape
    ends = np.arange(count + 1, dtype=np.int32) * degree
    matrix = csr_matrix((graph.weights.ravel(), graph.targets.ravel(), ends), shape=(count, count))
    _, before, _ = dijkstra(
        matrix, indices=np.flatnonzero(seeds), min_only=True, return_predecessors=True, limit=np.finfo(float).max
    )
    before = np.where(before < 0, np.arange(count), before)
    depth = (before != np.arange(count)).astype(np.int64)
    while (depth[before] > 0).any():  # each round doubles how far back a pixel looks
        depth += depth[before]
        before = before[before]
    return int(depth.max()) + 1


def pictures(side: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    blurred = ndimage.gaussian_filter(random.random((side, side, 3)), (3, 3, 0))
    blurred = (blurred - blurred.min()) / np.ptp(blurred)
    photo = transform.resize(data.astronaut(), (side, side), order=1, anti_aliasing=side < 512)
    return {
        "smooth": blurred + 0.05 * random.random(blurred.shape),
        "photo": photo + 1e-9 * random.random(photo.shape),  # no two ways of one strength
        "noise": random.random((side, side, 3)),
    }


def dots(side: int) -> np.ndarray:
    seeds = np.zeros((side, side), np.int32)
    for label, (y, x) in enumerate(((0.1, 0.1), (0.15, 0.8), (0.6, 0.4), (0.9, 0.9)), start=1):
        top, left = int(y * side), int(x * side)
        seeds[top : top + 5, left : left + 5] = label
    return seeds


def timed(work: object) -> float:
    began = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--rounds", type=int, default=3, help="of turns")
    parser.add_argument("--full", action="store_true", help="run the automaton to its end, however long that takes")
    parser.add_argument("--only", choices=("smooth", "photo", "noise"), help="one picture")
    options = parser.parse_args()
    seeds, small = dots(options.side), dots(128)
    print(f"{options.side} x {options.side} pixels, 3 channels, 4 labels; seconds of processor time, best of turns")
    print(f"{'picture':8} {'ours':>8} {'a step':>8} {'steps':>7} {'automaton':>10} {'times':>7}  labels")
    tiny = pictures(128)
    for name, image in pictures(options.side).items():
        if options.only not in (None, name):
            continue
        steps = steps_of(image, seeds)
        ours, step = [], []
        for _ in range(options.rounds):
            ours.append(timed(lambda image=image: grow_cut(image, seeds, CONFIG)))
            automaton = Automaton(image, seeds)
            step += [timed(automaton.step) for _ in range(3)]
        whole, words = min(step) * steps, "estimated"
        checked, marks = (image, seeds) if options.full else (tiny[name], small)
        automaton, count, began = Automaton(checked, marks), 1, time.process_time()
        while automaton.step():
            count += 1
        if options.full:
            whole, words = time.process_time() - began, "run"
        assert count == steps_of(checked, marks), (count, steps_of(checked, marks))
        same = (automaton.labels == grow_cut(checked, marks, CONFIG)).mean()
        size = "" if options.full else " at 128 x 128"
        print(
            f"{name:8} {min(ours):8.2f} {min(step):8.3f} {steps:7} {whole:10.1f} {whole / min(ours):7.0f}  "
            f"{same:.2%} the same{size}, {words}",
            flush=True,
        )


if __name__ == "__main__":
    main()
