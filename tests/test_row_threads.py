"""Rows in parts, each in a thread of its own, whatever mode of torch the caller is in."""

import pytest
import torch

from speechgru.row_threads import by_rows, in_parts


@pytest.fixture(params=[1, 2, 4])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("rows", [1, 8, 9, 40])
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
