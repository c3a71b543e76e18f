"""Recurrent layers against torch, against their equations and against each other; in any chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from speechgru.cells import (
    CELL_NAMES,
    GATED,
    GRU,
    LSTM,
    MGU,
    Cell,
    ChoGRU,
    LiGRU,
    MinGRU,
    MinLSTM,
    SelectiveSSM,
    make_cell,
)

CHUNKS = st.lists(st.integers(1, 6), min_size=1, max_size=8)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")
NEAR = {"atol": 1e-5, "rtol": 1e-5}
all_cells = pytest.mark.parametrize("name", CELL_NAMES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(name: str, inputs: int = 5, outputs: int = 7, **options: float) -> Cell:
    """A cell as after training: neither biases nor running statistics are at their first value."""
    cell = make_cell(name, inputs, outputs, **({"context": 4} | options))
    for key, tensor in [*cell.named_parameters(), *cell.named_buffers()]:
        if key.endswith("running_var"):
            tensor.data.uniform_(0.5, 2)
        elif key.endswith("bias") or key.endswith("running_mean"):
            tensor.data += 0.3 * torch.randn_like(tensor)
    return cell.eval()


def start(cell: Cell, batch: int = 2, scale: float = 0.0) -> Tensor:
    return scale * torch.randn(batch, *cell.state_size)


def parameters(cell: nn.Module) -> int:
    return sum(p.numel() for p in cell.parameters())


# What holds for every cell.


@all_cells
@given(lengths=CHUNKS, scale=st.sampled_from([0.0, 1.0]))
@settings(max_examples=15, deadline=None)
@torch.no_grad()
def test_chunks_give_what_the_whole_gives(name, lengths, scale):
    cell = make(name)
    x, first = torch.randn(2, sum(lengths), 5), start(cell, 2, scale)
    whole, last = cell(x, first)
    assert whole.shape == (2, sum(lengths), 7)
    assert last.shape == first.shape
    parts, state = [], first
    for chunk in x.split(lengths, dim=1):
        y, state = cell(chunk, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **NEAR)
    torch.testing.assert_close(state, last, **NEAR)


@all_cells
@torch.no_grad()
def test_steps_by_the_equations_give_what_the_sequence_gives(name):
    """For RNN, LSTM, LSTMP and GRU this is our equations against torch.nn."""
    cell = make(name)
    x, state = torch.randn(3, 11, 5), start(cell, 3, 1.0)
    y, last = cell(x, state)
    traced = cell.trace(x, state)
    torch.testing.assert_close(traced.y, y, **NEAR)
    torch.testing.assert_close(traced.state, last, **NEAR)
    for t in range(11):
        step = cell.step(x[:, t], state)
        torch.testing.assert_close(step.y, y[:, t], **NEAR)
        for gate, values in step.gates.items():
            torch.testing.assert_close(values, traced.gates[gate][:, t], **NEAR)
            assert values.min() >= 0
            assert values.max() <= 1
        state = step.state


@all_cells
@torch.no_grad()
def test_rows_of_a_batch_do_not_mix(name):
    cell = make(name)
    x, state = torch.randn(3, 6, 5), start(cell, 3, 1.0)
    y, last = cell(x, state)
    for row in range(3):
        alone, its_last = cell(x[row : row + 1], state[row : row + 1])
        torch.testing.assert_close(alone[0], y[row], **NEAR)
        torch.testing.assert_close(its_last[0], last[row], **NEAR)


@all_cells
def test_no_step_sees_a_later_one_and_each_sees_its_own(name):
    cell = make(name)
    x = torch.randn(1, 8, 5, requires_grad=True)
    y, _ = cell(x, start(cell, 1))
    (gradient,) = torch.autograd.grad(y[:, 4].square().sum(), x)
    assert not gradient[:, 5:].any()
    assert gradient[:, 4].any()
    assert gradient[:, 3].any()


@all_cells
def test_gradients_are_those_of_differences(name):
    """In double precision, to weights, input and first state."""
    cell = make(name, 2, 4).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    state = (0.5 * start(cell)).double().requires_grad_()
    weights = dict(cell.named_parameters())

    def answer(x, state, *values):
        return torch.func.functional_call(cell, dict(zip(weights, values, strict=True)), (x, state))

    assert torch.autograd.gradcheck(answer, (x, state, *weights.values()), atol=1e-6)


@all_cells
def test_gradients_reach_every_weight_in_training(name):
    cell = make(name).train()
    cell(torch.randn(3, 6, 5), start(cell, 3))[0].square().sum().backward()
    for key, parameter in cell.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


X, H = 5, 7


@pytest.mark.parametrize(
    ("name", "count"),
    {
        "rnn": H * X + H**2 + 2 * H,
        "lstm": 4 * (H * X + H**2 + 2 * H),
        "lstmp": 4 * (2 * H * X + 2 * H * H + 2 * 2 * H) + 2 * H * H,
        "gru": 3 * (H * X + H**2 + 2 * H),
        "gru-cho": 3 * (H * X + H**2 + H),
        "mgu": 2 * (H * X + H**2 + H),
        "ligru": 2 * (H * X + H**2 + 2 * H),
        "mingru": 2 * (H * X + H),
        "minlstm": 3 * (H * X + H),
        # u, gate; delta (rank 1), B, C; delta's own; A, D, output.
        "ssm": 2 * H * X + H * (1 + 2 * 8) + 2 * H + 8 * H + H + H * H,
        # input; q, k, v; joined; positions; norm; feed-forward.
        "transformer": (X + 1) * H + (H + 1) * (4 * H) + 4 + 2 * H + 8 * H * H + 5 * H,
    }.items(),
)
def test_each_has_the_parameters_that_its_formula_says(name, count):
    assert parameters(make(name, X, H)) == count


def test_the_formulas_are_of_all_cells():
    mark = test_each_has_the_parameters_that_its_formula_says.pytestmark[0]
    assert [name for name, _ in mark.args[1]] == list(CELL_NAMES)


@all_cells
@torch.no_grad()
def test_multiply_adds_are_those_that_torch_counts(name):
    cell = make(name)
    with FlopCounterMode(display=False) as counter:
        cell.step(torch.randn(1, 5), start(cell, 1))
    assert cell.multiply_adds == counter.get_total_flops() // 2


@all_cells
def test_in_half_precision_the_state_stays_whole(name):
    """Under autocast, as in training on a GPU: the state is float32, and near what it would be."""
    cell = make(name)
    x, state = torch.randn(2, 12, 5), start(cell, 2, 0.5)
    expected, _ = cell(x, state)
    with torch.autocast("cpu", torch.bfloat16):
        y, last = cell(x, state)
    assert last.shape == state.shape
    torch.testing.assert_close(y.float(), expected, atol=0.1, rtol=0.1)


# One by one.


def test_the_gru_is_what_its_equations_say():
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
def test_the_gru_of_cho_is_that_of_torch_where_the_order_does_not_matter():
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
def test_the_mgu_is_a_gru_whose_gates_are_one():
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
def test_the_li_gru_normalises_by_fixed_numbers_in_a_stream():
    cell = make("ligru")
    x, h = torch.randn(3, 11, 5), torch.randn(3, 7)
    norm, products = cell.norm, x @ cell.input.weight.T
    normalised = (products - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    normalised = normalised * norm.weight + norm.bias
    torch.testing.assert_close(cell(x, h)[0], li_gru_by_its_equations(cell, normalised, h), **NEAR)


@torch.no_grad()
def test_the_li_gru_normalises_by_all_steps_of_the_batch_in_training():
    cell = LiGRU(5, 7).train()
    x, h = 3 + 2 * torch.randn(4, 11, 5), torch.zeros(4, 7)
    products = x @ cell.input.weight.T
    mean, variance = products.mean(dim=(0, 1)), products.var(dim=(0, 1), correction=0)
    normalised = (products - mean) / (variance + cell.norm.eps).sqrt()
    torch.testing.assert_close(cell(x, h)[0], li_gru_by_its_equations(cell, normalised, h), **NEAR)
    torch.testing.assert_close(cell.norm.running_mean, 0.1 * mean, **NEAR)


@torch.no_grad()
def test_the_li_gru_s_state_is_bounded_whatever_its_weights():
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
def test_the_minimal_cells_are_those_of_the_paper_in_log_space():
    x, h = torch.randn(2, 20, 5).double(), torch.rand(2, 7).double()
    mingru, minlstm = MinGRU(5, 7).double(), MinLSTM(5, 7).double()
    z, n = mingru.input(x).chunk(2, dim=2)
    z = z.sigmoid()
    torch.testing.assert_close(mingru(x, h)[0], in_log_space(1 - z, z * g(n), h))
    f, i, n = minlstm.input(x).chunk(3, dim=2)
    f, i = f.sigmoid(), i.sigmoid()
    torch.testing.assert_close(minlstm(x, h)[0], in_log_space(f / (f + i), i / (f + i) * g(n), h))


@torch.no_grad()
def test_the_minimal_lstm_shares_out_gates_that_are_almost_shut():
    """f / (f + i) of two that are 0 in float32."""
    keep, new = MinLSTM(5, 1).shares(torch.tensor([[-200.0, -200.0], [-200.0, -199.0]]))
    torch.testing.assert_close(keep + new, torch.ones(2, 1))
    torch.testing.assert_close(keep[:, 0], torch.tensor([0.5, 1 / (1 + torch.e)]))


@torch.no_grad()
def test_the_state_space_is_what_its_equations_say():
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


def test_the_state_space_begins_with_time_constants_of_10_to_1000_steps():
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
def test_the_transformer_sees_its_context_and_no_further():
    cell = make("transformer", 8, 8, context=5)
    x = torch.randn(1, 12, 8)
    changed = x.clone()
    changed[:, 3] += 5
    differs = (cell(x, start(cell, 1))[0] - cell(changed, start(cell, 1))[0]).abs().amax(dim=(0, 2))
    assert (differs > 1e-6).nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


@torch.no_grad()
def test_the_transformer_in_blocks_is_that_of_one_square():
    """Longer than a block, and what each step attends to sums to one."""
    cell = make("transformer", 8, 8, context=20)
    x = torch.randn(1, 300, 8)
    traced = cell.trace(x, start(cell, 1))
    torch.testing.assert_close(traced.y, cell(x, start(cell, 1))[0], **NEAR)
    assert traced.gates["attention"].shape == (1, 300, 20)
    torch.testing.assert_close(traced.gates["attention"].sum(dim=2), torch.ones(1, 300), **NEAR)
    shifted, _ = cell(x[:, 60:], start(cell, 1))  # other blocks; the first steps lack their context
    torch.testing.assert_close(shifted[:, 19:], traced.y[:, 79:], **NEAR)


# How they begin.


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru-cho", "mgu", "ligru"])
def test_recurrent_weights_begin_orthogonal_for_each_gate(name):
    cell = make_cell(name, 5, 7)
    recurrent = [p for key, p in cell.named_parameters() if p.ndim == 2 and p.shape[1] == 7]
    gates = [gate for weight in recurrent for gate in weight.split(7)]
    assert len(gates) == {"rnn": 1, "lstm": 4, "gru": 3, "gru-cho": 3, "mgu": 2, "ligru": 2}[name]
    for gate in gates:
        torch.testing.assert_close(gate @ gate.T, torch.eye(7), atol=1e-5, rtol=0)


def test_an_lstm_begins_by_remembering():
    """The forget gates' two biases sum to 1, or to what is asked for."""
    for keep_bias in (0.0, 1.5):
        for projection in (0, 3):
            lstm = LSTM(5, 7, keep_bias, projection).lstm
            forget = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[7:14]
            torch.testing.assert_close(forget, torch.full((7,), 1 + keep_bias))


