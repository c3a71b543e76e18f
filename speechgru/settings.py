"""Settings that a model's file may hold: strict, and told of in one sentence."""

from collections.abc import Mapping
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
            name = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{source}: {name} {first['input']!r}: {first['msg']}") from error
