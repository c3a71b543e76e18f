"""Settings that a model's file may hold: strict, and told of in one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from speechgru.errors import DataError


class Settings(BaseModel):
    """Frozen and strict: an unknown name, or a value out of range, is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Any, source: str) -> Self:
        """Settings from a model's metadata.

        Raises:
            DataError: no table, a name unknown or a value out of range; it begins with `source`.
        """
        if not isinstance(values, Mapping):
            raise DataError(f"{source}: {values!r}: a table of settings is needed")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"{source}: {place_of(first['loc'])} {first['input']!r}: {first['msg']}"
            ) from error


def place_of(location: Sequence[str | int]) -> str:
    """Where pydantic found a problem, in a line: names as they are, others as Python writes them.

    >>> place_of(("thresholds", "turn\\nleft"))
    "thresholds.'turn\\\\nleft'"
    """
    parts = (str(part) for part in location)
    return ".".join(part if part.isprintable() and part else repr(part) for part in parts)
