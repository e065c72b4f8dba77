"""The file that TensorBoard reads.

Its own writer works in a thread, whose error on a full disk is printed there and kept from us. Here a row is written
when it is given, and the file is open only while it is written.
"""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from ..files import append


class Events:
    """Curves of one sitting of a training, in a file of its own in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.{platform.node()}.{os.getpid()}"

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each named curve. Raises DiskError."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        events = [Event(wall_time=time.time(), step=step, summary=Summary(value=points))]
        if not self.path.exists():
            events.insert(0, Event(wall_time=time.time(), file_version="brain.Event:2"))
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        append(self.path, records.getvalue())
