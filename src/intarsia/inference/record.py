"""What stands in a folder of answers: by which model and settings, and of which pictures. One JSON file a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from ..errors import DataError, UsageError
from ..files import Lock, remove_parts, require_writable, write_atomically

Entry = Mapping[str, str | int]  #: what tells a picture from another in the same place: its "source", and more


class Record:
    """The record of a folder of answers, as it was found; `begin` writes the new one."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        """Raises DataError where the file can't be understood, unless all is overwritten anyway."""
        self.path, self.overwrite = path, overwrite
        self.settings: dict[str, Any] | None = None  # None where nothing stands there yet
        self.pictures: dict[str, Entry] = {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            pictures = {name: {"source": str(entry["source"]), **entry} for name, entry in content["pictures"].items()}
            if any(PurePath(name).is_absolute() or ".." in PurePath(name).parts for name in pictures):
                raise ValueError("it names files outside its folder")
            self.settings, self.pictures = dict(content["settings"]), {**pictures}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            if not overwrite:
                raise DataError(
                    f"{path} can't be understood: {error}. Choose another folder, or overwrite it."
                ) from error

    def sources(self) -> dict[str, str]:
        """The names given before, and whose they are."""
        return {name: str(entry["source"]) for name, entry in self.pictures.items()}

    def begin(
        self,
        settings: dict[str, Any],
        entries: Mapping[str, Entry],
        files: Callable[[str], list[Path]],
        remove: Callable[[str], None],
    ) -> list[str]:
        """The names still to do, after the record says what stands in the folder from now on.

        `files`: those of a name that is done. `remove` takes a name's files away. Raises UsageError, unless all is
        overwritten, for answers by other settings and for files that are not from here.
        """
        pictures = dict(self.pictures)
        if self.settings not in (None, settings):
            assert self.settings is not None
            if not self.overwrite:
                keys = [*settings, *(key for key in self.settings if key not in settings)]
                differing = [key for key in keys if settings.get(key) != self.settings.get(key)]
                raise UsageError(
                    f"{self.path.parent} holds answers of another model or other settings (other "
                    f"{', '.join(differing)}); choose another folder, or overwrite them."
                )
            for name in pictures:
                remove(name)
            pictures = {}
        waiting = []
        for name, entry in entries.items():
            made = files(name)
            if pictures.get(name) == entry and all(file.is_file() for file in made) and not self.overwrite:
                continue
            if name not in pictures and not self.overwrite and any(file.exists() for file in made):
                raise UsageError(
                    f"{next(file for file in made if file.exists())} stands there already and is not from here; "
                    "choose another folder, or overwrite it."
                )
            if pictures.get(name) != entry or self.overwrite:
                remove(name)  # before the record says otherwise: a kill in between costs work, not truth
            pictures[name] = entry
            waiting.append(name)
        text = json.dumps({"settings": settings, "pictures": pictures}, indent=1)
        write_atomically(self.path, text.encode())
        self.settings, self.pictures = settings, pictures
        return waiting


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Within it, this process is the folder's one writer; what killed ones left behind is gone. Raises DiskError."""
    require_writable(out)
    with Lock(out / ".lock"):
        for folder in (out, *(each for each in out.rglob("*") if each.is_dir())):
            remove_parts(folder, alone=True)
        yield
