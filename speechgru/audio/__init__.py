"""Sound in: files, PCM, microphones and streams to mono float32 at the model's rate."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechgru.audio.files import loudest_start as loudest_start
    from speechgru.audio.files import read as read


def __getattr__(name: str) -> Any:
    """What reads files, imported when it is asked for: a level meter does not decode audio."""
    if name in ("read", "loudest_start"):
        from speechgru.audio import files

        return getattr(files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
