"""What is wrong with settings is named: the key, the value, and what is allowed."""

import json

import pytest
from pydantic import Field, ValidationError, model_validator

from speechgru.common.settings import Settings, describe
from speechgru.errors import DataError


class Window(Settings):
    first: int = Field(1, ge=0)
    last: int = Field(2, le=9)

    @model_validator(mode="after")
    def _check(self) -> "Window":
        if self.first > self.last:
            raise ValueError(f"first {self.first} is after last {self.last}")
        return self


class Plan(Settings):
    name: str
    window: Window = Window()
    levels: tuple[float, ...] = ()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "name is missing"),
        ({"name": "a", "window": {"lst": 3}}, "unknown key 'window.lst' (did you mean 'last'?); "),
        ({"name": "a", "zzz": 3}, "unknown key 'zzz'; known: name, window, levels"),
        ({"name": "a", "window": {"last": 10}}, "window.last = 10: input should be less than or"),
        ({"name": "a", "window": {"first": 5}}, "window: first 5 is after last 2"),
        ({"name": "a", "levels": [1, "loud"]}, "levels.1 = 'loud': input should be a valid number"),
        ({"name": "a", "levels": [float("nan")]}, "levels.0 = nan: input should be a finite"),
        ({"name": "a", "window": {"last": True}}, "window.last: true: a number is needed"),
        ({"name": "a", "turn\nleft": 1}, r"unknown key "),
    ],
)
def test_the_first_problem_is_named(values, said):
    with pytest.raises(DataError) as raised:
        Plan.parse(values, "model.onnx")
    assert str(raised.value).startswith(f"model.onnx: {said}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("values", [None, 3, "text", ["name"]])
def test_settings_must_be_a_table(values):
    with pytest.raises(DataError, match=r"^model\.onnx: .*: a table of settings is needed"):
        Plan.parse(values, "model.onnx")


def test_messages_stay_short():
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    for value in ("x" * 10_000, 10**5_000, deep, {"k" * 5_000: 1}):
        for values in ({"name": [value]}, {"name": "a", "window": value}, {"k" * 9_000: value}):
            with pytest.raises(DataError) as raised:
                Plan.parse(values, "model.onnx")
            assert len(str(raised.value)) < 300


def test_json_that_is_none_is_described():
    with pytest.raises(ValidationError) as raised:
        Plan.model_validate_json(json.dumps({"name": "a"})[:-3])
    assert describe(raised.value, Plan).startswith("Invalid JSON: EOF")
