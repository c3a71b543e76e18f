"""Each recurrent layer against torch, and against the equations of its paper."""

import pytest
import torch
from made_cells import NEAR, make, start
from torch import Tensor, nn

from speechgru.model.cells import (
    GRU,
    MGU,
    ChoGRU,
    LiGRU,
    MinGRU,
    MinLSTM,
    SelectiveSSM,
)

pytestmark = pytest.mark.usefixtures("seeded")


def test_the_gru_follows_its_equations():
    layer = GRU(5, 7)
    x, h = torch.randn(3, 11, 5), torch.randn(3, 7)
    w_r, w_z, w_n = layer.gru.weight_ih_l0.split(7)
    u_r, u_z, u_n = layer.gru.weight_hh_l0.split(7)
    b_r, b_z, b_n = layer.gru.bias_ih_l0.split(7)
    c_r, c_z, c_n = layer.gru.bias_hh_l0.split(7)
    expected = []
    state = h
    for step in x.unbind(dim=1):
        r = torch.sigmoid(step @ w_r.T + b_r + state @ u_r.T + c_r)
        z = torch.sigmoid(step @ w_z.T + b_z + state @ u_z.T + c_z)
        n = torch.tanh(step @ w_n.T + b_n + r * (state @ u_n.T + c_n))
        state = (1 - z) * n + z * state
        expected.append(state)
    y, last = layer(x, h)
    torch.testing.assert_close(y, torch.stack(expected, dim=1), **NEAR)
    torch.testing.assert_close(last, state, **NEAR)


@torch.no_grad()
def test_the_cho_gru_equals_torchs_where_the_order_does_not_matter():
    """r * (U h) = U (r * h) for a diagonal U; else the two differ."""
    cho, reference = ChoGRU(5, 7), nn.GRU(5, 7, batch_first=True)
    reference.bias_hh_l0.zero_()
    reference.weight_ih_l0.copy_(cho.input.weight)
    reference.bias_ih_l0.copy_(cho.input.bias)
    x, h = torch.randn(3, 11, 5), torch.randn(3, 7)
    for candidate, same in ((torch.diag(torch.randn(7)), True), (torch.randn(7, 7), False)):
        cho.candidate.weight.copy_(candidate)
        reference.weight_hh_l0.copy_(torch.cat([cho.gates.weight, candidate]))
        assert torch.allclose(cho(x, h)[0], reference(x, h[None])[0], atol=1e-5) == same


@torch.no_grad()
def test_the_mgu_is_a_gru_with_equal_gates():
    """With r = f and 1 - z = f, Cho's equations are those of the MGU."""
    mgu, cho = MGU(5, 7), ChoGRU(5, 7)
    (w_f, w_n), (b_f, b_n) = mgu.input.weight.split(7), mgu.input.bias.split(7)
    cho.input.weight.copy_(torch.cat([w_f, -w_f, w_n]))
    cho.input.bias.copy_(torch.cat([b_f, -b_f, b_n]))
    cho.gates.weight.copy_(torch.cat([mgu.gate.weight, -mgu.gate.weight]))
    cho.candidate.weight.copy_(mgu.candidate.weight)
    x, h = torch.randn(3, 11, 5), torch.randn(3, 7)
    torch.testing.assert_close(mgu(x, h)[0], cho(x, h)[0], **NEAR)


def li_gru_by_its_equations(cell: LiGRU, normalised: Tensor, h: Tensor) -> Tensor:
    expected = []
    for z_x, n_x in zip(*(part.unbind(1) for part in normalised.chunk(2, dim=2)), strict=True):
        u = h @ cell.recurrent.weight.T
        variance = u.var(dim=1, correction=0, keepdim=True)
        u = (u - u.mean(dim=1, keepdim=True)) / (variance + cell.recurrent_norm.eps).sqrt()
        z = torch.sigmoid(z_x + u[:, :7])
        h = z * h + (1 - z) * torch.relu(n_x + u[:, 7:])
        expected.append(h)
    return torch.stack(expected, dim=1)


