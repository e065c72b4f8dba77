"""What an exported file promises, whatever runs it: pictures in, classes out.

    pictures       (N, H, W, C) uint8 or uint16     any N, H, W from 1
    classes        (N, H, W) uint8                  class numbers; 255 where classes overlap and none is there
    probabilities  (N, K, H, W) float32             only in a file that was exported with them

That of a model of objects gives, in place of these,

    maps           (N, M, H, W) float32             of which its grouping (`grouping/`) makes objects by its thresholds

All that a program has to know beyond that stands in the file, as JSON under the key "intarsia". Nothing here loads
PyTorch.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ...errors import DataError, UsageError
from ...records import Classes

KEY = "intarsia"  # of the metadata
PICTURES, CLASSES, PROBABILITIES, MAPS = "pictures", "classes", "probabilities", "maps"  # the graph's input and outputs
FORMAT, OF_OBJECTS = 1, 2  # of the metadata; raised where an older reader would misunderstand them
NOTHING = 255  # in a class map: classes overlap, and none is there


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of itself."""

    model: str  # by its name in `intarsia models`
    classes: Classes
    channels: int  # of the pictures
    bits: int  # of the pictures' numbers: 8 or 16
    precision: str  # fp32, fp16 or int8
    probabilities: bool  # whether the file gives them; where classes overlap it does
    temperature: float = 1.0  # that the probabilities are made with
    stride: int = 1  # sides are padded to a multiple of it inside; tiles had best start there
    levels: str = "as_is"  # "picture": each is stretched between its darkest and brightest pixels before it goes in
    weights: str = ""  # fingerprint of the trained weights
    versions: dict[str, str] = field(default_factory=dict)  # of the libraries that made the file
    grouping: str = ""  # what makes objects of the maps, one of `grouping.GROUPINGS`; "": the file gives classes
    thresholds: dict[str, float] = field(default_factory=dict)  # that it makes them by, as the run was tuned

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in their order."""
        if self.grouping:
            return (MAPS,)
        return (CLASSES, PROBABILITIES) if self.probabilities else (CLASSES,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pictures."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def to_json(self) -> str:
        tree: dict[str, Any] = {
            "format": OF_OBJECTS if self.grouping else FORMAT,
            "model": self.model,
            "classes": list(self.classes.names),
            "colours": [list(colour) for colour in self.classes.colours],
            "overlapping": self.classes.overlapping,
            "channels": self.channels,
            "bits": self.bits,
            "precision": self.precision,
            "probabilities": self.probabilities,
            "temperature": self.temperature,
            "stride": self.stride,
            "levels": self.levels,
            "weights": self.weights,
            "versions": self.versions,
        }
        if self.grouping:
            tree |= {"grouping": self.grouping, "thresholds": self.thresholds}
        return json.dumps(tree, ensure_ascii=True)  # bytes above 127 do not survive every format's strings

    @classmethod
    def from_json(cls, text: str | None, path: Path) -> Self:
        """Raises DataError, naming the file, for what is not ours."""
        if not text:
            raise DataError(f"{path} was not exported by intarsia: it does not say what its classes are; export a run.")
        try:
            tree = json.loads(text)
            if (number := int(tree["format"])) not in (FORMAT, OF_OBJECTS):
                raise ValueError(f"they are of format {number}, this program knows {OF_OBJECTS}: use the newer one")
            colours = tuple((int(r), int(g), int(b)) for r, g, b in tree["colours"])
            made = cls(
                model=str(tree["model"]),
                classes=Classes(tuple(map(str, tree["classes"])), colours, bool(tree["overlapping"])),
                channels=int(tree["channels"]),
                bits=int(tree["bits"]),
                precision=str(tree["precision"]),
                probabilities=bool(tree["probabilities"]),
                temperature=float(tree["temperature"]),
                stride=int(tree["stride"]),
                levels=str(tree["levels"]),
                weights=str(tree["weights"]),
                versions={str(key): str(value) for key, value in dict(tree["versions"]).items()},
                grouping=str(tree["grouping"]) if number == OF_OBJECTS else "",
                thresholds=(
                    {str(key): float(value) for key, value in dict(tree["thresholds"]).items()}
                    if number == OF_OBJECTS
                    else {}
                ),
            )
        except (ValueError, KeyError, TypeError, DataError) as error:
            raise DataError(f"{path} has metadata that can't be understood ({error}); export the run again.") from error
        sound = made.bits in (8, 16) and made.channels >= 1 and made.stride >= 1 and 1 <= len(made.classes) <= NOTHING
        sound = sound and made.levels in ("as_is", "picture") and (made.probabilities or not made.classes.overlapping)
        if made.grouping:
            sound = sound and not made.probabilities and len(made.classes) > 1
            sound = sound and all(math.isfinite(value) for value in made.thresholds.values())
        if not (sound and 0 < made.temperature < math.inf):
            raise DataError(f"{path} has metadata that make no sense; export the run again.")
        return made


class Engine(ABC):
    """Runs one exported file. Not to be called from more threads at once than `share` said."""

    name: ClassVar[str]  # as a user names it

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self.path = path
        self.metadata = metadata

    def share(self, lanes: int) -> int:
        """From how many threads at once, `lanes` at most, it may be called from now on; they share its threads. Many
        small pictures side by side take less time than one after the other on all threads. Asked before the first call;
        an engine that can't, or has begun, says 1."""
        return 1

    @abstractmethod
    def run(self, pictures: np.ndarray, wanted: tuple[str, ...]) -> list[np.ndarray]:
        """The outputs of these names for pictures (N, H, W, C) of the right kind, in their order."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Of the library that computes."""

    def classes(self, pictures: np.ndarray) -> np.ndarray:
        """(N, H, W) uint8 for pictures (N, H, W, C) of `metadata.dtype`. Raises UsageError for a file of objects."""
        self._require(CLASSES)
        return self.run(self._checked(pictures), (CLASSES,))[0]

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """(N, K, H, W) float32 in [0, 1]. Raises UsageError for a file that was exported without them."""
        return self.both(pictures)[1]

    def both(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`classes` and `probabilities`, computed once."""
        self._require(CLASSES)
        if not self.metadata.probabilities:
            raise UsageError(
                f"{self.path} gives class numbers only; export the run again with --probabilities to have more."
            )
        classes, probabilities = self.run(self._checked(pictures), (CLASSES, PROBABILITIES))
        return classes, probabilities

    def maps(self, pictures: np.ndarray) -> np.ndarray:
        """(N, M, H, W) float32 for pictures (N, H, W, C). Raises UsageError for a file of classes."""
        self._require(MAPS)
        return self.run(self._checked(pictures), (MAPS,))[0]

    def _require(self, output: str) -> None:
        if output not in self.metadata.outputs:
            finds = "objects" if self.metadata.grouping else "classes"
            raise UsageError(f"{self.path} finds {finds}, and has no output {output!r}; export another run.")

    def _checked(self, pictures: np.ndarray) -> np.ndarray:
        wanted = self.metadata
        if pictures.dtype != wanted.dtype or pictures.ndim != 4 or pictures.shape[3] != wanted.channels:
            raise UsageError(
                f"{self.path} takes pictures (N, H, W, {wanted.channels}) of {wanted.dtype}, but was given "
                f"{pictures.shape} of {pictures.dtype}."
            )
        if 0 in pictures.shape:
            raise UsageError(f"{self.path} takes pictures of one pixel or more, but was given {pictures.shape}.")
        return np.ascontiguousarray(pictures)
