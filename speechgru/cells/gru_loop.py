"""A GRU's sequence with its gradient, as training on a processor takes it."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from speechgru.row_threads import in_parts

aten = torch.ops.aten


def gru_sequence(
    x: Tensor, first: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """What torch.nn.GRU gives: x (B, T, I), first state (B, H) -> all states (B, T, H), the last.

        r = sigmoid(W_r x + b_r + U_r h + c_r)      z = sigmoid(W_z x + b_z + U_z h + c_z)
        n = tanh(W_n x + b_n + r * q), q = U_n h + c_n    h' = n + z * (h - n)

    Rows of W (3 H, I), U (3 H, H), b and c (3 H,) are those of r, z, n. torch's gradient takes a
    product and a sum for each step's share of a weight; here each weight has one product over all
    steps. The rows of the batch go through the steps in threads that do not wait for each other.
    """
    states, last = _Sequence.apply(x, first, w, u, b, c)
    return states, last


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, steps, _ = x.shape
        hidden = first.shape[1]
        gates_of_state, candidate_of_state = u[: 2 * hidden].t(), u[2 * hidden :].t()
        # tanh(a) = 2 sigmoid(2 a) - 1 takes a third of the time; so W_n and b_n count twice.
        twice = w.new_ones(3 * hidden)
        twice[2 * hidden :] = 2
        bias = b * twice
        bias[: 2 * hidden] += c[: 2 * hidden]
        x = x.transpose(0, 1).reshape(steps * batch, -1)
        gates = (x @ (w * twice[:, None]).t()).view(steps, batch, 3 * hidden)
        q = x.new_empty(steps, batch, hidden)
        h = x.new_empty(steps + 1, batch, hidden)
        h[0] = first
        minus_one = x.new_tensor(-1.0)

        def run(rows: slice) -> None:
            gate, before = gates[:, rows], h[0, rows]
            r, z, n = gate.chunk(3, dim=2)
            columns = (gate, gate[..., : 2 * hidden], r, z, n, q[:, rows], h[1:, rows])
            for gate_t, rz_t, r_t, z_t, n_t, q_t, after in zip(*columns, strict=True):
                gate_t.add_(bias)
                rz_t.addmm_(before, gates_of_state).sigmoid_()
                torch.addmm(c[2 * hidden :], before, candidate_of_state, out=q_t)
                n_t.addcmul_(r_t, q_t, value=2.0).sigmoid_()
                torch.add(minus_one, n_t, alpha=2.0, out=n_t)
                before = torch.lerp(n_t, before, z_t, out=after)

        in_parts(run, batch)
        ctx.save_for_backward(x, gates, q, h, w, u)
        return h[1:].transpose(0, 1), h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_last = gradients
        x, gates, q, h, w, u = ctx.saved_tensors
        steps, batch, hidden = q.shape
        # The gradients of what n, r, z and q are made of; what is of the input stands first.
        parts = gates.new_empty(steps, batch, 4 * hidden)
        of_first = torch.empty_like(of_last)

        def run(rows: slice) -> None:
            r, z, n = (gate.unbind(0) for gate in gates[:, rows].chunk(3, dim=2))
            of_n, of_r, of_z, of_q = (part.unbind(0) for part in parts[:, rows].chunk(4, dim=2))
            of_products = parts[:, rows, hidden:].unbind(0)
            q_rows, before = q[:, rows].unbind(0), h[:, rows].unbind(0)
            of_outputs = of_states[rows].unbind(1)
            d = of_last[rows] + of_outputs[-1]  # of the state after the step
            kept, work = torch.empty_like(d), torch.empty_like(d)
            for t in range(steps - 1, -1, -1):
                torch.sub(before[t], n[t], out=work).mul_(d)
                aten.sigmoid_backward(work, z[t], grad_input=of_z[t])
                torch.mul(d, z[t], out=kept)
                torch.sub(d, kept, out=work)
                aten.tanh_backward(work, n[t], grad_input=of_n[t])
                torch.mul(of_n[t], r[t], out=of_q[t])
                torch.mul(of_n[t], q_rows[t], out=work)
                aten.sigmoid_backward(work, r[t], grad_input=of_r[t])
                if t:
                    kept.add_(of_outputs[t - 1])
                d, kept = kept.addmm_(of_products[t], u), d
            of_first[rows] = d

        in_parts(run, batch)
        flat = parts.flatten(0, 1)
        of_input, of_state = flat[:, : 3 * hidden], flat[:, hidden:]  # n, r, z; r, z, q
        sums = flat.sum(0)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (of_input @ w.roll(hidden, 0)).view(steps, batch, -1).transpose(0, 1)
        return (
            of_x,
            of_first,
            (of_input.t() @ x).roll(-hidden, 0),
            of_state.t() @ h[:-1].flatten(0, 1),
            sums[: 3 * hidden].roll(-hidden),
            sums[hidden:],
        )
