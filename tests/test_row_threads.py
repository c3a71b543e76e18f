"""Rows in parts, each in a thread of its own, whatever mode of torch the caller is in."""

import os
import signal
import time

import pytest
import torch

from speechgru.row_threads import TOGETHER, by_rows, in_parts, on_one_core


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("rows", [1, TOGETHER, TOGETHER + 1, 5 * TOGETHER])
def test_rows_in_parts_are_rows_at_once(threads, mode, rows):
    samples = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with mode():
        made = by_rows(lambda part: part.cumsum(1), samples)
    assert not made.requires_grad
    torch.testing.assert_close(made, samples.detach().cumsum(1))
    assert torch.get_num_threads() == threads


def test_every_row_is_run_once(threads):
    counts = torch.zeros(100)

    def run(part):
        counts[part] += 1

    in_parts(run, len(counts))
    assert counts.eq(1).all()


def test_the_failure_of_a_part_is_told_and_the_threads_are_as_before(threads):
    def run(part):
        if part.stop == 100:
            raise ValueError("the last")

    with pytest.raises(ValueError, match="the last"):
        in_parts(run, 100)
    assert torch.get_num_threads() == threads


def test_each_part_has_one_core_of_its_own(threads):
    """OpenMP's number of threads is each thread's own: two teams of all would wait in turns."""
    numbers = []
    for _ in range(3):
        in_parts(lambda part: numbers.append(torch.get_num_threads()), 100)
    assert numbers == [1] * 3 * threads


def test_small_operations_have_one_core_and_the_threads_are_as_before(threads):
    with on_one_core():
        assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="too small"), on_one_core():
        raise ValueError("too small")
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_has_threads_of_its_own():
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
