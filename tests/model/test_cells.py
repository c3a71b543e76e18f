"""Recurrent layers: what holds for every one of them; in any chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cells import NEAR, make, start
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from speechgru.model.cells import (
    CELL_NAMES,
    GATED,
    LSTM,
    make_cell,
)

CHUNKS = st.lists(st.integers(1, 6), min_size=1, max_size=8)
pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections"),
    pytest.mark.usefixtures("seeded"),
]
all_cells = pytest.mark.parametrize("name", CELL_NAMES)


def parameters(cell: nn.Module) -> int:
    return sum(p.numel() for p in cell.parameters())


# What holds for every cell.


@all_cells
@given(lengths=CHUNKS, scale=st.sampled_from([0.0, 1.0]))
@settings(max_examples=15, deadline=None)
@torch.no_grad()
def test_chunks_equal_the_whole(name, lengths, scale):
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
def test_single_steps_equal_the_sequence(name):
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
def test_every_step_depends_on_its_input_and_not_on_later_ones(name):
    cell = make(name)
    x = torch.randn(1, 8, 5, requires_grad=True)
    y, _ = cell(x, start(cell, 1))
    (gradient,) = torch.autograd.grad(y[:, 4].square().sum(), x)
    assert not gradient[:, 5:].any()
    assert gradient[:, 4].any()
    assert gradient[:, 3].any()


@all_cells
def test_gradients_equal_finite_differences(name):
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
def test_parameters_match_the_formula(name, count):
    assert parameters(make(name, X, H)) == count


def test_there_is_a_formula_for_every_cell():
    mark = test_parameters_match_the_formula.pytestmark[0]
    assert [name for name, _ in mark.args[1]] == list(CELL_NAMES)


@all_cells
@torch.no_grad()
def test_multiply_adds_equal_torchs_count(name):
    cell = make(name)
    with FlopCounterMode(display=False) as counter:
        cell.step(torch.randn(1, 5), start(cell, 1))
    assert cell.multiply_adds == counter.get_total_flops() // 2


@all_cells
def test_the_state_keeps_its_precision_under_autocast(name):
    """Under autocast, as in training on a GPU: the state is float32, and near what it would be."""
    cell = make(name)
    x, state = torch.randn(2, 12, 5), start(cell, 2, 0.5)
    expected, _ = cell(x, state)
    with torch.autocast("cpu", torch.bfloat16):
        y, last = cell(x, state)
    assert last.shape == state.shape
    torch.testing.assert_close(y.float(), expected, atol=0.1, rtol=0.1)


# How they begin.


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru-cho", "mgu", "ligru"])
def test_recurrent_weights_start_orthogonal_for_each_gate(name):
    cell = make_cell(name, 5, 7)
    recurrent = [p for key, p in cell.named_parameters() if p.ndim == 2 and p.shape[1] == 7]
    gates = [gate for weight in recurrent for gate in weight.split(7)]
    assert len(gates) == {"rnn": 1, "lstm": 4, "gru": 3, "gru-cho": 3, "mgu": 2, "ligru": 2}[name]
    for gate in gates:
        torch.testing.assert_close(gate @ gate.T, torch.eye(7), atol=1e-5, rtol=0)


def test_an_lstm_starts_with_open_forget_gates():
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


def test_a_gru_starts_by_replacing_half_its_state_or_less_with_a_bias():
    x = torch.zeros(1, 5)
    for name in ("gru", "gru-cho", "mgu", "ligru", "mingru"):
        for keep_bias, expected in ((0.0, 0.5), (2.0, 1 / (1 + torch.e**2))):
            cell = make_cell(name, 5, 200, keep_bias=keep_bias).eval()
            update = cell.step(x, start(cell, 1)).gates["update"]
            assert update.mean().item() == pytest.approx(expected, abs=0.02), name
