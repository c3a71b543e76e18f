"""A run on disk: recipe.toml, metrics.jsonl, model.safetensors (best), last/, train.log.

TensorBoard's files are in tensorboard/, if it is installed.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

from speechgru.common.files import append_line, remove_leftovers, try_writing, write_atomic
from speechgru.common.locks import LockedError, lock_file
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.modelfile.safetensors import read_header
from speechgru.training.recipe import Recipe, load_recipe
from speechgru.training.run_progress import CHECKPOINT


class RunDirectory:
    """Names the files of a run and writes its lines."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.recipe = self.root / "recipe.toml"
        self.metrics = self.root / "metrics.jsonl"
        self.model = self.root / "model.safetensors"
        self.checkpoint = self.root / CHECKPOINT
        self.log = self.root / "train.log"
        self.tensorboard = self.root / "tensorboard"

    def has_model(self) -> bool:
        """Whether the best weights are there, and not damaged."""
        try:
            read_header(self.model)
        except DataError:
            return False
        return True

    def check_free(self) -> None:
        """Check that a run can start here.

        Raises:
            UsageError: it holds a run already.
            SpeechGRUError: the folder cannot be written.
        """
        if self.recipe.exists():
            raise UsageError(
                f"{self.root}: holds a run already; use another --out, or resume it with: "
                f"speechgru train --resume {quote(str(self.root))}"
            )
        folders = (self.root, *self.root.absolute().parents)
        existing = next(folder for folder in folders if folder.exists())
        if not existing.is_dir():
            raise SpeechGRUError(f"{self.root}: cannot be a run: {existing} is not a directory")
        try_writing(existing)

    def create(self, recipe: Recipe) -> None:
        """Start a run here, holding the `lock`; raises what `check_free` does."""
        self.check_free()
        write_atomic(self.recipe, recipe.to_toml())

    def read_recipe(self) -> Recipe:
        """The resolved recipe of the run that is here.

        Raises:
            UsageError: there is no run.
            DataError: its recipe is damaged.
        """
        if not self.recipe.is_file():
            whole = RunDirectory(self.root.parent)
            if self.root.exists() and whole.recipe.is_file():
                raise UsageError(
                    f"{self.root}: is a part of a run; resume the run with: speechgru train "
                    f"--resume {quote(str(whole.root))}"
                )
            raise UsageError(
                f"{self.root}: no run to resume, as it has no recipe.toml; start one with: "
                f"speechgru train RECIPE --out {quote(str(self.root))}"
            )
        try:
            return load_recipe(str(self.recipe))
        except UsageError as error:
            raise DataError(f"{error}; the run cannot be resumed with it") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in the same folder.

        Raises:
            SpeechGRUError: another process trains here, or the folder cannot be written.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(lock_file(self.root / "train.lock", wait=False))
            except LockedError as error:
                raise SpeechGRUError(f"{self.root}: another process trains here") from error
            for path in (self.recipe, self.model, self.checkpoint):
                remove_leftovers(path)
            yield

    def append_metrics(self, row: dict[str, Any]) -> int:
        """Add a line to metrics.jsonl; returns the file's size in bytes after it."""
        return append_line(self.metrics, json.dumps(row, allow_nan=False))

    def truncate_metrics(self, size_bytes: int) -> None:
        """Drop the lines written after a checkpoint; they will be written again."""
        self.metrics.touch()
        with self.metrics.open("r+b") as file:
            file.truncate(min(size_bytes, self.metrics.stat().st_size))

    def append_log(self, message: str) -> None:
        """Add a line with the time to train.log."""
        append_line(self.log, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}")


class ReadOnlyRunDirectory(RunDirectory):
    """A run as all processes but the first have it: they write nothing, and the first has the lock.

    Each method does nothing.
    """

    def check_free(self) -> None:
        """Nothing."""

    def create(self, recipe: Recipe) -> None:
        """Nothing."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Nothing."""
        yield

    def append_metrics(self, row: dict[str, Any]) -> int:
        """Nothing; 0 bytes."""
        return 0

    def truncate_metrics(self, size_bytes: int) -> None:
        """Nothing."""

    def append_log(self, message: str) -> None:
        """Nothing."""


class TensorBoardCurves:
    """Writes curves for TensorBoard into `folder`, if it is installed and `enabled`.

    What an interrupted run wrote after `step` is replaced by what follows.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, step: int, enabled: bool = True) -> None:
        self.folder = folder
        self._writer: Any = None
        if enabled and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            with self._disk_errors():
                self._writer = SummaryWriter(str(folder), purge_step=step + 1)
                self._writer.flush()

    def add(self, step: int, **values: float) -> None:
        """Add a point to the curve of each name."""
        if self._writer is None:
            return
        with self._disk_errors():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Report a disk error in a sentence.

        SummaryWriter writes in a thread, whose traceback nobody should see; `flush` waits for the
        thread and raises its error here.
        """
        report = threading.excepthook

        def report_others(args: threading.ExceptHookArgs) -> None:
            if not isinstance(args.exc_value, OSError):
                report(args)

        threading.excepthook = report_others
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise SpeechGRUError(f"{self.folder}: cannot be written: {reason}") from error
        finally:
            threading.excepthook = report


def free_name(base: Path) -> Path:
    """`base`, or the first of base-2, base-3 ... that does not exist."""
    candidate, number = base, 1
    while candidate.exists():
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate
