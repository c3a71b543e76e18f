"""Rows of a batch side by side, each part on a core of its own."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

#: Rows of a second of audio that a processor core's cache holds with what is made of them.
TOGETHER = 8
#: More threads than these would wait for Python's lock.
MOST_PARTS = 4


def in_parts(run: Callable[[slice], None], rows: int, least: int = 16) -> None:
    """Call `run` with parts of `rows`, at least `least` each, in as many threads as torch has.

    In a part each operation has one core, and none waits for another part's. So it is quicker than
    the same operations on all rows, each on all cores, where they are many and small. What `run`
    writes must be its rows' alone. Gradients are not recorded.

    Raises:
        Exception: what the first part that failed raised.
    """
    cores = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()
    parts = max(1, min(cores, MOST_PARTS, rows // least))
    edges = [rows * part // parts for part in range(parts + 1)]

    def guarded(part: slice) -> None:
        # Both modes are of the thread that sets them only.
        with torch.inference_mode(inference), torch.no_grad():
            run(part)

    first, *others = [slice(first, last) for first, last in pairwise(edges)]
    with on_one_core():
        begun = [_helpers().submit(guarded, part) for part in others]
        try:
            guarded(first)
        finally:
            wait(begun)
        for part in begun:
            part.result()


@contextmanager
def on_one_core() -> Iterator[None]:
    """For operations so small that to wake a second core takes longer than it saves."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(cores)


@cache
def _helpers() -> ThreadPoolExecutor:
    """The threads beside the caller's, each with one core for its operations."""
    count = MOST_PARTS - 1
    # The number of OpenMP's threads is set by each thread for itself, but of MKL's for all: none of
    # them may be late.
    pool = ThreadPoolExecutor(count, "rows", torch.set_num_threads, (1,))
    all_here = threading.Barrier(count)
    list(pool.map(lambda _: all_here.wait(), range(count)))
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows
    # The child of a fork has no threads but one.
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def by_rows(function: Callable[..., Tensor], *tensors: Tensor, together: int = TOGETHER) -> Tensor:
    """`function` of tensors whose rows do not depend on each other: (B, ...), ... -> (B, ...).

    On a processor it takes a few rows at a time, which stay in the cache from one operation to the
    next, and uses all cores; elsewhere it takes all at once. Gradients are not recorded.
    """
    rows = len(tensors[0])
    if rows <= together or tensors[0].device.type != "cpu":
        with torch.no_grad():
            return function(*tensors)
    chunks = list(zip(*(tensor.split(together) for tensor in tensors), strict=True))
    whole: list[Tensor] = []
    lock = threading.Lock()

    def run(part: slice) -> None:
        for i in range(part.start, part.stop):
            made = function(*chunks[i])
            with lock:
                if not whole:
                    whole.append(made.new_empty(rows, *made.shape[1:]))
            whole[0][i * together : (i + 1) * together] = made

    in_parts(run, len(chunks), least=1)
    return whole[0]
