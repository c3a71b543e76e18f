"""Layers against torch and against their equations; whole and in chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from speechgru.cells import GRU, CausalConv2d

CHUNKS = st.lists(st.integers(1, 6), min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_the_gru_is_that_of_torch():
    layer = GRU(5, 7)
    reference = nn.GRU(5, 7, batch_first=True)
    reference.load_state_dict(layer.gru.state_dict())
    x, h = torch.randn(3, 11, 5), torch.randn(3, 7)
    y, state = layer(x, h)
    expected, last = reference(x, h[None])
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(state, last[0])
    assert state.shape == (3, *layer.state_size)


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
    torch.testing.assert_close(y, torch.stack(expected, dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, state, atol=1e-5, rtol=1e-5)


def test_the_gru_has_the_parameters_it_says():
    assert sum(p.numel() for p in GRU(5, 7).parameters()) == 3 * (7 * 5 + 7**2 + 2 * 7)


def test_the_recurrent_weights_begin_orthogonal():
    for gate in GRU(5, 7).gru.weight_hh_l0.split(7):
        torch.testing.assert_close(gate @ gate.T, torch.eye(7), atol=1e-5, rtol=0)


@given(lengths=CHUNKS)
@settings(max_examples=25, deadline=None)
def test_the_gru_in_chunks_is_the_gru_of_the_whole(lengths):
    layer = GRU(5, 7)
    x, state = torch.randn(2, sum(lengths), 5), torch.zeros(2, 7)
    whole, last = layer(x, state)
    parts = []
    for chunk in x.split(lengths, dim=1):
        y, state = layer(chunk, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-5)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[CausalConv2d, int]:
    """A convolution with trained-like statistics, in evaluation mode; and its bands."""
    stride = draw(st.integers(1, 2))
    kernel = draw(st.integers(stride, 5))
    bands = draw(st.integers(1, 12))
    groups = draw(st.sampled_from([1, 2]))
    conv = CausalConv2d(
        *(2, 4, bands, kernel),
        band_kernel=draw(st.sampled_from([1, 3, 5])),
        stride=stride,
        band_stride=draw(st.integers(1, 2)),
        groups=groups,
    )
    conv.norm.running_mean.normal_()
    conv.norm.running_var.uniform_(0.5, 2)
    return conv.eval(), bands


def zero_state(conv: CausalConv2d, batch: int = 2) -> Tensor:
    return torch.zeros(batch, *conv.state_size)


@given(case=convolutions(), lengths=CHUNKS)
@settings(max_examples=40, deadline=None)
def test_a_convolution_in_chunks_is_that_of_the_whole(case, lengths):
    conv, bands = case
    frames = [length * conv.stride for length in lengths]
    x = torch.randn(2, 2, sum(frames), bands)
    whole, last = conv(x, zero_state(conv))
    state, parts = zero_state(conv), []
    for chunk in x.split(frames, dim=2):
        y, state = conv(chunk, state)
        assert y.shape[2] == chunk.shape[2] // conv.stride
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, last)


@given(case=convolutions(), steps=st.integers(1, 8), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_convolution_sees_no_later_frame(case, steps, data):
    """Output t ends with frame stride * (t + 1) - 1, and does look at that one."""
    conv, bands = case
    t = data.draw(st.integers(0, steps - 1))
    x = torch.randn(1, 2, steps * conv.stride, bands, requires_grad=True)
    y, _ = conv(x, zero_state(conv, 1))
    (gradient,) = torch.autograd.grad(y[:, :, t].sum(), x)
    last = conv.stride * (t + 1) - 1
    assert not gradient[:, :, last + 1 :].any()
    if y[:, :, t].any():
        assert gradient[:, :, : last + 1].any()


def test_a_convolution_looks_at_its_newest_and_its_oldest_frame():
    """Output t sees the five frames that end with frame 2 t + 1."""
    conv = CausalConv2d(2, 4, 6, kernel=5, stride=2).eval()
    x = torch.randn(1, 2, 12, 6)
    before, _ = conv(x, zero_state(conv, 1))
    for frame, outputs in ((7, [3, 4, 5]), (0, [0, 1])):
        changed = x.clone()
        changed[:, :, frame] += 10
        after, _ = conv(changed, zero_state(conv, 1))
        differs = (after - before).abs().amax(dim=(0, 1, 3)) > 0
        # Frame 7 is the newest of output 3, and is still in the five frames of output 4 and 5.
        assert differs.nonzero().flatten().tolist() == outputs


def test_a_convolution_is_that_of_torch_on_the_padded_whole():
    conv = CausalConv2d(2, 4, 9, kernel=5, band_kernel=3, stride=2, band_stride=2).eval()
    x = torch.randn(2, 2, 10, 9)
    y, state = conv(x, zero_state(conv))
    padded = nn.functional.pad(x, (0, 0, 3, 0))  # kernel - stride frames of silence before
    expected = nn.functional.conv2d(padded, conv.conv.weight, stride=2, padding=(0, 1))
    torch.testing.assert_close(y, conv.norm(expected).relu(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, x[:, :, -3:])
