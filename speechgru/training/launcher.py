"""Starts the processes of a run on this machine, and watches them to their end."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from torch.distributed import TCPStore

from speechgru.backends.torch_device import usable_cores
from speechgru.errors import SpeechGRUError

#: Set for the processes that are started here: who started them tells of one that is lost.
LAUNCHED_VARIABLE = "SPEECHGRU_LAUNCHED"
#: Exit code of a process that has lost another one.
LOST_CODE = 75
#: Seconds for the others to end by themselves, when one has failed.
GRACE_S = 10.0


def launch(arguments: Sequence[str], size: int) -> int:
    """Run `speechgru` with the same arguments in `size` processes; gives the exit code.

    Process 0 writes to the terminal and says itself why it failed. A SIGINT or SIGTERM goes to it
    alone, and it stops the others. When one fails all end.

    Raises:
        SpeechGRUError: a process was killed, or one that is silent failed; says which and why.
    """
    # Processes meet here rather than at number 0, so that the port is known to be free.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / f"{rank}.txt" for rank in range(size)]
        processes = [_start(arguments, rank, size, store.port, said[rank]) for rank in range(size)]
        try:
            with _signals_go_to(processes[0]):
                failed = _watch(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
        return _outcome(failed, size, said)


def is_launched() -> bool:
    """Whether this process was started by `launch`."""
    return LAUNCHED_VARIABLE in os.environ


def end_with_parent() -> None:
    """Stop this process, as SIGTERM does, when the one that started it is gone."""

    def wait() -> None:
        while os.read(0, 1):  # sys.stdin would be locked at the end
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(6 * GRACE_S)
        os._exit(LOST_CODE)  # it waits for others that are gone

    threading.Thread(target=wait, daemon=True).start()


def _start(
    arguments: Sequence[str], rank: int, size: int, port: int, said: Path
) -> subprocess.Popen[bytes]:
    """One process, in a session of its own: a Ctrl-C in the terminal does not reach it."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environment = {
        "OMP_NUM_THREADS": str(max(1, usable_cores() // size)),
        "GLOO_SOCKET_IFNAME": loopback,
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        LAUNCHED_VARIABLE: "1",
    }
    with said.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "speechgru", *arguments],
            env=environment,
            stdin=subprocess.PIPE,  # closed by the system when this process is gone
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=None if rank == 0 else file,
            start_new_session=True,
        )


@contextmanager
def _signals_go_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(processes: Sequence[subprocess.Popen[bytes]]) -> dict[int, int]:
    """Wait for all; gives the exit codes of those that failed by themselves."""
    deadline: float | None = None
    while any(process.poll() is None for process in processes):
        failed = {r: p.returncode for r, p in enumerate(processes) if p.returncode}
        if failed.get(0, 0) > 0 and failed[0] != LOST_CODE:
            return failed
        if failed and deadline is None:
            deadline = time.monotonic() + GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            return failed
        time.sleep(0.1)
    return {r: p.returncode for r, p in enumerate(processes) if p.returncode}


def _outcome(failed: dict[int, int], size: int, said: Sequence[Path]) -> int:
    """The exit code of all: of the one whose fault it was, and not of those that lost it."""
    for rank, code in failed.items():
        if code < 0:
            name = signal.Signals(-code).name
            raise SpeechGRUError(f"process {rank} of {size} was ended by {name}")
    own = {rank: code for rank, code in failed.items() if code != LOST_CODE}
    if 0 in own:
        return own[0]
    for rank, code in own.items():
        lines = said[rank].read_text(errors="replace").split("\n")
        why = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        raise SpeechGRUError(f"process {rank} of {size} failed with exit code {code}: {why}")
    if failed:
        raise SpeechGRUError(f"the {size} processes lost each other")
    return 0
