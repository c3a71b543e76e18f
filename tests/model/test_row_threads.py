"""Rows in parts, each in a thread of its own, whatever mode of torch the caller is in."""

import os
import signal
import threading
import time

import pytest
import torch
from torch import Tensor

from speechgru.model.row_threads import ROWS_IN_CACHE, by_rows, in_parts, on_one_core


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("rows", [1, ROWS_IN_CACHE, ROWS_IN_CACHE + 1, 5 * ROWS_IN_CACHE])
def test_by_rows_equals_all_rows_at_once(threads, mode, rows):
    samples = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with mode():
        made = by_rows(lambda part: part.cumsum(1), samples)
    assert not made.requires_grad
    torch.testing.assert_close(made, samples.detach().cumsum(1))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("rows", [0, 1, ROWS_IN_CACHE, ROWS_IN_CACHE + 1, 4 * ROWS_IN_CACHE - 2])
def test_by_rows_takes_several_tensors(threads, rows):
    x, scale = torch.randn(rows, 4), torch.randn(rows)
    asked: list[int] = []

    def function(x: Tensor, scale: Tensor) -> Tensor:
        asked.append(len(x))
        return (x * scale[:, None]).double()

    y = by_rows(function, x, scale)
    assert torch.equal(y, (x * scale[:, None]).double())
    assert max(asked) <= ROWS_IN_CACHE
    assert sum(asked) == rows


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 50, 100])
def test_parts_cover_all_rows_once(threads, rows):
    seen: list[int] = []
    in_parts(lambda part: seen.extend(range(rows)[part]), rows)
    assert sorted(seen) == list(range(rows))


def test_a_failure_is_raised_and_the_threads_are_restored(threads):
    def run(part):
        if part.stop == 100:
            raise ValueError("the last")

    with pytest.raises(ValueError, match="the last"):
        in_parts(run, 100)
    assert torch.get_num_threads() == threads


def test_each_part_runs_on_one_core(threads):
    """OpenMP's number of threads is each thread's own: two teams of all would wait in turns."""
    numbers = []
    for _ in range(3):
        in_parts(lambda part: numbers.append(torch.get_num_threads()), 100)
    assert numbers == [1] * 3 * threads


def test_each_part_runs_in_its_own_thread(threads):
    heard = {}
    together = threading.Barrier(threads)

    def run(part: slice) -> None:
        together.wait(10)  # all are there at once
        heard[threading.get_ident()] = torch.get_num_threads(), torch.is_grad_enabled()

    in_parts(run, 100)
    assert list(heard.values()) == [(1, False)] * threads


def test_on_one_core_restores_the_threads(threads):
    with on_one_core():
        assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="too small"), on_one_core():
        raise ValueError("too small")
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_its_own_threads():
    """As a DataLoader's worker process is, which begins with none of its parent's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    in_parts(lambda part: None, 100)
    child = os.fork()
    if child == 0:
        counts = [0] * 100

        def run(part):
            counts[part] = [1] * (part.stop - part.start)

        in_parts(run, 100)
        os._exit(0 if counts == [1] * 100 else 1)
    torch.set_num_threads(before)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)
