"""Settings for every test, two cores being shared with whatever else runs, and the command line as a fixture."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from shell import Shell, open_shell

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is loaded; see intarsia/cli
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """`shell.run(folder, "fit", "pictures", …)` is the command, with its exit code and what it said."""
    with open_shell(tmp_path_factory.mktemp("shell")) as opened:
        yield opened
