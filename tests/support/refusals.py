"""That every command refuses a file, and says the same."""

from pathlib import Path

import pytest

from speechgru.backends.onnx import load_onnx
from speechgru.cli import main
from speechgru.errors import DataError


def refused(path: Path, capsys) -> str:
    """The message of every command about a file, which all of them must refuse."""
    with pytest.raises(DataError) as caught:
        load_onnx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    wav = str(path.parent / "none.wav")
    for command in (["info"], ["recognize", wav], ["verify", wav], ["evaluate", "--data", "."]):
        assert main([command[0], str(path), *command[1:]]) == 4
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.replace("\n", "") == f"error: {message}"
    return message.removeprefix(f"{path}: ")
