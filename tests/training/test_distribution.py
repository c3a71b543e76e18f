"""Real processes: what they exchange, shared batch normalization, and shared random numbers."""

import os
import time

import pytest
import torch
from together import together
from torch import nn

from speechgru.errors import UsageError
from speechgru.training.augmentation import (
    AugmentConfig,
    augment_samples,
    mask_features,
    uniform,
)
from speechgru.training.distribution import (
    ALONE,
    LostProcessError,
    Ranks,
    RowGenerator,
    SharedBatchNorm,
    process_group,
    random_rows,
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
        "gathered": ranks.gather(mine).tolist(),
        "means": [gradient.tolist() for gradient in gradients],
        "gradient": x.grad.item(),
        "broadcast": list(ranks.broadcast(ranks.rank + 0.5, 7)),
        "first": ranks.is_first,
    }


def test_exchange_between_processes(tmp_path):
    answers = together(exchange, 3, tmp_path)
    assert [a["rows"] for a in answers] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9, 10, 11]]]
    assert [a["first"] for a in answers] == [True, False, False]
    for answer in answers:
        assert answer["gathered"] == [[0.0] * 3] * 2 + [[1.0] * 3] * 2 + [[2.0] * 3] * 2
        assert answer["means"] == [[1.0] * 2, [[10.0]] * 3]
        # The mean of the processes' gradients: (1 + 2 + 3) / 3.
        assert answer["gradient"] == pytest.approx(2)
        assert answer["broadcast"] == [0.5, 7]


def test_single_process_exchanges_nothing():
    x = torch.ones(2)
    assert ALONE.gather(x) is x
    assert ALONE.mean(x) is x
    ALONE.mean_([x])
    assert ALONE.broadcast(3, 4) == (3, 4)
    assert list(range(5))[ALONE.share(5)] == list(range(5))
    with process_group(torch.device("cpu")) as ranks:
        assert ranks is ALONE


def test_incomplete_environment_is_an_error(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = pytest.raises(UsageError, match=r"does not say where the processes meet: .*RANK")
    with error, process_group(torch.device("cpu")):
        raise AssertionError


def lose(ranks: Ranks) -> str:
    if ranks.rank == 1:
        os._exit(0)
    time.sleep(0.2)
    try:
        ranks.mean_([torch.ones(1)])
    except LostProcessError as error:
        return str(error)
    return "no error"


def test_lost_process_is_noticed(tmp_path):
    torch.save(None, tmp_path / "answer1")  # it ends without an answer
    answers = together(lose, 2, tmp_path)
    assert answers[0].startswith("another process of this run has ended")


# Batch normalisation.


def normalize(norm: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> dict:
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(gradient)
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


def normalize_a_share(ranks: Ranks, kind: type[nn.Module]) -> dict:
    norm, x, gradient = inputs(kind)
    holder = nn.Sequential(norm)
    share_layers(holder, ranks)
    assert isinstance(holder[0], SharedBatchNorm)
    rows = ranks.share(len(x))
    return normalize(holder[0], x[rows], gradient[rows])


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.BatchNorm1d])
def test_shared_batch_norm_equals_batch_norm_of_the_whole(tmp_path, kind):
    whole = normalize(*inputs(kind))
    parts = together(normalize_a_share, 2, tmp_path, kind)
    torch.testing.assert_close(torch.cat([p["y"] for p in parts]), whole["y"])
    # Each part's gradient is of the sum of all parts' losses.
    torch.testing.assert_close(torch.cat([p["x"] for p in parts]), whole["x"], atol=1e-5, rtol=0)
    for i, gradient in enumerate(whole["parameters"]):
        total = sum(p["parameters"][i] for p in parts)
        torch.testing.assert_close(total, gradient, atol=1e-5, rtol=0)
    for name, value in whole["state"].items():
        for part in parts:
            torch.testing.assert_close(part["state"][name], value)


def test_shared_batch_norm_in_evaluation_is_torchs():
    norm, x, _ = inputs(nn.BatchNorm2d)
    shared = SharedBatchNorm(norm, Ranks(0, 2)).eval()
    assert torch.equal(shared(x), norm.eval()(x))


def test_layers_are_not_replaced_in_a_single_process():
    model = nn.Sequential(nn.BatchNorm2d(3))
    share_layers(model, ALONE)
    assert type(model[0]) is nn.BatchNorm2d


# Random numbers.


def draw(rows: int, generator: torch.Generator) -> list[torch.Tensor]:
    like = torch.zeros(rows, 300)
    bank = torch.randn(1_000, generator=torch.Generator().manual_seed(9))
    config = AugmentConfig(time_mask_ms=40)
    return [
        uniform((rows,), 2, 3, like, generator),
        random_rows(torch.randn, (rows, 2, 2), generator, like.device),
        augment_samples(like + 0.1, bank, config, generator),
        mask_features(torch.ones(rows, 30, 20), config, 10.0, generator),
    ]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_shares_of_random_rows_add_up_to_the_whole(parts):
    whole = draw(12, torch.Generator().manual_seed(3))
    generators = [RowGenerator("cpu", part, parts) for part in range(parts)]
    drawn = [draw(12 // parts, generator.manual_seed(3)) for generator in generators]
    for numbers, *shares in zip(whole, *drawn, strict=True):
        assert torch.equal(torch.cat(shares), numbers)
    # They advance alike, so that a checkpoint needs the state of one.
    states = [generator.get_state() for generator in generators]
    assert all(torch.equal(state, states[0]) for state in states)


def test_row_generator_has_the_state_of_torchs_generator():
    generator, plain = RowGenerator().manual_seed(5), torch.Generator().manual_seed(5)
    assert isinstance(generator, RowGenerator)
    assert torch.equal(generator.get_state(), plain.get_state())