@torch.no_grad()
def test_the_ligru_uses_running_statistics_in_a_stream():
    cell = make("ligru")
    x, h = torch.randn(3, 11, 5), torch.randn(3, 7)
    norm, products = cell.norm, x @ cell.input.weight.T
    normalised = (products - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    normalised = normalised * norm.weight + norm.bias
    torch.testing.assert_close(cell(x, h)[0], li_gru_by_its_equations(cell, normalised, h), **NEAR)


@torch.no_grad()
def test_the_ligru_uses_batch_statistics_in_training():
    cell = LiGRU(5, 7).train()
    x, h = 3 + 2 * torch.randn(4, 11, 5), torch.zeros(4, 7)
    products = x @ cell.input.weight.T
    mean, variance = products.mean(dim=(0, 1)), products.var(dim=(0, 1), correction=0)
    normalised = (products - mean) / (variance + cell.norm.eps).sqrt()
    torch.testing.assert_close(cell(x, h)[0], li_gru_by_its_equations(cell, normalised, h), **NEAR)
    torch.testing.assert_close(cell.norm.running_mean, 0.1 * mean, **NEAR)


@torch.no_grad()
def test_the_state_of_the_ligru_is_bounded_for_any_weights():
    """By what is added before the rectifier: a layer's normalised products are under sqrt(2 H)."""
    cell = make("ligru")
    cell.recurrent.weight.mul_(30)
    x = torch.randn(2, 2_000, 5)
    largest = cell.project(x).max() + (2 * 7) ** 0.5
    y, last = cell(x, torch.zeros(2, 7))
    assert y.min() >= 0
    assert y.max() <= largest
    assert last.isfinite().all()


def in_log_space(keep: Tensor, taken: Tensor, first: Tensor) -> Tensor:
    """The scan of Feng et al. (appendix B, after Heinsen): needs what is taken to be positive."""
    keeps = nn.functional.pad(keep.log().cumsum(dim=1), (0, 0, 1, 0))
    values = torch.cat([first[:, None], taken], dim=1).log()
    return (keeps + torch.logcumsumexp(values - keeps, dim=1)).exp()[:, 1:]


def g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


@torch.no_grad()
def test_the_minimal_cells_equal_the_papers_log_space_form():
    x, h = torch.randn(2, 20, 5).double(), torch.rand(2, 7).double()
    mingru, minlstm = MinGRU(5, 7).double(), MinLSTM(5, 7).double()
    z, n = mingru.input(x).chunk(2, dim=2)
    z = z.sigmoid()
    torch.testing.assert_close(mingru(x, h)[0], in_log_space(1 - z, z * g(n), h))
    f, i, n = minlstm.input(x).chunk(3, dim=2)
    f, i = f.sigmoid(), i.sigmoid()
    torch.testing.assert_close(minlstm(x, h)[0], in_log_space(f / (f + i), i / (f + i) * g(n), h))


@torch.no_grad()
def test_the_minimal_lstm_normalizes_tiny_gates():
    """f / (f + i) of two that are 0 in float32."""
    keep, new = MinLSTM(5, 1).shares(torch.tensor([[-200.0, -200.0], [-200.0, -199.0]]))
    torch.testing.assert_close(keep + new, torch.ones(2, 1))
    torch.testing.assert_close(keep[:, 0], torch.tensor([0.5, 1 / (1 + torch.e)]))


@torch.no_grad()
def test_the_state_space_follows_its_equations():
    cell = SelectiveSSM(5, 7)
    x, h = torch.randn(2, 9, 5), torch.randn(2, 7, 8)
    y, last = cell(x, h)
    w_u, w_g = cell.input.weight.split(7)
    w_d, w_b, w_c = cell.selection.weight.split([1, 8, 8])
    rates = cell.log_rates.exp().view(7, 8)
    torch.testing.assert_close(rates, torch.arange(1.0, 9).expand(7, 8))
    expected = []
    for step in x.unbind(dim=1):
        u, gate = step @ w_u.T, step @ w_g.T
        delta = nn.functional.softplus(cell.delta(u @ w_d.T))
        decay = torch.exp(-torch.einsum("bh,hn->bhn", delta, rates))
        h = decay * h + torch.einsum("bh,bh,bn->bhn", delta, u, u @ w_b.T)
        seen = torch.einsum("bhn,bn->bh", h, u @ w_c.T) + cell.skip * u
        expected.append(cell.output(seen * gate * gate.sigmoid()))
    torch.testing.assert_close(y, torch.stack(expected, dim=1), **NEAR)
    torch.testing.assert_close(last, h, **NEAR)


def test_the_state_space_starts_with_time_constants_of_10_to_1000_steps():
    delta = nn.functional.softplus(SelectiveSSM(5, 400).delta.bias)
    assert delta.min() >= 1 / 1001
    assert delta.max() <= 1 / 9.99
    assert delta.log10().mean().item() == pytest.approx(-2.0, abs=0.1)


@torch.no_grad()
def test_the_transformer_is_attention_over_the_padded_whole():
    cell = make("transformer", 8, 8, context=3)
    x = torch.randn(2, 6, 8)
    padded = nn.functional.pad(cell.qkv(x), (0, 0, 2, 0))
    q, k, v = (p.unflatten(2, (cell.heads, -1)).transpose(1, 2) for p in padded.chunk(3, dim=2))
    distance = torch.arange(6)[:, None] + 2 - torch.arange(8)
    inside = (distance >= 0) & (distance < 3)
    bias = cell.position.view(cell.heads, 3)[:, distance.clamp(0, 2)]
    seen = nn.functional.scaled_dot_product_attention(
        *(q[:, :, 2:], k, v), attn_mask=bias.masked_fill(~inside, -torch.inf)
    )
    a = cell.joined(seen.transpose(1, 2).flatten(2))
    expected = a + cell.narrow(nn.functional.gelu(cell.wide(cell.norm(x + a))))
    torch.testing.assert_close(cell(x, start(cell))[0], expected, **NEAR)


@torch.no_grad()
def test_the_transformer_sees_exactly_its_context():
    cell = make("transformer", 8, 8, context=5)
    x = torch.randn(1, 12, 8)
    changed = x.clone()
    changed[:, 3] += 5
    differs = (cell(x, start(cell, 1))[0] - cell(changed, start(cell, 1))[0]).abs().amax(dim=(0, 2))
    assert (differs > 1e-6).nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


@torch.no_grad()
def test_the_transformer_in_blocks_equals_full_attention():
    """Longer than a block, and what each step attends to sums to one."""
    cell = make("transformer", 8, 8, context=20)
    x = torch.randn(1, 300, 8)
    traced = cell.trace(x, start(cell, 1))
    torch.testing.assert_close(traced.y, cell(x, start(cell, 1))[0], **NEAR)
    assert traced.gates["attention"].shape == (1, 300, 20)
    torch.testing.assert_close(traced.gates["attention"].sum(dim=2), torch.ones(1, 300), **NEAR)
    shifted, _ = cell(x[:, 60:], start(cell, 1))  # other blocks; the first steps lack their context
    torch.testing.assert_close(shifted[:, 19:], traced.y[:, 79:], **NEAR)
