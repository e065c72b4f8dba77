"""The command `intarsia`. Nothing heavy is imported before a command needs it, so that help is there at once."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback

INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt


def main() -> None:
    """Runs the command line; errors are one sentence on stderr and an exit code (see `intarsia.errors`)."""
    # OpenMP's threads wait for each other by spinning. Beside any other busy process a small prediction then takes
    # 1.1 s instead of 0.02 s (measured on two cores); a thousand turns keep the speed of an idle machine. The
    # variable is read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from .app import app, explain

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end is met like Ctrl-C: files stay whole
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "·" gets a "?"
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("intarsia: stopped; the same command again goes on from what is saved.", file=sys.stderr)
        sys.exit(75)
    except Exception as error:
        if debug:
            traceback.print_exc()
        code, sentence = explain(error)
        print(f"intarsia: {sentence}", file=sys.stderr)
        sys.exit(code)
