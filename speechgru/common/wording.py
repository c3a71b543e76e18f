"""Parts of messages: a hint at the nearest name, a number of things, a value of any length."""

from collections.abc import Iterable
from difflib import get_close_matches

_MAX_SHOWN = 60


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to put behind an unknown name; empty where no known one is near.

    >>> did_you_mean("epoch", ["epochs", "batch_size"])
    " (did you mean 'epochs'?)"
    """
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "clip"), counted(2000, "clip")
    ('1 clip', '2,000 clips')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown(value: object) -> str:
    """A value as Python writes it, in one line of at most 60 characters.

    >>> shown("turn\\nleft")
    "'turn\\\\nleft'"
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of 5,000 digits; lists in lists in lists
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
