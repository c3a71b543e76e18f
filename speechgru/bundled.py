"""The model that the package brings, with its card: `models/commands-12`.

Its two files are one network. The `.onnx` listens; the `.safetensors` is what was trained, for
recipes to begin with.
"""

from pathlib import Path

from speechgru.errors import UsageError

_MODELS = Path(__file__).parent / "models"
MODEL = _MODELS / "commands-12.onnx"


def bundled_model() -> Path:
    """The file that listens.

    Raises:
        UsageError: this package was built without it.
    """
    if not MODEL.is_file():
        raise UsageError(
            "MODEL is missing: this package has no model of its own, so a trained model's file is "
            "needed; `speechgru demo` makes one"
        )
    return MODEL


def trained_model(name: str) -> Path:
    """A model's weights, by path or by the name of one that ships with the package.

    Raises:
        UsageError: it is not a path, and no such model ships.
    """
    shipped = {path.stem: path for path in _MODELS.glob("*.safetensors")}
    if name in shipped:
        return shipped[name]
    if name.endswith(".safetensors") or Path(name).exists():
        return Path(name)
    ships = f"; {', '.join(shipped)} ships with the package" if shipped else ""
    raise UsageError(f"model {name!r}: no such file{ships}")
