"""The data doctor: reads every file of a folder once, to its end, and says what is wrong and what to do about it.

A training that runs for an hour on masks whose 255 was taken for "ignore" learns nothing and says nothing. So all that
can be known beforehand is looked at beforehand: files, sizes, values, classes, lists, duplicates.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .examine import Examined, examine
from .findings import Finding, all_findings, in_order
from .fingerprint import Fingerprint, combine
from .folder import Folder, open_folder
from .object_classes import counts_objects
from .object_findings import object_findings


@dataclass(frozen=True)
class CheckReport:
    """What a folder holds, and what was found in it."""

    folder: Folder
    findings: tuple[Finding, ...]  # errors first, then warnings
    fingerprint: Fingerprint
    class_counts: dict[str, np.ndarray]  # of each labelled picture that could be read: pixels of each class (K,)

    @property
    def exit_code(self) -> int:
        """3 where there are errors, else 0."""
        return 3 if any(finding.level == "error" for finding in self.findings) else 0

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        classes, numbers = self.folder.classes, self.fingerprint
        columns = zip(
            classes.names, classes.colours, numbers.class_pixels, numbers.shares, numbers.class_pictures, strict=True
        )
        return {
            "folder": str(self.folder.root),
            "layout": self.folder.layout,
            "lists": {part: len(names) for part, names in self.folder.lists.items()},
            "classes": [
                dict(
                    zip(
                        ("name", "colour", "pixels", "share", "pictures"), (row[0], list(row[1]), *row[2:]), strict=True
                    )
                )
                for row in columns
            ],
            "fingerprint": numbers.to_json(),
            "findings": [
                {**asdict(each), "files": list(each.files), "details": list(each.details)} for each in self.findings
            ],
            "exit_code": self.exit_code,
        }


def check_folder(
    root: str | Path,
    classes: str | Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    write_classes: bool = True,
    objects: bool | None = None,
) -> CheckReport:
    """What a folder of pictures and masks holds and what is wrong in it, after every file was read to its end.

    `classes`: a `classes.toml` elsewhere; None: the folder's own, or one inferred from the masks, which is written
    there if `write_classes`. `workers`: threads. `progress` is called with how many pictures are done, and of how many.
    `objects`: whether the labels are looked at as objects; None: where they tell any apart, and the classes stay those
    of masks. Raises DataError only where there is no folder, no picture, no sense in `classes.toml`, or where objects
    are asked for of masks of classes.
    """
    folder = open_folder(root, classes, write_classes, objects=bool(objects))
    looked = counts_objects(folder.table) if objects is None else objects
    seen: list[Examined] = []
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="intarsia-check") as pool:
        for each in pool.map(partial(examine, folder, objects=looked), folder.entries):
            seen.append(each)
            if progress is not None:
                progress(len(seen), len(folder.entries))
    measured = [each.measures for each in seen if each.measures is not None]
    counts = {each.name: each.class_pixels for each in measured if each.class_pixels is not None}
    labelled_in = {part: sum(name in counts for name in names) for part, names in folder.lists.items()}
    numbers = replace(combine(measured, len(folder.classes)), labelled_in=labelled_in)
    findings = in_order([*all_findings(folder, numbers, seen), *object_findings(folder, seen)])
    return CheckReport(folder, findings, numbers, counts)
