"""What can go wrong, in words. Each error says what was given, what was expected and what to do.

IntarsiaError                  exit code
├── UsageError                 2   a command, an option or a configuration that makes no sense
├── DataError                  3   pictures, masks or class tables that can't be used
│   └── UnsafeFileError        4   a file refused before it is opened: a pickle, a decompression bomb
├── OutOfMemoryError           5   a batch or a tile that does not fit
├── DiskError                  6   a full disk, a folder that can't be written, a run in use
├── NumericError               7   a loss that is not a number
└── Stopped                    75  a signal; everything is saved, the same command again resumes
"""

from __future__ import annotations


class IntarsiaError(Exception):
    """Any error that a user can mend. `str(error)` is one sentence or a few, never a traceback."""

    exit_code = 1


class UsageError(IntarsiaError):
    """The command, option or configuration makes no sense as given."""

    exit_code = 2


class DataError(IntarsiaError):
    """Pictures, masks or class tables that can't be used as they are."""

    exit_code = 3


class UnsafeFileError(DataError):
    """A file that is refused unopened, because opening it could run code or fill the memory."""

    exit_code = 4


class OutOfMemoryError(IntarsiaError):
    """A batch or a tile that does not fit into the memory there is."""

    exit_code = 5


class DiskError(IntarsiaError):
    """Nothing could be written: disk full, no permission, or the folder is another process's."""

    exit_code = 6


class NumericError(IntarsiaError):
    """The loss or a weight stopped being a finite number."""

    exit_code = 7


class Stopped(IntarsiaError):
    """A signal asked to stop; the run is saved, and the same command again goes on."""

    exit_code = 75
