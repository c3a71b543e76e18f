"""Starts the processes of a run on this machine with torch's elastic agent.

Process 0 writes to the terminal and says itself why it failed. A SIGINT or SIGTERM for the agent
reaches all as SIGINT; the first process saves and stops the others. If a process fails, the agent
ends the others with SIGTERM.
"""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from speechgru.backends.torch_device import usable_cores
from speechgru.common.parents import end_with
from speechgru.errors import InterruptedRunError, SpeechGRUError
from speechgru.training.distribution import LostProcessError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

#: Set for the processes that `launch` starts: it is `launch` that reports a lost process.
LAUNCHED_VARIABLE = "SPEECHGRU_LAUNCHED"
#: Exit code of a process that has lost another one.
LOST_CODE = 75


def launch(arguments: Sequence[str], size: int) -> int:
    """Run `speechgru` with the same arguments in `size` processes; returns the exit code.

    Raises:
        SpeechGRUError: a process was killed, or one other than the first failed; says which and
            why.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as folder, _environment(size), _sigterm_as_sigint():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=size,
            run_id="speechgru",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, dict.fromkeys(range(1, size), Std.ALL)),
            signals_to_handle="SIGINT",
        )
        logging.disable()  # the agent reports every signal and exit code
        try:
            elastic_launch(config, sys.executable)("-m", "speechgru", *arguments)
        except SignalException:
            return InterruptedRunError.exit_code  # the first process has said how to resume
        except ChildFailedError as error:
            return _exit_code(error.failures, size)
        finally:
            logging.disable(logging.NOTSET)
    return 0


def is_launched() -> bool:
    """Whether this process was started by `launch`."""
    return LAUNCHED_VARIABLE in os.environ


def follow_launcher() -> None:
    """Let this process, which was started by `launch`, end when it should.

    A SIGTERM raises LostProcessError, as another process has failed. When the launcher has ended,
    this process gets a SIGINT.
    """

    def lose(number: int, frame: FrameType | None) -> None:
        raise LostProcessError("another process of this run has failed")

    signal.signal(signal.SIGTERM, lose)
    end_with(os.getppid())


@contextmanager
def _environment(size: int) -> Iterator[None]:
    """Variables of the processes, beside those of torch's agent."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    variables = {
        "OMP_NUM_THREADS": str(max(1, usable_cores() // size)),
        "GLOO_SOCKET_IFNAME": loopback,
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        **os.environ,
        LAUNCHED_VARIABLE: "1",
    }
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """Treat SIGTERM like SIGINT: both save and stop the run."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_code(failures: "Mapping[int, ProcessFailure]", size: int) -> int:
    """The exit code of the process that failed first, not of those that lost it."""
    own = {
        rank: f for rank, f in failures.items() if f.exitcode not in (LOST_CODE, -signal.SIGTERM)
    }
    for rank, failure in own.items():
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            raise SpeechGRUError(f"process {rank} of {size} was ended by {name}")
    for rank, failure in own.items():  # in the order in which they failed
        if rank == 0:
            return failure.exitcode
        log = Path(failure.error_file).with_name("stderr.log")
        lines = log.read_text(errors="replace").split("\n")
        reason = next((line for line in reversed(lines) if line.strip()), "no message")
        raise SpeechGRUError(
            f"process {rank} of {size} failed with exit code {failure.exitcode}: {reason}"
        )
    raise SpeechGRUError(f"the {size} processes lost each other")
