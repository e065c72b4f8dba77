"""Which road helps from few masks: `intarsia compare` on a data set made small enough to be compared on in hours.

    python benchmarks/few_labels.py --data ../shared/data/camvid --classes examples/camvid.classes.toml \\
        --size 180 240 --labels 18,37,92,367 --methods fixmatch,unimatch --steps 1000 --seeds 3 --out compare/camvid
    python benchmarks/few_labels.py --scenes 240 --labels 4,8,16 --methods all --steps 400 --seeds 3 --out scenes

The pictures are shrunk once (area means; masks by the nearest pixel) into OUT/data, each list kept. What is not given
here goes on to `intarsia compare` as it stands, such as --set train.threads=1. The same command again goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from intarsia.data.classes import ClassTable, write_class_table
from intarsia.data.folder import open_folder
from intarsia.data.scenes import SceneConfig, write_scenes
from intarsia.drawing import encode_png, to_rgb8, write_mask
from intarsia.files import write_atomically


def shrink(source: Path, classes: Path | None, size: tuple[int, int], target: Path, only: set[str]) -> None:
    """The labelled folder with every picture at most of that height and width, its shape kept, in 8 bits.

    only: names of pictures to take, of all where it is empty. Done before: nothing is done.
    """
    if (target / "classes.toml").is_file():
        return
    folder = open_folder(source, classes, write_classes=False)
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True, exist_ok=True)
    chosen = [entry for entry in folder.entries if folder.labelled(entry) and (not only or entry.name in only)]
    for entry in chosen:
        sample = folder.read(entry)
        assert sample.mask is not None, "classes that overlap are not measured here"
        height, width = sample.size
        factor = min(1.0, size[0] / height, size[1] / width)
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in ((small[1], height), (small[0], width))
        )
        picture = cv2.resize(to_rgb8(sample.image), small, interpolation=cv2.INTER_AREA)
        write_atomically(target / "images" / f"{entry.name}.png", encode_png(picture))
        write_mask(target / "masks" / f"{entry.name}.png", sample.mask[rows[:, None], columns], folder.classes)
    there = {entry.name for entry in chosen}
    for name, listed in folder.lists.items():
        kept = [each for each in listed if each in there]
        if kept:
            write_atomically(target / f"{name}.txt", ("\n".join(kept) + "\n").encode())
    values = tuple(range(len(folder.classes)))
    write_class_table(target / "classes.toml", ClassTable(folder.classes, values=values, ignore=(255,)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, help="a labelled folder")
    parser.add_argument("--classes", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(180, 240), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--only", type=Path, help="a file of picture names, one a line: no others are taken")
    parser.add_argument("--scenes", type=int, help="drawn scenes, so many, instead of a folder")
    parser.add_argument("--out", type=Path, required=True)
    options, others = parser.parse_known_args()
    if (options.data is None) == (options.scenes is None):
        parser.error("give --data or --scenes")
    data = options.out / "data"
    if options.scenes:
        if not (data / "classes.toml").is_file():
            write_scenes(data, options.scenes, SceneConfig(height=options.size[0], width=options.size[1]))
    else:
        only = set(options.only.read_text().split()) if options.only else set()
        shrink(options.data, options.classes, tuple(options.size), data, only)
    line = [sys.executable, "-m", "intarsia", "compare", str(data), "--out", str(options.out / "compare"), *others]
    print("$ intarsia", *line[3:], flush=True)
    subprocess.run(line, check=True, env={**os.environ, "GOMP_SPINCOUNT": "1000"})


if __name__ == "__main__":
    main()
