"""A disk that can be filled."""

from contextlib import suppress
from pathlib import Path


def fill(path: Path) -> None:
    """Write until not one byte fits."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while file.write(b"0" * size):
                    pass
