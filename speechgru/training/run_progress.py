"""Where a run is, as its checkpoint says; read without torch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from speechgru.errors import DataError

FORMAT_VERSION = 1
#: Where a run directory has it.
CHECKPOINT = Path("last", "checkpoint.safetensors")

#: In the metadata of a checkpoint's file.
KEY = "speechgru-checkpoint"


@dataclass
class Progress:
    """Where a run is, in plain numbers and texts that JSON holds.

    The names are part of the checkpoint format; fields added later have defaults, for the
    checkpoints of earlier versions.
    """

    step: int = 0
    best_score: float = -1.0
    best_step: int = 0
    validations_since_best: int = 0
    seconds: float = 0.0
    fingerprint: str = ""
    metrics_bytes: int = 0
    loss: float = 0.0
    finished: bool = False
    best_metrics: dict[str, Any] = field(default_factory=dict)
    #: Provenance of the model whose weights the run started with, if any.
    begun_with: dict[str, Any] = field(default_factory=dict)
    #: Provenance of each teacher, with the name and the hash of its file.
    teachers: list[dict[str, Any]] = field(default_factory=list)
    #: In which products were computed: "bf16" or "float32".
    precision: str = ""
    #: Checksum of the decoded recordings, and the versions of the libraries that decoded them.
    samples_crc32: int | None = None
    decoders: str = ""
    #: All settings; empty in checkpoints of earlier versions.
    recipe: dict[str, Any] = field(default_factory=dict)


def read_progress(path: Path) -> Progress:
    """Where the run of a checkpoint is.

    Raises:
        DataError: not a checkpoint, or damaged.
    """
    with damage_reported(path):
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})[KEY])
        if header["format_version"] != FORMAT_VERSION:
            raise DataError(
                f"{path}: checkpoint format {header['format_version']}; this version reads "
                f"{FORMAT_VERSION}"
            )
        return Progress(**header["progress"])
    raise AssertionError  # the context re-raises


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Raise DataError for what a damaged checkpoint makes the code in it raise."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        # torch's first line says that there are errors, the next one what the first of them is.
        first, *rest = str(error).splitlines()
        reason = rest[0].strip() if rest and first.endswith(":") else first
        raise DataError(f"{path}: not a complete checkpoint of this run: {reason}") from error
