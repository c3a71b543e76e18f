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


def find_model(name: str | Path, trained: bool = False) -> Path:
    """A model's file: by path, by the name of one that ships, or by the run that it came from.

    What is none of these is given back as it is, for whoever opens it to say so.

    Args:
        trained: of a shipped model the weights (.safetensors), not the form that listens (.onnx).
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if is_shipped(str(name)):
        return _MODELS / f"{name}.{'safetensors' if trained else 'onnx'}"
    best = path / "model.safetensors"
    return best if best.is_file() else path


def trained_model(name: str) -> Path:
    """A model's weights, by path or by the name of one that ships with the package.

    Raises:
        UsageError: it is not a path, and no such model ships.
    """
    path = find_model(name, trained=True)
    if path.suffix == ".safetensors" or path.exists():
        return path
    ships = f"; {', '.join(shipped_models())} ships with the package" if shipped_models() else ""
    raise UsageError(f"model {name!r}: no such file{ships}")


def is_shipped(name: str) -> bool:
    """Whether it is the name of a model whose weights ship, rather than a path."""
    return name in shipped_models()


def is_bundled(path: Path) -> bool:
    """Whether a file is one of the package's own models."""
    return path.absolute().parent == _MODELS.absolute()


def shipped_models() -> list[str]:
    """The names of the models in the package."""
    return sorted(path.stem for path in _MODELS.glob("*.safetensors"))
