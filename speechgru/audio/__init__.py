"""Sound in: files, pipes, streams and microphones to mono float32 at the model's rate."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechgru.audio.files import read as read
    from speechgru.audio.samples import loudest_start as loudest_start

_MODULES = {"read": "files", "loudest_start": "samples"}


def __getattr__(name: str) -> Any:
    """Import what reads files when it is used: a level meter decodes no audio."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"speechgru.audio.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
