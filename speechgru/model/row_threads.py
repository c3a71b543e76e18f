"""Runs the rows of a batch in parallel threads, each part on one core."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

#: Rows of one second of audio that fit into a core's cache with their intermediate results.
ROWS_IN_CACHE = 8
#: More threads would wait for Python's lock.
MOST_PARTS = 4


def in_parts(run: Callable[[slice], None], rows: int, least: int = 16) -> None:
    """Call `run` on slices of `rows`, at least `least` rows each, in as many threads as torch uses.

    Within a part each operation runs on one core, and parts do not wait for each other. For many
    small operations that is faster than running each one on all rows and cores. `run` may only
    write to its own rows. Gradients are not recorded.

    Raises:
        Exception: from the first part that failed.
    """
    cores = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()
    parts = max(1, min(cores, MOST_PARTS, rows // least))
    edges = [rows * part // parts for part in range(parts + 1)]

    def guarded(part: slice) -> None:
        # Both modes apply only to the thread that sets them.
        with torch.inference_mode(inference), torch.no_grad():
            run(part)

    first, *others = [slice(first, last) for first, last in pairwise(edges)]
    with on_one_core():
        futures = [_pool().submit(guarded, part) for part in others]
        try:
            guarded(first)
        finally:
            wait(futures)
        for future in futures:
            future.result()


@contextmanager
def on_one_core() -> Iterator[None]:
    """For operations so small that waking a second core takes longer than it saves."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(cores)


@cache
def _pool() -> ThreadPoolExecutor:
    """The threads besides the caller's, each limited to one core."""
    count = MOST_PARTS - 1
    # Each thread sets its own number of OpenMP threads, but MKL's for all threads. So all of them
    # have to start now, before any work.
    pool = ThreadPoolExecutor(count, "rows", torch.set_num_threads, (1,))
    all_started = threading.Barrier(count)
    list(pool.map(lambda _: all_started.wait(), range(count)))
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows
    # After a fork the child has only one thread.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def by_rows(
    function: Callable[..., Tensor], *tensors: Tensor, together: int = ROWS_IN_CACHE
) -> Tensor:
    """`function` of tensors whose rows are independent: (B, ...), ... -> (B, ...).

    On a processor it gets a few rows at a time, which stay in the cache between operations, and
    runs on all cores; on other devices it gets all rows at once. Gradients are not recorded.
    """
    rows = len(tensors[0])
    if rows <= together or tensors[0].device.type != "cpu":
        with torch.no_grad():
            return function(*tensors)
    chunks = list(zip(*(tensor.split(together) for tensor in tensors), strict=True))
    results: list[Tensor] = []
    lock = threading.Lock()

    def run(part: slice) -> None:
        for i in range(part.start, part.stop):
            chunk = function(*chunks[i])
            with lock:
                if not results:
                    results.append(chunk.new_empty(rows, *chunk.shape[1:]))
            results[0][i * together : (i + 1) * together] = chunk

    in_parts(run, len(chunks), least=1)
    return results[0]
