"""The model that the package brings: `models/commands-12.onnx`, with its card beside it."""

from pathlib import Path

from speechgru.errors import UsageError

MODEL = Path(__file__).parent / "models" / "commands-12.onnx"


def bundled_model() -> Path:
    """Its file.

    Raises:
        UsageError: this package was built without it.
    """
    if not MODEL.is_file():
        raise UsageError(
            "MODEL is missing: this package has no model of its own, so a trained model's file is "
            "needed; `speechgru demo` makes one"
        )
    return MODEL
