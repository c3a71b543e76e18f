"""Parts of messages: a hint at the nearest name, a number of things, a value of any length."""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches

_MAX_SHOWN = 60
#: Letters in a list of names.
_MAX_LISTED = 160


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to put behind an unknown name; empty where no known one is near.

    >>> did_you_mean("epoch", ["epochs", "batch_size"])
    " (did you mean 'epochs'?)"
    >>> did_you_mean("steps_at_least", ["refine_steps", "least_steps"])
    " (did you mean 'least_steps'?)"
    """
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        near = [other for other in known if _shared_words(name, other) >= 0.5][:1]
    return f" (did you mean {near[0]!r}?)" if near else ""


def _shared_words(name: str, other: str) -> float:
    """The share of the parts of two names that both have, in any order."""
    parts, others = (set(re.findall(r"[^\W_]+", text)) for text in (name, other))
    return len(parts & others) / max(1, len(parts | others))


def listed(name: str, known: Sequence[str]) -> str:
    """Known names, of many those that look most like `name`, in about two lines.

    >>> listed("size", ["epochs", "batch_size"])
    'epochs, batch_size'
    """
    likeness = SequenceMatcher(b=name)

    def unlike(other: str) -> float:
        likeness.set_seq1(other)
        return -likeness.ratio()

    chosen, length = set[str](), 0
    for other in sorted(known, key=unlike):
        length += len(other) + 2
        if length > _MAX_LISTED:
            break
        chosen.add(other)
    more = len(known) - len(chosen)
    return ", ".join(other for other in known if other in chosen) + (
        f", {more} more" if more else ""
    )


def first_of(names: Sequence[str], most: int = 12) -> str:
    """The first of some names, and how many there are besides.

    >>> first_of(["yes", "no", "stop"], most=2)
    'yes, no and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
