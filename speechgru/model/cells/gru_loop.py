"""A GRU over a sequence, with its gradient, as training on a processor runs it."""

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
    """The same as torch.nn.GRU: x (B, T, I), first state (B, H) -> states (B, T, H), the last one.

        r = sigmoid(W_r x + b_r + U_r h + c_r)      z = sigmoid(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r * q), q = U_n h + c_n    h' = n + z * (h - n)

    Rows of W (3 H, I), U (3 H, H), b and c (3 H,) are those of r, z, n. torch's gradient computes a
    product and a sum per step for each weight; here there is one product per weight over all steps.
    Rows of the batch run in threads that do not wait for each other. Under autocast the products
    are in its shorter type, and so are tensors called short; gates, states and sums stay in full
    precision.
    """
    states, last = _Sequence.apply(x, first, w, u, b, c)
    return states, last


def _forward_steps(
    gates: Tensor, q: Tensor, h: Tensor, short_h: Tensor, bias: Tensor, u: Tensor, c_n: Tensor
) -> None:
    """Starting from h[0], write h[1:], q and the gates r, z, n, in place of their input products.

    Products are of u (H, 3 H) and short_h, which is h[:-1], or under autocast a copy of it in the
    shorter type, which is written, too.

    Shape:
        gates (T, B, 3 H), q (T, B, H), h (T + 1, B, H), short_h (T, B, H)
    """
    hidden = h.size(2)
    minus_one = torch.full([1], -1.0)
    is_mixed = short_h.dtype != h.dtype
    for t in range(q.size(0)):
        gate, before = gates[t], h[t]
        r, z, n = gate[:, :hidden], gate[:, hidden : 2 * hidden], gate[:, 2 * hidden :]
        gate.add_(bias)
        if is_mixed:
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
    gates: Tensor, grads: Tensor, q: Tensor, h: Tensor, grad_states: Tensor, d: Tensor, u: Tensor
) -> Tensor:
    """From the gradient d (B, H) of the last state, write `grads`; returns that of the first.

    `grads` (T, B, 4 H) are the gradients of what n, r and z are activations of, and of q.
    """
    hidden = h.size(2)
    before, work = torch.empty_like(d), torch.empty_like(d)
    is_mixed = grads.dtype != d.dtype
    full = d.new_empty([d.size(0), 4 * hidden])
    for back in range(q.size(0)):
        t = q.size(0) - 1 - back
        gate = gates[t]
        grad = full if is_mixed else grads[t]
        r, z, n = gate[:, :hidden], gate[:, hidden : 2 * hidden], gate[:, 2 * hidden :]
        grad_n, grad_r = grad[:, :hidden], grad[:, hidden : 2 * hidden]
        grad_z, grad_q = grad[:, 2 * hidden : 3 * hidden], grad[:, 3 * hidden :]
        torch.sub(h[t], n, out=work).mul_(d)
        torch.ops.aten.sigmoid_backward(work, z, grad_input=grad_z)
        torch.mul(d, z, out=before)
        torch.sub(d, before, out=work)
        torch.ops.aten.tanh_backward(work, n, grad_input=grad_n)
        torch.mul(grad_n, r, out=grad_q)
        torch.mul(grad_n, q[t], out=work)
        torch.ops.aten.sigmoid_backward(work, r, grad_input=grad_r)
        if t > 0:
            before.add_(grad_states[:, t - 1])
        if is_mixed:
            before.add_(torch.mm(grads[t].copy_(grad)[:, hidden:], u))
        else:
            before.addmm_(grad[:, hidden:], u)
        d, before = before, d
    return d


@cache
def _scripted(loop: Callable[..., Any]) -> Callable[..., Any]:
    """The loop without Python's lock, for which threads would otherwise wait at each operation."""
    with warnings.catch_warnings():
        # torch.compile, which the warning recommends, needs a C++ compiler.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(loop)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, steps, _ = x.shape
        hidden = first.shape[1]
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else w.dtype
        # tanh(a) = 2 sigmoid(2 a) - 1 takes a third of the time, so W_n and b_n are doubled.
        doubling = w.new_ones(3 * hidden)
        doubling[2 * hidden :] = 2
        bias = b * doubling
        bias[: 2 * hidden] += c[: 2 * hidden]
        x = x.transpose(0, 1).reshape(steps * batch, -1).to(dtype)
        gates = (x @ (w * doubling[:, None]).to(dtype).t()).to(w.dtype)
        gates = gates.view(steps, batch, 3 * hidden)
        q = w.new_empty(steps, batch, hidden)
        h = w.new_empty(steps + 1, batch, hidden)
        h[0] = first
        short_h = h[:-1] if dtype == h.dtype else h.new_empty(h[:-1].shape, dtype=dtype)
        short_u = u.to(dtype).t()

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
        grad_states, grad_last = gradients
        x, gates, q, h, short_h, w, u = ctx.saved_tensors
        steps, batch, hidden = q.shape
        dtype = x.dtype  # of the products
        # In the order n, r, z, q: the first three depend on the input, the last three on the state.
        grads = x.new_empty(steps, batch, 4 * hidden)
        short_u = u.to(dtype)
        grad_first = torch.empty_like(grad_last)

        def run(rows: slice) -> None:
            backward_steps = _scripted(_backward_steps)
            d = grad_last[rows] + grad_states[rows, -1]  # of the state after the last step
            grad_first[rows] = backward_steps(
                gates[:, rows],
                grads[:, rows],
                q[:, rows],
                h[:, rows],
                grad_states[rows],
                d,
                short_u,
            )

        in_parts(run, batch)
        flat = grads.flatten(0, 1)
        from_input, from_state = flat[:, : 3 * hidden], flat[:, hidden:]
        sums = flat.sum(0).to(w.dtype)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = from_input @ w.roll(hidden, 0).to(dtype)
            grad_x = grad_x.view(steps, batch, -1).transpose(0, 1)
        return (
            grad_x,
            grad_first,
            (from_input.t() @ x).roll(-hidden, 0).to(w.dtype),
            (from_state.t() @ short_h.flatten(0, 1)).to(u.dtype),
            sums[: 3 * hidden].roll(-hidden),
            sums[hidden:],
        )
