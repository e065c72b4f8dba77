"""Signals as a question: has anybody asked to stop?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Within it SIGINT and SIGTERM only set what the given function answers; a second one ends the process at once.

    Outside the main thread, where Python takes no signals, the function always says False.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            os._exit(75)  # the state on the disk is whole at any moment
        asked.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
