"""The same work on many files at once, where it releases the interpreter's lock."""

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
    """The results of `function` for all items, in their order; `progress` counts items.

    The first exception, Ctrl-C too, cancels the items that have not started.
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
