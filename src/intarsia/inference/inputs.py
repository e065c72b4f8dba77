"""Which pictures a list of files, folders and patterns means, and what their answers are called."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.zarrs import content_stamp, is_zarr
from ..errors import DataError

ZARR = ".zarr"  # of a folder that is a picture
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".npy", ".npz", ZARR})


@dataclass(frozen=True)
class Input:
    """A picture file, and the name its answer would like to have."""

    path: Path
    name: str  # its path without suffix, with / between folders, below the folder that was given

    def entry(self) -> dict[str, str | int]:
        """What tells the picture from another in the same place."""
        source = str(self.path.resolve())
        try:
            if self.path.is_dir():
                size, modified = content_stamp(self.path)
                return {"source": source, "bytes": size, "modified": modified}
            state = self.path.stat()
        except OSError:  # a link to nowhere: reading it says so
            return {"source": source, "bytes": 0, "modified": 0}
        return {"source": source, "bytes": state.st_size, "modified": state.st_mtime_ns}


def find_inputs(
    inputs: Sequence[str | Path], out: Path | None = None, suffixes: frozenset[str] = SUFFIXES
) -> list[Input]:
    """The pictures, each once, sorted by name; nothing that lies in `out`, and no hidden file or folder.

    A file is taken as it is; of folders and patterns, what has one of the suffixes. A zarr folder is one picture.
    Raises DataError for an input that gives no picture.
    """
    found: dict[Path, Input] = {}
    single: list[Path] = []
    for each in map(Path, inputs):
        if each.is_file() or (ZARR in suffixes and is_zarr(each)):
            single.append(each)
        elif each.is_dir():
            below = [file for file in _below(each, ZARR in suffixes) if _is_picture(file, out, suffixes)]
            found |= {file.resolve(): Input(file, _name(file, each)) for file in below}
            _some(below, f"the folder {each}", suffixes)
        else:
            matches = [
                file for file in map(Path, glob.glob(str(each), recursive=True)) if _is_picture(file, out, suffixes)
            ]
            single += matches
            _some(matches, f"{each}, which is no file or folder, as a pattern", suffixes)
    if single:
        shared = Path(os.path.commonpath([file.absolute().parent for file in single]))
        for file in single:
            found.setdefault(file.resolve(), Input(file, _name(file.absolute(), shared)))
    return sorted(found.values(), key=lambda each: (each.name, str(each.path)))


def give_names(inputs: Sequence[Input], known: Mapping[str, str]) -> dict[str, Input]:
    """The inputs by names of which no two are alike, not even where a file system knows no case.

    `known`: names given before, and the full paths of their pictures. Those pictures keep them, and nobody else gets
    them while the picture exists.
    """
    names = {source: name for name, source in known.items()}
    taken = {_key(name) for name, source in known.items() if Path(source).exists()}
    given: dict[str, Input] = {}
    for each in inputs:
        name = names.get(str(each.path.resolve()))
        if name is None:
            longer = f"{each.name}_{each.path.suffix[1:]}"
            name, number = each.name, 1
            while _key(name) in taken:
                name = longer if number == 1 else f"{longer}_{number}"
                number += 1
        taken.add(_key(name))
        given[name] = each
    return given


def _below(folder: Path, zarrs: bool) -> list[Path]:
    """All files, and the zarr folders, whose files are then not listed."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        visible = [each for each in folders if not each.startswith(".")]
        pictures = {each for each in visible if zarrs and is_zarr(Path(place) / each)}
        folders[:] = [each for each in visible if each not in pictures]  # os.walk goes on into what is left here
        files += [Path(place) / each for each in (*names, *sorted(pictures))]
    return files


def _is_picture(file: Path, out: Path | None, suffixes: frozenset[str]) -> bool:
    visible = not file.name.startswith(".")
    known = is_zarr(file) and ZARR in suffixes if file.is_dir() else file.suffix.lower() in suffixes - {ZARR}
    return visible and known and not (out is not None and _lies_in(file, out))


def _lies_in(file: Path, folder: Path) -> bool:
    return file.absolute().resolve().is_relative_to(folder.absolute().resolve())


def _name(file: Path, root: Path) -> str:
    name = file.relative_to(root).with_suffix("").as_posix()
    return name.removesuffix(".ome") if file.suffix.lower() == ZARR else name


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _some(files: Sequence[Path], where: str, suffixes: frozenset[str]) -> None:
    if not files:
        raise DataError(f"no pictures were found in {where}; expected files named {', '.join(sorted(suffixes))}.")
