"""A run on disk: recipe.toml, metrics.jsonl, model.safetensors (best), last/, train.log.

TensorBoard's files lie in tensorboard/, where it is installed.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from speechgru.common.files import append_line, remove_leftovers, write_atomic
from speechgru.common.locks import LockedError, lock_file
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.training.recipe import Recipe, load_recipe


class RunDirectory:
    """Names the files of a run and writes its lines."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.recipe = self.root / "recipe.toml"
        self.metrics = self.root / "metrics.jsonl"
        self.model = self.root / "model.safetensors"
        self.checkpoint = self.root / "last" / "checkpoint.safetensors"
        self.log = self.root / "train.log"
        self.board = self.root / "tensorboard"

    def check_free(self) -> None:
        """Make sure that a run can begin here.

        Raises:
            UsageError: there is one.
            SpeechGRUError: the folder cannot be written.
        """
        if self.recipe.exists():
            raise UsageError(
                f"{self.root}: holds a run already; --resume {self.root} goes on with it, "
                "--out elsewhere begins another"
            )
        folders = (self.root, *self.root.absolute().parents)
        there = next(folder for folder in folders if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise SpeechGRUError(f"{self.root}: {there} is not a directory that can be written")

    def create(self, recipe: Recipe) -> None:
        """Begin a run here; raises what `check_free` does."""
        self.check_free()
        write_atomic(self.recipe, recipe.to_toml())

    def read_recipe(self) -> Recipe:
        """The resolved recipe of the run that is here.

        Raises:
            UsageError: there is no run.
        """
        if not self.recipe.is_file():
            raise UsageError(f"{self.root}: no run to resume; recipe.toml is not there")
        return load_recipe(str(self.recipe))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from training in the same folder.

        Raises:
            SpeechGRUError: another process trains here.
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
        """Add a line to metrics.jsonl; gives the file's size in bytes after it."""
        return append_line(self.metrics, json.dumps(row, allow_nan=False))

    def truncate_metrics(self, size_bytes: int) -> None:
        """Forget the lines written after a checkpoint: they will be written again."""
        self.metrics.touch()
        with self.metrics.open("r+b") as file:
            file.truncate(min(size_bytes, self.metrics.stat().st_size))

    def tell(self, message: str) -> None:
        """Add a line with the time to train.log."""
        append_line(self.log, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}")


class SilentRunDirectory(RunDirectory):
    """A run as the other processes have it, which do not write."""

    def check_free(self) -> None:
        """The first process does."""

    def create(self, recipe: Recipe) -> None:
        """The first process does."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The first process holds the lock."""
        yield

    def append_metrics(self, row: dict[str, Any]) -> int:
        """Nothing; 0 bytes."""
        return 0

    def truncate_metrics(self, size_bytes: int) -> None:
        """Nothing."""

    def tell(self, message: str) -> None:
        """Nothing."""


def free_name(base: Path) -> Path:
    """`base`, or the first of base-2, base-3 ... that does not exist."""
    candidate, number = base, 1
    while candidate.exists():
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate
