"""The GRU that trains on a processor, against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from speechgru.analysis.dataloader_baseline import torch_gru
from speechgru.model.cells import GRU
from speechgru.model.cells.gru_loop import gru_sequence

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture(params=[1, 2, 3])
def cores(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


def weights(layer: nn.GRU) -> list[Tensor]:
    return [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 7), (64, 50), (37, 20)])
def test_outputs_and_gradients_equal_torchs(cores, batch, steps):
    layer = nn.GRU(6, 9, batch_first=True)
    x = torch.randn(batch, steps, 6, requires_grad=True)
    first = torch.randn(batch, 9, requires_grad=True)
    wanted, wanted_last = layer(x, first[None])
    y, last = gru_sequence(x, first, *weights(layer))
    torch.testing.assert_close(y, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(last, wanted_last[0], atol=1e-6, rtol=0)
    inputs = [x, first, *weights(layer)]
    pull, pull_last = torch.randn_like(y), torch.randn_like(last)
    of_torch = torch.autograd.grad([wanted, wanted_last[0]], inputs, [pull, pull_last])
    ours = torch.autograd.grad([y, last], inputs, [pull, pull_last])
    for one, other in zip(ours, of_torch, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6 * other.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (64, 50), (37, 20)])
def test_autocast_shortens_only_the_products(cores, batch, steps):
    """A product of bfloat16 is good to 2^-9; a state that were as short would drift by more."""
    layer = nn.GRU(6, 9, batch_first=True)
    x = torch.randn(batch, steps, 6, requires_grad=True)
    first = torch.randn(batch, 9, requires_grad=True)
    inputs = [x, first, *weights(layer)]
    whole = gru_sequence(x, first, *weights(layer))
    with torch.autocast("cpu", torch.bfloat16):
        short = gru_sequence(x, first, *weights(layer))
    assert not torch.equal(short[0], whole[0])
    for one, other in zip(short, whole, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=0.01, rtol=0)
    pull = [torch.randn_like(one) for one in whole]
    wanted = torch.autograd.grad(whole, inputs, pull)
    for one, other in zip(torch.autograd.grad(short, inputs, pull), wanted, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def test_gradients_equal_finite_differences():
    layer = nn.GRU(3, 4, batch_first=True).double()
    x = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    first = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(gru_sequence, (x, first, *weights(layer)))


@pytest.mark.parametrize("used", [0, 1])
def test_either_output_may_be_unused(used):
    """As the last state does, where no stream goes on."""
    layer = nn.GRU(3, 4, batch_first=True)
    x, first = torch.randn(2, 5, 3, requires_grad=True), torch.zeros(2, 4)
    ours = gru_sequence(x, first, *weights(layer))[used].square().sum()
    theirs = layer(x, first[None])[used].square().sum()
    for one, other in zip(
        torch.autograd.grad(ours, [x, *weights(layer)]),
        torch.autograd.grad(theirs, [x, *weights(layer)]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_layer_gives_the_same_in_training_and_evaluation():
    layer = GRU(5, 7)
    x, state = torch.randn(4, 9, 5), torch.randn(4, 7)
    for trained, evaluated in zip(layer.train()(x, state), layer.eval()(x, state), strict=True):
        torch.testing.assert_close(trained, evaluated, atol=1e-6, rtol=0)


def test_the_loop_is_used_only_in_training(monkeypatch):
    """A graph is exported from torch's own layer."""
    taken = []
    monkeypatch.setattr(
        "speechgru.model.cells.gru.gru_sequence",
        lambda x, state, *_: (taken.append(1), (x, state))[1],
    )
    layer = GRU(5, 5)
    layer.eval()(torch.zeros(1, 2, 5), torch.zeros(1, 5))
    assert not taken
    with torch_gru():
        layer.train()(torch.zeros(1, 2, 5), torch.zeros(1, 5))
    assert not taken
    layer.train()(torch.zeros(1, 2, 5), torch.zeros(1, 5))
    assert taken


def test_gradients_are_reproducible_to_the_bit(cores):
    layer = GRU(6, 9).train()
    x, state = torch.randn(40, 12, 6), torch.zeros(40, 9)
    runs = []
    for _ in range(5):
        y, _ = layer(x, state)
        runs.append(torch.autograd.grad(y.square().sum(), layer.parameters()))
    for run in runs[1:]:
        assert all(map(torch.equal, run, runs[0]))
