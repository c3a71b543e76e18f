"""Several processes, for real: what they exchange, and a batch normalisation of all their parts."""

import os
import time

import pytest
import torch
from together import together
from torch import nn

from speechgru.errors import UsageError
from speechgru.training.distribution import (
    ALONE,
    LostProcessError,
    Ranks,
    SharedBatchNorm,
    process_group,
    share_layers,
)


def exchange(ranks: Ranks) -> dict:
    mine = torch.full((2, 3), float(ranks.rank))
    gradients = [torch.full((2,), float(ranks.rank)), torch.full((3, 1), 10.0 * ranks.rank)]
    ranks.mean_(gradients)
    x = torch.tensor([1.0 + ranks.rank], requires_grad=True)
    ((1 + ranks.rank) * ranks.mean(x)).sum().backward()
    return {
        "rows": [list(range(12))[ranks.share(12)]],
        "joined": ranks.gather(mine).tolist(),
        "means": [gradient.tolist() for gradient in gradients],
        "gradient": x.grad.item(),
        "told": list(ranks.broadcast(ranks.rank + 0.5, 7)),
        "first": ranks.is_first,
    }


def test_what_processes_exchange(tmp_path):
    answers = together(exchange, 3, tmp_path)
    assert [a["rows"] for a in answers] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9, 10, 11]]]
    assert [a["first"] for a in answers] == [True, False, False]
    for answer in answers:
        assert answer["joined"] == [[0.0] * 3] * 2 + [[1.0] * 3] * 2 + [[2.0] * 3] * 2
        assert answer["means"] == [[1.0] * 2, [[10.0]] * 3]
        # Every process pulls at the mean: (1 + 2 + 3) / 3.
        assert answer["gradient"] == pytest.approx(2)
        assert answer["told"] == [0.5, 7]


def test_a_process_alone_exchanges_nothing():
    x = torch.ones(2)
    assert ALONE.gather(x) is x
    assert ALONE.mean(x) is x
    ALONE.mean_([x])
    assert ALONE.broadcast(3, 4) == (3, 4)
    assert list(range(5))[ALONE.share(5)] == list(range(5))
    with process_group(torch.device("cpu")) as ranks:
        assert ranks is ALONE


def test_an_environment_that_says_too_little_is_told(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    wanted = pytest.raises(UsageError, match=r"does not say where the processes meet: .*RANK")
    with wanted, process_group(torch.device("cpu")):
        pass


def lose(ranks: Ranks) -> str:
    if ranks.rank == 1:
        os._exit(0)
    time.sleep(0.2)
    try:
        ranks.mean_([torch.ones(1)])
    except LostProcessError as error:
        return str(error)
    return "nothing was noticed"


def test_a_process_that_is_gone_is_noticed(tmp_path):
    torch.save(None, tmp_path / "answer1")  # it leaves without an answer
    answers = together(lose, 2, tmp_path)
    assert answers[0].startswith("another process of this run has ended")


# Batch normalisation.


def normalise(norm: nn.Module, x: torch.Tensor, pull: torch.Tensor) -> dict:
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(pull)
    return {
        "y": y.detach(),
        "x": x.grad,
        "parameters": [p.grad for p in norm.parameters()],
        "state": norm.state_dict(),
    }


def inputs(kind: type[nn.Module]) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    norm = kind(3)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    shape = (8, 3, 5, 4) if kind is nn.BatchNorm2d else (8, 3)
    return norm, 4 + 2 * torch.randn(shape), torch.randn(shape)


def normalise_a_part(ranks: Ranks, kind: type[nn.Module]) -> dict:
    norm, x, pull = inputs(kind)
    holder = nn.Sequential(norm)
    share_layers(holder, ranks)
    assert isinstance(holder[0], SharedBatchNorm)
    rows = ranks.share(len(x))
    return normalise(holder[0], x[rows], pull[rows])


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.BatchNorm1d])
def test_the_parts_of_a_batch_are_normalised_as_the_whole(tmp_path, kind):
    whole = normalise(*inputs(kind))
    parts = together(normalise_a_part, 2, tmp_path, kind)
    torch.testing.assert_close(torch.cat([p["y"] for p in parts]), whole["y"])
    # Each part's gradient is of the sum of all parts' losses.
    torch.testing.assert_close(torch.cat([p["x"] for p in parts]), whole["x"], atol=1e-5, rtol=0)
    for i, gradient in enumerate(whole["parameters"]):
        total = sum(p["parameters"][i] for p in parts)
        torch.testing.assert_close(total, gradient, atol=1e-5, rtol=0)
    for name, value in whole["state"].items():
        for part in parts:
            torch.testing.assert_close(part["state"][name], value)


def test_out_of_training_it_is_torchs_own():
    norm, x, _ = inputs(nn.BatchNorm2d)
    shared = SharedBatchNorm(norm, Ranks(0, 2)).eval()
    assert torch.equal(shared(x), norm.eval()(x))


def test_alone_a_model_is_left_as_it_is():
    model = nn.Sequential(nn.BatchNorm2d(3))
    share_layers(model, ALONE)
    assert type(model[0]) is nn.BatchNorm2d
