"""Models on disk: safetensors and ONNX files with one header, and the models in the package."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechgru.modelfile.safetensors import load_model as load_model
    from speechgru.modelfile.safetensors import save_model as save_model


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is used: exported models run without it."""
    if name in ("load_model", "save_model"):
        from speechgru.modelfile import safetensors

        return getattr(safetensors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
