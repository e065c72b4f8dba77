"""What `intarsia compare` found in a folder, for the next plan: its advice.json is read back here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "advice.json"
OBJECT_FILE = "advice-objects.json"  # of a comparison of ways to find objects
NEAR = 1.5  # a measured number of labels speaks for one that is at most so many times larger or smaller


@dataclass(frozen=True)
class Advice:
    """Which method to take for a number of labels, and why."""

    method: str  # "control": labelled pictures alone
    settings: dict[str, Any] = field(default_factory=dict)  # over the plan, {"model.name": "fixmatch"}
    reason: str = ""  # a sentence


def read_advice(
    folder: str | Path, labels: int, classes: Sequence[str] | None = None, objects: bool = False
) -> Advice | None:
    """What was measured on this folder says about a number of labelled pictures: the method with the largest gain whose
    interval is above 0 at the nearest measured number (in log labels), else the control.

    classes: the folder's now; advice for others is none. objects: advice on finding objects. None: there is no advice,
    or none that can be read, or nothing was measured near so many labels. Never raises.
    """
    tree = _read(Path(folder) / (OBJECT_FILE if objects else FILE))
    if tree is None or labels < 1 or (classes is not None and list(classes) != tree.get("classes")):
        return None
    rows = [row for row in tree["advice"] if _whole(row)]
    measured = sorted({row["labels"] for row in rows})
    if not measured:
        return None
    nearest = min(measured, key=lambda k: abs(math.log(k / labels)))
    if not 1 / NEAR <= nearest / labels <= NEAR:
        return None
    said = f"compared on these pictures with {nearest} labels"
    score = tree["score"] if isinstance(tree.get("score"), str) else "mean IoU"
    control = tree["control"] if isinstance(tree.get("control"), dict) else {}
    here = sorted((row for row in rows if row["labels"] == nearest), key=lambda row: -row["gain"])
    helping = [row for row in here if row["interval"] is not None and row["interval"][0] > 0
               and row.get("equal_time") != "hurts"]  # fmt: skip
    single = [row for row in helping if isinstance(row["settings"], dict)]
    more = ""
    if helping and helping[0] not in single[:1]:
        more = (
            f"; {helping[0]['method']} gained more ({_points(helping[0], score)}), which settings alone can't ask for"
        )
    if not single:
        return Advice("control", dict(control), f"{said}, nothing that one training can do was sure to help{more}")
    best = single[0]
    gained = f"{best['method']} gained {_points(best, score)}"
    return Advice(best["method"], dict(best["settings"]), f"{said}, {gained}{more}")


def _points(row: dict[str, Any], score: str) -> str:
    low, high = row["interval"]
    return f"{100 * row['gain']:+.1f} points of {score} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(tree, dict) and tree.get("made_by") == "intarsia compare" and isinstance(tree.get("advice"), list)
    return tree if ours else None


def _whole(row: Any) -> bool:
    """Whether an entry says what is needed, in the kinds that are needed: the file may have been edited."""
    if not isinstance(row, dict) or not isinstance(row.get("method"), str):
        return False
    interval, settings, labels = row.get("interval"), row.get("settings"), row.get("labels")
    return (
        isinstance(labels, int) and not isinstance(labels, bool) and labels >= 1
        and isinstance(row.get("gain"), int | float) and math.isfinite(row["gain"])
        and (interval is None or (isinstance(interval, list) and len(interval) == 2
                                  and all(isinstance(end, int | float) and math.isfinite(end) for end in interval)))
        and (settings is None or isinstance(settings, dict))
    )  # fmt: skip
