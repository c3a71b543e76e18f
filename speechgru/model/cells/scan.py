"""The linear recurrence h_t = a_t h_{t-1} + b_t, and its gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_recurrence(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """All h_t = a_t * h_{t-1} + b_t: (B, T, ...), (B, T, ...), h_{-1} (B, ...) -> (B, T, ...).

    There is no division and no logarithm, so that with a in [0, 1] nothing overflows however long
    the sequence is, and a may be 0. On a GPU it is a scan of about log2(T) passes, on a processor a
    loop over the steps. The gradient is such a recurrence, too, backwards in time:
    with G_t = dL/dh_t, dL/db_t = D_t = G_t + a_{t+1} D_{t+1}, and dL/da_t = D_t h_{t-1}.
    """
    # Sums are in the precision of the state, even if autocast made a and b shorter.
    return _LinearRecurrence.apply(a.to(first.dtype), b.to(first.dtype), first)


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        h = solve(a, b, first)
        ctx.save_for_backward(a, h, first)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, first = ctx.saved_tensors
        following = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
        d = solve(following.flip(1), gradients[0].flip(1), torch.zeros_like(first)).flip(1)
        before = torch.cat([first.unsqueeze(1), h[:, :-1]], dim=1)
        return d * before, d, a[:, 0] * d[:, 0]


def solve(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """The recurrence by the algorithm that suits the device, without gradient."""
    return solve_by_doubling(a, b, first) if a.is_cuda else solve_by_steps(a, b, first)


def solve_by_steps(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """The recurrence as written: T products."""
    h = torch.empty_like(b)
    last = first
    for h_t, a_t, b_t in zip(h.unbind(1), a.unbind(1), b.unbind(1), strict=True):
        last = torch.addcmul(b_t, a_t, last, out=h_t)
    return h


def solve_by_doubling(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """The recurrence as an associative scan: log2(T) passes, each over all steps.

    Two steps, (a, b) then (a', b'), combine into one, (a' a, a' b + b'); after pass k every pair
    covers 2^k steps (Hillis and Steele, 1986; Blelloch, 1990, section 1.4).
    """
    a, h = a.clone(), b.clone()
    h[:, 0] += a[:, 0] * first
    distance, steps = 1, a.shape[1]
    while distance < steps:
        h[:, distance:] += a[:, distance:] * h[:, :-distance]  # the product is a copy
        a[:, distance:] = a[:, distance:] * a[:, :-distance]
        distance *= 2
    return h
