"""Several processes that draw random numbers for the rows they have."""

import pytest
import torch

from speechgru.training.augmentation import AugmentConfig, augment_samples, mask_features, uniform
from speechgru.training.distribution import RowGenerator, random_rows


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
def test_the_parts_are_what_one_draws_for_all(parts):
    whole = draw(12, torch.Generator().manual_seed(3))
    generators = [RowGenerator("cpu", part, parts) for part in range(parts)]
    drawn = [draw(12 // parts, generator.manual_seed(3)) for generator in generators]
    for numbers, *shares in zip(whole, *drawn, strict=True):
        assert torch.equal(torch.cat(shares), numbers)
    # They also go on alike, so that a checkpoint needs the state of one.
    states = [generator.get_state() for generator in generators]
    assert all(torch.equal(state, states[0]) for state in states)


def test_its_state_is_that_of_torchs_own():
    generator, plain = RowGenerator().manual_seed(5), torch.Generator().manual_seed(5)
    assert isinstance(generator, RowGenerator)
    assert torch.equal(generator.get_state(), plain.get_state())
