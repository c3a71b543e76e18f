"""How long work reports its progress: one callback, also for tasks that run one after the other."""

from collections.abc import Callable

#: Called with how much is done and how much there is in all, in the same unit (files, bytes, s).
Progress = Callable[[int, int], None]


class CombinedProgress:
    """Several tasks, one after the other, reported as one.

    Args:
        progress: called with what is done of all tasks, and `total`; None reports to nobody.
        total: units of all tasks together.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total = progress, total
        self._started = 0

    def task(self, units: int) -> Progress:
        """Start the next task, worth `units` of the total; gives the callback to pass to it."""
        start, self._started = self._started, self._started + units

        def report(done: int, of: int) -> None:
            if self.progress is not None:
                self.progress(start + units * done // max(of, 1), self.total)

        return report
