"""Random numbers for the rows of a batch that several processes share."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor


class RowGenerator(torch.Generator):
    """A generator of random numbers, of which part number `part` of `parts` is one's own.

    Generators of one seed that differ in `part` alone agree on every row of a batch, and go on
    alike: N processes that each have a part of the rows draw what one process draws for all.
    """

    part: int
    parts: int

    def __new__(cls, device: torch.device | str = "cpu", part: int = 0, parts: int = 1) -> Self:
        """`torch.Generator` takes its device here, not in `__init__`."""
        self: Self = super().__new__(cls, device)  # type: ignore[call-arg]
        self.part, self.parts = part, parts
        return self


def random_rows(
    draw: Callable[..., Tensor],
    size: tuple[int, ...],
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Numbers by `torch.rand` or its like, of which the first axis of `size` is own rows."""
    options = {"generator": generator, "device": device}
    if not isinstance(generator, RowGenerator) or generator.parts == 1:
        return draw(size, **options)
    rows = size[0]
    whole = draw((rows * generator.parts, *size[1:]), **options)
    return whole[rows * generator.part : rows * (generator.part + 1)]
