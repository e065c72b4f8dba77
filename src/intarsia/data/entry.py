"""One picture of a folder and the files that its labels are in; labels turned as their picture is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError
from ..records import Image
from .read import RawMask, read_header, rotate


class SizeError(DataError):
    """Labels are not of their picture's size."""


@dataclass(frozen=True)
class Entry:
    """One picture of a folder, and where its labels are."""

    name: str  # unique in the folder: the file's stem, or its path below the folder of pictures, without suffix
    image: Path
    masks: tuple[Path | None, ...] = ()  # one mask file; or one a class in class order, None where a class has none
    annotation: str | None = None  # its key in `Folder.drawings`, where the labels are COCO or YOLO polygons
    raters: tuple[Path, ...] = ()  # several people's masks; where masks[0] is one of them, the majority's is the mask
    parts: tuple[Path, ...] | None = None  # one binary file an object, instead of masks; (): it shows no object

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """All mask files, each once."""
        return tuple(
            dict.fromkeys([*(path for path in self.masks if path is not None), *self.raters, *(self.parts or ())])
        )

    @property
    def labelled(self) -> bool:
        """Whether there is a mask or an annotation."""
        return self.annotation is not None or self.parts is not None or any(path is not None for path in self.masks)

    def bare(self) -> Entry:
        """The picture alone."""
        return Entry(self.name, self.image)


def fitted(raw: RawMask, image: Image, image_path: Path, source: str | Path) -> RawMask:
    """A mask of its picture's size, turned where it has the size of the picture as stored, before EXIF orientation.
    SizeError naming both sizes where they differ otherwise; `source` is what the mask is called there."""
    if raw.size == image.shape[:2]:
        return raw
    header = read_header(image_path)
    if header.orientation >= 5 and raw.size == header.stored_size:
        return replace(raw, values=rotate(raw.values, header.orientation))
    raise SizeError(
        f"{source} is {raw.size[1]} x {raw.size[0]} pixels, but its picture {image_path} is {image.shape[1]} x "
        f"{image.shape[0]} (width x height); export the mask at the picture's size, or take one of the two out."
    )