@pytest.mark.parametrize("name", [name for name in GATED if name != "ligru"])
@torch.no_grad()
def test_a_keep_bias_makes_the_memory_longer(name):
    """The longer what a layer held at first is seen in what it holds ten steps later.

    Not in a Li-GRU, whose normalised products are as large for a small state as for a large one:
    of that the gate is looked at below.
    """

    def kept(keep_bias: float) -> float:
        torch.manual_seed(0)
        cell = make_cell(name, 5, 7, keep_bias=keep_bias).eval()
        x = torch.randn(16, 10, 5)
        states = [cell(x, torch.full((16, *cell.state_size), value))[1] for value in (0.1, 0.2)]
        return (states[1] - states[0]).abs().mean().item()

    assert kept(3.0) > 3 * kept(0.0)


def test_half_of_a_gru_s_state_is_replaced_at_first_and_less_with_a_bias():
    x = torch.zeros(1, 5)
    for name in ("gru", "gru-cho", "mgu", "ligru", "mingru"):
        for keep_bias, expected in ((0.0, 0.5), (2.0, 1 / (1 + torch.e**2))):
            cell = make_cell(name, 5, 200, keep_bias=keep_bias).eval()
            update = cell.step(x, start(cell, 1)).gates["update"]
            assert update.mean().item() == pytest.approx(expected, abs=0.02), name
