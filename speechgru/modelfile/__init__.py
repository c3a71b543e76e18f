"""Models on disk: one header in safetensors and ONNX files, and the bundled models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechgru.modelfile.safetensors import load_model as load_model
    from speechgru.modelfile.safetensors import save_model as save_model


def __getattr__(name: str) -> Any:
    """What needs torch, imported when it is asked for: an exported model runs without."""
    if name in ("load_model", "save_model"):
        from speechgru.modelfile import safetensors

        return getattr(safetensors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
