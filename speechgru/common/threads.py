"""The same work on many files at once; decoding and hashing release the interpreter's lock."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from speechgru.common.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    progress: Progress | None = None,
) -> list[Result]:
    """`function` of every item, in the order of the items; `progress` counts items.

    The first exception, Ctrl-C too, ends the work: what has not begun is not begun.
    """
    results: list[Result] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            for result in pool.map(function, items):
                results.append(result)
                if progress is not None:
                    progress(len(results), len(items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
