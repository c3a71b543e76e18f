"""A process that another process of this package started: it does not outlive that one."""

import os
import signal
import threading
from contextlib import suppress

#: Holds the process ID of the one that started this process and shows its progress.
PARENT_VARIABLE = "SPEECHGRU_PARENT"


def is_child() -> bool:
    """Whether another process of this package started this one, and shows its progress."""
    return PARENT_VARIABLE in os.environ


def end_with_parent() -> None:
    """Let this process get a SIGINT when the process that `PARENT_VARIABLE` names has ended."""
    end_with(int(os.environ[PARENT_VARIABLE]))


def end_with(parent: int) -> None:
    """Let this process get a SIGINT when its parent process has ended.

    Args:
        parent: the ID of the process that started this one.
    """
    import psutil

    def wait() -> None:
        with suppress(psutil.NoSuchProcess):
            if os.getppid() == parent:
                psutil.Process(parent).wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()
