"""Curves for TensorBoard, where it is installed."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from speechgru.errors import SpeechGRUError


class Board:
    """Writes numbers into `folder`, if it `writes` and TensorBoard is installed.

    What an interrupted run wrote after `step` is replaced by what follows. Each point is written
    at once: TensorBoard's own writer does it in a thread, in which a full disk is a traceback.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, step: int, writes: bool = True) -> None:
        self.installed = writes and find_spec("tensorboard") is not None
        self.path = folder / f"events.out.tfevents.{int(time.time())}.{os.getpid()}"
        if self.installed:
            from tensorboard.compat.proto.event_pb2 import SessionLog

            self._append(step=step + 1, file_version="brain.Event:2")
            self._append(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, **numbers: float) -> None:
        """Add a point to the curve of each name."""
        if self.installed:
            from tensorboard.compat.proto.summary_pb2 import Summary

            values = [Summary.Value(tag=name, simple_value=n) for name, n in numbers.items()]
            self._append(step=step, summary=Summary(value=values))

    def _append(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = Event(wall_time=time.time(), **fields)
        try:
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("ab") as file:
                RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            reason = error.strerror or error
            raise SpeechGRUError(f"{self.path}: cannot be written: {reason}") from error
