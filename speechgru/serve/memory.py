"""Keeps a server's memory flat while clients come and go."""

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None


def free_memory() -> None:
    """Free what clients that have left had used, and return it to the system.

    The objects of a connection refer to each other, and Python looks for such objects only once
    there are a quarter as many new ones as there are old ones: hundreds of connections. Between the
    freed blocks lie those of clients that stay, so that glibc by itself returns little. This takes
    some milliseconds, if `keep_objects` was called.
    """
    gc.collect()
    trim = _trim()
    if trim is not None:
        trim(0)


def keep_objects() -> None:
    """Exempt all objects that there are now from the search for unused ones."""
    gc.collect()
    gc.freeze()
