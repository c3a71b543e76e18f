"""Words and their ids; the labels that are no word."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from speechgru.errors import DataError

SILENCE = "_silence_"
UNKNOWN = "_unknown_"
BLANK = "_blank_"
#: Ends a word that is spelled in characters.
BOUNDARY = "_boundary_"
NOT_WORDS = frozenset({SILENCE, UNKNOWN, BLANK, BOUNDARY})

#: What says something of the words: a label for each step, or tokens with blanks between them.
Head = Literal["classify", "ctc"]
#: The columns of a model's log-posteriors: each head's labels, one head beside the other.
Outputs = Mapping[Head, tuple[str, ...]]

#: What a CTC head's tokens are.
Units = Literal["words", "characters"]

#: The ten commands of the 12-class tasks, in the order of Warden (2018).
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@dataclass(frozen=True)
class Vocabulary:
    """The V labels of a model, in the order of its outputs."""

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise DataError(f"a vocabulary names each label once; found {list(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    @property
    def words(self) -> tuple[str, ...]:
        """The labels that can be an event: all but silence, unknown and blank."""
        return tuple(label for label in self.labels if label not in NOT_WORDS)

    def id(self, label: str) -> int:
        """The output index of a label."""
        return self.labels.index(label)

    def ids(self, labels: Iterable[str]) -> list[int]:
        """The output indices of many labels."""
        lookup = {label: index for index, label in enumerate(self.labels)}
        return [lookup[label] for label in labels]


@dataclass(frozen=True)
class Spelling:
    """How a CTC head writes words: its tokens, of which the first is the blank.

    Silence is nothing, an unknown word is one token. Any other word is a token, or, where one of
    the tokens is `_boundary_`, its characters and the boundary after them.
    """

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, labels: Sequence[str], units: Units) -> "Spelling":
        """The tokens that labels need.

        >>> Spelling.of(("_silence_", "on", "no"), "characters").tokens
        ('_blank_', '_boundary_', 'n', 'o')
        """
        words = Vocabulary(tuple(labels)).words
        unknown = (UNKNOWN,) if UNKNOWN in labels else ()
        if units == "words":
            return cls((BLANK, *unknown, *words))
        return cls((BLANK, *unknown, BOUNDARY, *sorted(set("".join(words)))))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @property
    def in_characters(self) -> bool:
        """Whether words are spelled, rather than tokens of their own."""
        return BOUNDARY in self._ids

    def spell(self, label: str) -> tuple[int, ...]:
        """A label's tokens.

        Raises:
            DataError: it has a character, or is a word, that is no token.
        """
        if label == SILENCE:
            return ()
        is_spelled = self.in_characters and label not in NOT_WORDS
        tokens = (*label, BOUNDARY) if is_spelled else (label,)
        if missing := [token for token in tokens if token not in self._ids]:
            raise DataError(f"{label!r} cannot be written: {missing[0]!r} is no token of the model")
        return tuple(self._ids[token] for token in tokens)


def columns(outputs: Outputs, head: Head) -> slice:
    """Where a head's columns are in the log-posteriors.

    >>> columns({"classify": ("a", "b"), "ctc": ("_blank_", "a", "b")}, "ctc")
    slice(2, 5, None)
    """
    first = 0
    for name, labels in outputs.items():
        if name == head:
            return slice(first, first + len(labels))
        first += len(labels)
    raise DataError(f"the model has no head {head!r}, only {' and '.join(outputs)}")
