"""The streaming convolution against torch and against its geometry; whole and in chunks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from speechgru.model.fronts import CausalConv2d

pytestmark = pytest.mark.usefixtures("seeded")

CHUNKS = st.lists(st.integers(1, 6), min_size=1, max_size=8)


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
def test_a_convolution_in_chunks_equals_the_whole(case, lengths):
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


def test_a_convolution_sees_its_newest_and_its_oldest_frame():
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


def test_a_convolution_equals_torchs_on_the_padded_whole():
    conv = CausalConv2d(2, 4, 9, kernel=5, band_kernel=3, stride=2, band_stride=2).eval()
    x = torch.randn(2, 2, 10, 9)
    y, state = conv(x, zero_state(conv))
    padded = nn.functional.pad(x, (0, 0, 3, 0))  # kernel - stride frames of silence before
    expected = nn.functional.conv2d(padded, conv.conv.weight, stride=2, padding=(0, 1))
    torch.testing.assert_close(y, conv.norm(expected).relu(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, x[:, :, -3:])
