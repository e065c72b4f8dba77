"""Draws docs/images/scenes.png from what `make demo` made: some of its validation pictures, their truth, the answer.

Run it as `.venv/bin/python docs/images/draw.py [DEMO_FOLDER]`.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import intarsia
from intarsia.drawing import error_picture, grid, overlay
from intarsia.files import write_atomically

SHOWN = ("scene_0131", "scene_0135", "scene_0140", "scene_0146", "scene_0152")
COLOURS = 128  # of the palette: wood is noisy, and noise is what a PNG can't press


def main() -> None:
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder = intarsia.open_folder(demo / "pictures")
    predictor = intarsia.load(demo / "run", device="cpu")
    samples = [folder.read(entry) for entry in folder.select(SHOWN).entries]
    answers = [predictor.predict(sample.image, sample.name) for sample in samples]
    rows: list[np.ndarray] = [sample.image for sample in samples]
    rows += [overlay(s.image, s.mask, folder.classes) for s in samples if s.mask is not None]
    rows += [answer.overlay() for answer in answers]
    rows += [error_picture(s.mask, a.mask, folder.classes) for s, a in zip(samples, answers, strict=True)
             if s.mask is not None]  # fmt: skip
    buffer = io.BytesIO()
    Image.fromarray(grid(rows, columns=len(samples))).quantize(COLOURS, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    path = write_atomically(Path(__file__).parent / "scenes.png", buffer.getvalue())
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
