"""The linear recurrence: all ways give the same, and nothing overflows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speechgru.model.cells.scan import linear_recurrence, solve_by_doubling, solve_by_steps

ways = pytest.mark.parametrize("solve", [linear_recurrence, solve_by_steps, solve_by_doubling])


def by_definition(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    h, all_h = first, []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        all_h.append(h)
    return torch.stack(all_h, dim=1)


@ways
@given(
    steps=st.integers(1, 70),
    shape=st.sampled_from([(3,), (2, 4), ()]),
    low=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_every_algorithm_gives_the_recurrence(solve, steps, shape, low, seed):
    torch.manual_seed(seed)
    a = low + (1 - low) * torch.rand(2, steps, *shape, dtype=torch.float64)
    a = torch.where(torch.rand_like(a) < 0.1, 0.0, a)
    b, first = torch.randn_like(a), torch.randn(2, *shape, dtype=torch.float64)
    before = a.clone(), b.clone()
    torch.testing.assert_close(solve(a, b, first), by_definition(a, b, first))
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


@ways
def test_a_long_recurrence_neither_overflows_nor_vanishes(solve):
    """What a cumulative product, or its logarithm, cannot hold in float32."""
    a = torch.cat([torch.full((1, 3_000), 1e-3), torch.ones(1, 3_000)], dim=1)
    b = torch.ones(1, 6_000)
    h = solve(a, b, torch.full((1,), 1e6))
    assert h.isfinite().all()
    assert h[0, 2_999].item() == pytest.approx(1 / (1 - 1e-3), rel=1e-5)
    assert h[0, -1].item() == pytest.approx(3_000 + 1 / (1 - 1e-3), rel=1e-5)


def test_its_gradient_equals_finite_differences():
    torch.manual_seed(0)
    a = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    first = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(linear_recurrence, (a, b, first))


def test_its_gradient_equals_that_of_the_loop():
    torch.manual_seed(0)
    leaves = [torch.rand(2, 40, 3), torch.randn(2, 40, 3), torch.randn(2, 3)]
    found = []
    for solve in (linear_recurrence, by_definition):
        a, b, first = (leaf.clone().requires_grad_() for leaf in leaves)
        solve(a, b, first).square().sum().backward()
        found.append((a.grad, b.grad, first.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_sums_keep_the_precision_of_the_state():
    a = torch.full((1, 1000, 1), 1.0, dtype=torch.bfloat16)
    h = linear_recurrence(a, a, torch.zeros(1, 1))
    assert h.dtype == torch.float32
    assert h[0, -1].item() == 1000
