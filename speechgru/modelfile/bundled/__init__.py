"""The model that ships with the package, and its card: `commands-12`.

Its two files are one network. The `.onnx` listens; the `.safetensors` is what was trained, for
recipes to begin with.
"""

from pathlib import Path

from speechgru.errors import UsageError

_MODELS = Path(__file__).parent
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
    if is_shipped(name):
        return _MODELS / f"{name}.safetensors"
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" or path.exists():
        return path
    ships = f"; {', '.join(_shipped())} ships with the package" if _shipped() else ""
    raise UsageError(f"model {name!r}: no such file{ships}")


def is_shipped(name: str) -> bool:
    """Whether it is the name of a model whose weights ship, rather than a path."""
    return name in _shipped()


def _shipped() -> list[str]:
    return sorted(path.stem for path in _MODELS.glob("*.safetensors"))
