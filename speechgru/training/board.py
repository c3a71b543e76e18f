"""Curves for TensorBoard, where it is installed."""

from pathlib import Path


class Board:
    """Writes numbers to `folder`; does nothing where TensorBoard is not installed.

    What an interrupted run wrote after `step` is replaced by what follows.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(folder, purge_step=step + 1)

    def add(self, step: int, **numbers: float) -> None:
        """Add a point to the curve of each name."""
        if self._writer is not None:
            for name, number in numbers.items():
                self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Write what is still waiting."""
        if self._writer is not None:
            self._writer.close()
