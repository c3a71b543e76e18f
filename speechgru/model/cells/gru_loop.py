"""A GRU's sequence with its gradient, as training on a processor takes it."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from speechgru.model.row_threads import in_parts


def gru_sequence(
    x: Tensor, first: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """What torch.nn.GRU gives: x (B, T, I), first state (B, H) -> all states (B, T, H), the last.

        r = sigmoid(W_r x + b_r + U_r h + c_r)      z = sigmoid(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r * q), q = U_n h + c_n    h' = n + z * (h - n)

    Rows of W (3 H, I), U (3 H, H), b and c (3 H,) are those of r, z, n. torch's gradient takes a
    product and a sum for each step's share of a weight; here each weight has one product over all
    steps. The rows of the batch go through the steps in threads that do not wait for each other.
    Under autocast the products are of its short numbers; gates, states and sums stay whole.
    """
    states, last = _Sequence.apply(x, first, w, u, b, c)
    return states, last


def _forward_steps(
    gates: Tensor, q: Tensor, h: Tensor, short_h: Tensor, bias: Tensor, u: Tensor, c_n: Tensor
) -> None:
    """From h[0], write h[1:] (T + 1, B, H), q (T, B, H), and r, z, n over their inputs' parts.

    Products are taken of u (H, 3 H) and of short_h (T, B, H), which is h[:-1] or is written too.
    """
    hidden = h.size(2)
    minus_one = torch.full([1], -1.0)
    short = short_h.dtype != h.dtype
    for t in range(q.size(0)):
        gate, before = gates[t], h[t]
        r, z, n = gate[:, :hidden], gate[:, hidden : 2 * hidden], gate[:, 2 * hidden :]
        gate.add_(bias)
        if short:
            product = torch.mm(short_h[t].copy_(before), u)
            gate[:, : 2 * hidden].add_(product[:, : 2 * hidden]).sigmoid_()
            torch.add(c_n, product[:, 2 * hidden :], out=q[t])
        else:
            gate[:, : 2 * hidden].addmm_(before, u[:, : 2 * hidden]).sigmoid_()
            torch.addmm(c_n, before, u[:, 2 * hidden :], out=q[t])
        n.addcmul_(r, q[t], value=2.0).sigmoid_()
        torch.add(minus_one, n, alpha=2.0, out=n)
        torch.lerp(n, before, z, out=h[t + 1])


def _backward_steps(
    gates: Tensor, parts: Tensor, q: Tensor, h: Tensor, of_states: Tensor, d: Tensor, u: Tensor
) -> Tensor:
    """From the last state's gradient d (B, H), write `parts` (T, B, 4 H); gives the first's."""
    hidden = h.size(2)
    kept, work = torch.empty_like(d), torch.empty_like(d)
    short = parts.dtype != d.dtype
    whole = d.new_empty([d.size(0), 4 * hidden])
    for back in range(q.size(0)):
        t = q.size(0) - 1 - back
        gate = gates[t]
        part = whole if short else parts[t]
        r, z, n = gate[:, :hidden], gate[:, hidden : 2 * hidden], gate[:, 2 * hidden :]
        of_n, of_r = part[:, :hidden], part[:, hidden : 2 * hidden]
        of_z, of_q = part[:, 2 * hidden : 3 * hidden], part[:, 3 * hidden :]
        torch.sub(h[t], n, out=work).mul_(d)
        torch.ops.aten.sigmoid_backward(work, z, grad_input=of_z)
        torch.mul(d, z, out=kept)
        torch.sub(d, kept, out=work)
        torch.ops.aten.tanh_backward(work, n, grad_input=of_n)
        torch.mul(of_n, r, out=of_q)
        torch.mul(of_n, q[t], out=work)
        torch.ops.aten.sigmoid_backward(work, r, grad_input=of_r)
        if t > 0:
            kept.add_(of_states[:, t - 1])
        if short:
            kept.add_(torch.mm(parts[t].copy_(part)[:, hidden:], u))
        else:
            kept.addmm_(part[:, hidden:], u)
        d, kept = kept, d
    return d


@cache
def _scripted(steps: Callable[..., Any]) -> Callable[..., Any]:
    """The loop without Python's lock, which threads of rows would wait for at each operation."""
    with warnings.catch_warnings():
        # torch.compile, which it recommends, needs a C++ compiler.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(steps)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, steps, _ = x.shape
        hidden = first.shape[1]
        short = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else w.dtype
        # tanh(a) = 2 sigmoid(2 a) - 1 takes a third of the time; so W_n and b_n count twice.
        twice = w.new_ones(3 * hidden)
        twice[2 * hidden :] = 2
        bias = b * twice
        bias[: 2 * hidden] += c[: 2 * hidden]
        x = x.transpose(0, 1).reshape(steps * batch, -1).to(short)
        gates = (x @ (w * twice[:, None]).to(short).t()).to(w.dtype).view(steps, batch, 3 * hidden)
        q = w.new_empty(steps, batch, hidden)
        h = w.new_empty(steps + 1, batch, hidden)
        h[0] = first
        short_h = h[:-1] if short == h.dtype else h.new_empty(h[:-1].shape, dtype=short)
        short_u = u.to(short).t()

        def run(rows: slice) -> None:
            states = h[:, rows], short_h[:, rows]
            forward_steps = _scripted(_forward_steps)
            forward_steps(gates[:, rows], q[:, rows], *states, bias, short_u, c[2 * hidden :])

        in_parts(run, batch)
        ctx.save_for_backward(x, gates, q, h, short_h, w, u)
        return h[1:].transpose(0, 1), h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_last = gradients
        x, gates, q, h, short_h, w, u = ctx.saved_tensors
        steps, batch, hidden = q.shape
        short = x.dtype
        # The gradients of what n, r, z and q are made of; what is of the input stands first.
        parts = x.new_empty(steps, batch, 4 * hidden)
        short_u = u.to(short)
        of_first = torch.empty_like(of_last)

        def run(rows: slice) -> None:
            backward_steps = _scripted(_backward_steps)
            d = of_last[rows] + of_states[rows, -1]  # of the state after the last step
            of_first[rows] = backward_steps(
                gates[:, rows], parts[:, rows], q[:, rows], h[:, rows], of_states[rows], d, short_u
            )

        in_parts(run, batch)
        flat = parts.flatten(0, 1)
        of_input, of_state = flat[:, : 3 * hidden], flat[:, hidden:]  # n, r, z; r, z, q
        sums = flat.sum(0).to(w.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (of_input @ w.roll(hidden, 0).to(short)).view(steps, batch, -1).transpose(0, 1)
        return (
            of_x,
            of_first,
            (of_input.t() @ x).roll(-hidden, 0).to(w.dtype),
            (of_state.t() @ short_h.flatten(0, 1)).to(u.dtype),
            sums[: 3 * hidden].roll(-hidden),
            sums[hidden:],
        )
