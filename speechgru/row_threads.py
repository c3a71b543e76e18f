"""Rows of a batch side by side, each part on a core of its own."""

import threading
from collections.abc import Callable
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
    failures: list[BaseException] = []

    def guarded(part: slice) -> None:
        try:
            # Both modes are of the thread that sets them only.
            with torch.inference_mode(inference), torch.no_grad():
                run(part)
        except BaseException as error:
            failures.append(error)

    slices = [slice(first, last) for first, last in pairwise(edges)]
    torch.set_num_threads(1)  # which new threads take over
    try:
        threads = [threading.Thread(target=guarded, args=(part,)) for part in slices[1:]]
        for thread in threads:
            thread.start()
        guarded(slices[0])
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(cores)
    if failures:
        raise failures[0]


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
    with torch.no_grad():
        first = function(*chunks[0])
    whole = first.new_empty(rows, *first.shape[1:])
    places = whole.split(together)
    places[0].copy_(first)

    def run(part: slice) -> None:
        for place, chunk in zip(places[1:][part], chunks[1:][part], strict=True):
            place.copy_(function(*chunk))

    in_parts(run, len(chunks) - 1, least=1)
    return whole
