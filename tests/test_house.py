"""What holds for the whole house: who may import whom, what an import may do, and tests that can fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "intarsia"

#: a module imports lower ranks, or its own folder
RANKS = [
    {"records", "errors", "drawing", "files"},
    {"data", "networks", "losses", "metrics", "classical", "grouping"},
    {"models"},
    {"runs"},
    {"training", "inference"},
    {"report", "config", "plan"},
    {"fitting", "api"},
    {"comparing"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
#: one step aside: `api` loads what `fitting` opens, `plan` makes what `config` describes, `grouping` numbers objects as
#: `data` does
ALLOWED = {("api", "fitting"), ("plan", "config"), ("grouping", "data")}


def imports(path: Path) -> Iterator[str]:
    """The rooms that a file imports, by name."""
    above = path.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*above[: len(above) - node.level + 1], *(node.module or "").split(".")]
            found = [part for part in base if part]
            yield from [found[0]] if found else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    home = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if home in ("__init__", "__main__"):
        return
    for target in imports(path):
        if target in RANK and target != home and (home, target) not in ALLOWED:
            ground_floor = RANK[target] == RANK[home] == 0  # the nouns draw and save themselves
            assert ground_floor or RANK[target] < RANK[home], f"{path.name}: {home} must not import {target}"


def test_every_room_has_a_rank() -> None:
    rooms = {p.stem if p.is_file() else p.name for p in SOURCE.iterdir() if p.suffix in ("", ".py")}
    assert rooms - {"__init__", "__main__", "__pycache__"} <= RANK.keys()


def test_files_are_short_enough_to_read() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 600}
    assert not long


def test_an_assert_holds_no_list() -> None:
    """`assert [a == b for …]` is true of any list that is not empty."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                assert not isinstance(node.test, ast.List | ast.ListComp | ast.Tuple | ast.GeneratorExp), (
                    f"{path.name}:{node.lineno} can't fail"
                )


QUIET = """
import logging, socket, sys, warnings, importlib, pkgutil, os, random
def closed(*a, **k): raise AssertionError("the network was used at import")
socket.socket.connect = closed
import cv2, lightning.fabric, numpy, scipy.ndimage, tifffile, torch, typer  # what others do at import is theirs
before = (torch.get_default_dtype(), torch.initial_seed(), random.getstate()[1][:3], len(logging.getLogger().handlers),
          warnings.filters[:], dict(os.environ), cv2.getNumThreads())
import intarsia
for module in pkgutil.walk_packages(intarsia.__path__, "intarsia."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
after = (torch.get_default_dtype(), torch.initial_seed(), random.getstate()[1][:3], len(logging.getLogger().handlers),
         warnings.filters[:], dict(os.environ), cv2.getNumThreads())
changed = [i for i, (a, b) in enumerate(zip(before, after)) if a != b and i != 4]
assert not changed, changed
"""


def test_importing_everything_prints_nothing_and_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_what_reads_and_checks_does_not_load_torch() -> None:
    code = "import sys, intarsia, intarsia.cli.app, intarsia.data.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
