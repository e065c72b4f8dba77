"""Large answers as OME-Zarr 0.5: a folder with a zarr array for the full size and one for each smaller copy.

The copies are those of `pyramids.py`. Chunks are its tiles; 8 x 8 of them share a file (a shard), so that a picture of
64,000 pixels a side is some 1,400 files and not 83,000. What is 0 all over is not stored. Class numbers carry names and
colours as `image-label` (https://ngff.openmicroscopy.org/0.5/#labels-md), colours their channels as `omero`.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..files import disk_error
from .pyramids import SIDE, Plane, TileFile, all_levels

SHARD = 8  # tiles a side of what shares a file
Colour = tuple[int, int, int]


def require_zarr() -> None:
    """Raises UsageError where zarr is not installed."""
    try:
        import zarr  # noqa: F401
    except ImportError:
        raise UsageError("zarr folders take zarr to be written: pip install 'intarsia[huge]'.") from None


def write_zarr_pyramid(path: Path, tiles: TileFile, classes: Sequence[tuple[str, Colour]] | None = None) -> Path:
    """Write the tiles of a whole plane as an OME-Zarr folder with its smaller copies. Returns the path.

    classes: name and colour of each number. The folder is made beside the tiles, which should be on the disk that the
    path is on, and then renamed: it is whole or not there. Raises DiskError, UsageError without zarr.
    """
    require_zarr()
    import zarr

    part = tiles.path.with_name(f"{tiles.path.name}.zarr")
    try:
        remove_folder(part)
        with all_levels(tiles) as levels:
            about = {"version": "0.5", **_about(path, [each.plane for each in levels], classes)}
            group = zarr.create_group(str(part), zarr_format=3, attributes={"ome": about})
            for number, each in enumerate(levels):
                _write_level(group, str(number), each)
        _sync(part)
        remove_folder(path)
        os.replace(part, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def remove_folder(path: Path) -> None:
    """Take a zarr folder away; fine where there is none. What is left after a kill is no zarr folder any more. Raises
    DiskError where that is not possible."""
    try:
        (path / "zarr.json").unlink(missing_ok=True)
        shutil.rmtree(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # what can have no such name does not stand there
            raise disk_error(path, error) from error


def _write_level(group: Any, name: str, tiles: TileFile) -> None:
    """One array: (H, W), or (3, H, W) of colours. A row of shards' tiles is never in memory: a shard is."""
    from zarr.codecs import ZstdCodec

    plane = tiles.plane
    colours = [3] * (plane.samples > 1)
    array = group.create_array(
        name,
        shape=(*colours, plane.height, plane.width),
        chunks=(*colours, SIDE, SIDE),
        shards=(*colours, *(SIDE * min(SHARD, count) for count in plane.grid)),
        dtype=plane.dtype,
        compressors=ZstdCodec(level=3),
        fill_value=0,
        dimension_names=[*"c" * len(colours), "y", "x"],
    )
    rows, columns = plane.grid
    with tiles.path.open("rb") as file:
        for row in range(0, rows, SHARD):
            for column in range(0, columns, SHARD):
                high, wide = min(SHARD, rows - row), min(SHARD, columns - column)
                shard = np.empty((high * SIDE, wide * SIDE, plane.samples), plane.dtype)
                for y in range(high):
                    for x in range(wide):
                        place = shard[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE]
                        place[:] = tiles.tile(file, row + y, column + x)
                top, left = row * SIDE, column * SIDE
                shard = shard[: plane.height - top, : plane.width - left]
                values = np.moveaxis(shard, 2, 0) if colours else shard[..., 0]
                array[..., top : top + shard.shape[0], left : left + shard.shape[1]] = values


def _about(path: Path, planes: Sequence[Plane], classes: Sequence[tuple[str, Colour]] | None) -> dict[str, Any]:
    """The metadata. A pixel of a copy is the middle of those that it stands for."""
    first = planes[0]
    colours = [1.0] * (first.samples > 1)
    axes = [{"name": "c", "type": "channel"}] * len(colours) + [{"name": each, "type": "space"} for each in "yx"]
    datasets = []
    for number in range(len(planes)):
        scale: dict[str, Any] = {"type": "scale", "scale": [*colours, 2.0**number, 2.0**number]}
        half = (2.0**number - 1) / 2
        moved = {"type": "translation", "translation": [*[0.0] * len(colours), half, half]}
        datasets.append({"path": str(number), "coordinateTransformations": [scale, moved]})
    way = "majority" if first.kind == "classes" else "mean"
    name = path.name.removesuffix(".ome.zarr")
    about: dict[str, Any] = {"multiscales": [{"name": name, "axes": axes, "datasets": datasets, "type": way}]}
    if classes is not None:
        about["image-label"] = {
            "colors": [{"label-value": i, "rgba": [*colour, 255]} for i, (_, colour) in enumerate(classes)],
            "properties": [{"label-value": i, "name": each} for i, (each, _) in enumerate(classes)],
        }
    if colours:
        window = {"min": 0, "max": 255, "start": 0, "end": 255}
        shown = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
        channels = [
            {"label": label, "color": color, "window": window, "active": True} for label, color in shown.items()
        ]
        about["omero"] = {"channels": channels}
    return about


def _sync(folder: Path) -> None:
    """Bring all files to the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
