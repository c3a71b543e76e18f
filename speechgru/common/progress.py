"""Progress over parts of a task, told as one."""

from collections.abc import Callable

Report = Callable[[int, int], None]


class Parts:
    """Parts one after the other, each with its share of `total`; `report` hears of them all.

    Without a `report` nobody does.
    """

    def __init__(self, report: Report | None, total: int) -> None:
        self.report, self.total = report, total
        self._begun = 0

    def next(self, size: int) -> Report:
        """A part of `size` begins: what it is to call with how much of it is done, of how much."""
        start, self._begun = self._begun, self._begun + size

        def told(done: int, of: int) -> None:
            if self.report is not None:
                self.report(start + size * done // max(of, 1), self.total)

        return told
