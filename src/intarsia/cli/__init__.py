"""The command `intarsia`. Nothing heavy is imported before a command needs it, so that help is there at once."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line; errors are one sentence on stderr and an exit code (see `intarsia.errors`)."""
    # OpenMP's threads wait for each other by spinning. Beside any other busy process a small prediction then takes
    # 1.1 s instead of 0.02 s (measured on two cores); a thousand turns keep the speed of an idle machine. The
    # variable is read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
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
