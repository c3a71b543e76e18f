"""Runs a function in several processes that train together, for real."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from speechgru.training.distribution import process_group

#: Starts processes in milliseconds that have torch already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["speechgru.training.loop", "speechgru.cli"])


def together(run: Callable[..., Any], size: int, folder: Path, *arguments: object) -> list[Any]:
    """What `run(ranks, *arguments)` gives in each of `size` processes."""
    with started_together(run, size, folder, *arguments) as processes:
        for process in processes:
            process.join(300)
        assert [process.exitcode for process in processes] == [0] * size
    return [answer_of(rank, folder) for rank in range(size)]


@contextmanager
def started_together(
    run: Callable[..., Any], size: int, folder: Path, *arguments: object
) -> Iterator[list[BaseProcess]]:
    """The processes, for as long as they are needed."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes: list[BaseProcess] = [
        PROCESSES.Process(target=_one, args=(rank, size, store.port, folder, run, arguments))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def answer_of(rank: int, folder: Path) -> Any:
    """What a process has given that has ended by itself."""
    return torch.load(folder / f"answer{rank}", weights_only=True)


def _one(
    rank: int,
    size: int,
    port: int,
    folder: Path,
    run: Callable[..., Any],
    arguments: tuple[object, ...],
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")) as ranks:
        answer = run(ranks, *arguments)
    torch.save(answer, folder / f"answer{rank}")
