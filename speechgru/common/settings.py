"""Strict settings, and the one place that puts pydantic's errors into words."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from speechgru.common.wording import did_you_mean, listed, shown
from speechgru.errors import DataError

_TABLE_NEEDED = "a table of settings is needed"
#: By how pydantic's message begins, where it is in words of Python (and not of JSON).
_NEEDED = {
    "Input should be a valid dictionary or instance": _TABLE_NEEDED,
    "Input should be a valid dictionary": "a table is needed",
    "Input should be a valid tuple": "a list is needed",
    "Input should be a valid list": "a list is needed",
}
_NUMBERS = (int, float, int | None, float | None)


class Settings(BaseModel):
    """Frozen and strict: an unknown name, or a value out of range, is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true, false and texts where a number is needed, and numbers for true or false."""
        needed = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and needed in _NUMBERS:
            raise ValueError(f"{str(value).lower()}: a number is needed")
        if isinstance(value, str) and needed in _NUMBERS and _is_number(value):
            raise ValueError(f"{shown(value)}: a number is needed, without quotes")
        if needed is bool and not isinstance(value, bool):
            raise ValueError(f"{shown(value)}: true or false is needed")
        return value

    @classmethod
    def parse(cls, values: Any, source: str) -> Self:
        """Settings from a model's metadata.

        Raises:
            DataError: no table, an unknown name or a value out of range; it begins with `source`.
        """
        if not isinstance(values, Mapping):
            raise DataError(f"{source}: {shown(values)}: {_TABLE_NEEDED}")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise DataError(f"{source}: {describe(error, cls)}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem that pydantic found with data for `model`, as a part of a sentence.

    It names the key, the value, and what is allowed; of an unknown key, the nearest known one.

    >>> class Point(Settings):
    ...     x: int
    >>> try:
    ...     Point.model_validate({"x": "one"})
    ... except ValidationError as error:
    ...     describe(error, Point)
    "x = 'one': input should be a valid integer, unable to parse string as an integer"
    """
    problem = error.errors(include_url=False)[0]
    location = problem["loc"]
    key = ".".join(map(_key, location))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        last, name = str(location[-1]), shown(".".join(map(str, location)))
        these = f"; known: {listed(last, known)}" if known else ""
        return f"unknown key {name}{did_you_mean(last, known)}{these}"
    if problem["type"] == "json_invalid":
        return message
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":  # of a validator, whose message names the value
        return f"{key}: {message}" if key else message
    where = f"{key} = {shown(problem['input'])}" if key else shown(problem["input"])
    needed = (sentence for start, sentence in _NEEDED.items() if message.startswith(start))
    return f"{where}: {next(needed, message[:1].lower() + message[1:])}"


def _key(part: str | int) -> str:
    text = str(part)
    return text if text.isprintable() and 0 < len(text) <= 60 else shown(part)


def _known_keys(model: type[BaseModel], section: Sequence[str | int]) -> list[str]:
    """The keys of a section; none where it is no plain section of the model."""
    for part in section:
        field = model.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
