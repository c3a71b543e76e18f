"""The models in the package, `commands-12` and `commands-12-small`, and their card; finds models.

The two files of each are the same network. Listening uses the `.onnx` file; the `.safetensors` file
has the trained weights, from which recipes can start.
"""

from pathlib import Path
from shlex import quote

from speechgru.errors import UsageError

_MODELS = Path(__file__).parent
MODEL = _MODELS / "commands-12.onnx"


def bundled_model() -> Path:
    """The file that commands use where no model is named: `commands-12`, for listening.

    Raises:
        UsageError: this package was built without a model.
    """
    if not MODEL.is_file():
        raise UsageError(
            "MODEL is missing: this package was built without a model, so the file of a trained "
            "model is needed; `speechgru demo` trains one"
        )
    return MODEL


def find_model(name: str | Path, trained: bool = False) -> Path:
    """Find a model's file by path, by the name of a model in the package, or by run directory.

    Any other path is returned as it is; opening it will fail with a message.

    Args:
        trained: for a model in the package, the weights (.safetensors) instead of the .onnx file.

    Raises:
        UsageError: the name is empty.
    """
    if not str(name):
        raise UsageError("the model's name is empty")
    path = Path(name).expanduser()
    best = path / "model.safetensors"
    try:
        if path.is_file():
            return path
        if is_bundled_name(str(name)):
            return _MODELS / f"{name}.{'safetensors' if trained else 'onnx'}"
        return best if best.is_file() else path
    except OSError:  # the name is too long
        return path


def why_no_model(folder: Path) -> str:
    """What to say of a directory in which `find_model` found no model."""
    if (folder / "recipe.toml").is_file():
        return (
            f"{folder}: the run has no model yet, as it has not been validated; go on with: "
            f"speechgru train --resume {quote(str(folder))}"
        )
    near = sorted(path.parent for path in folder.glob("*/model.safetensors"))
    hint = f" (did you mean {near[-1]}?)" if near else ""
    return (
        f"{folder}: is a directory without a model{hint}; a run directory or a model (.onnx or "
        ".safetensors) is needed"
    )


def trained_model(name: str) -> Path:
    """Find trained weights by path, by the name of a model in the package, or by run directory.

    Raises:
        UsageError: there is no such file, and no such model in the package.
    """
    path = find_model(name, trained=True)
    if path.suffix == ".safetensors" or path.exists():
        return path
    known = f"; the package has {', '.join(bundled_models())}" if bundled_models() else ""
    raise UsageError(f"model {name!r}: no such file{known}")


def is_bundled_name(name: str) -> bool:
    """Whether this is the name of a model in the package."""
    return name in bundled_models()


def is_bundled(path: Path) -> bool:
    """Whether a file is one of the package's own models, or a link to one."""
    return path.resolve().parent == _MODELS.resolve()


def bundled_models() -> list[str]:
    """The names of the models in the package."""
    return sorted(path.stem for path in _MODELS.glob("*.safetensors"))
