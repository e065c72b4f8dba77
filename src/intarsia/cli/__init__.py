"""The command `intarsia`. Nothing heavy is imported before a command needs it, so that help is there at once."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line; errors are one sentence on stderr and an exit code (see `intarsia.errors`)."""
    from .app import app, explain

    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except Exception as error:
        if debug:
            raise
        code, sentence = explain(error)
        print(f"intarsia: {sentence}", file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        print("intarsia: stopped.", file=sys.stderr)
        sys.exit(75)
    except BrokenPipeError:  # `intarsia … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
