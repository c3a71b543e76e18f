"""Words and their ids, the labels that are not words, and the columns of log-posteriors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from speechgru.errors import DataError

SILENCE = "_silence_"
UNKNOWN = "_unknown_"
BLANK = "_blank_"
#: The token after a word spelled in characters.
BOUNDARY = "_boundary_"
NOT_WORDS = frozenset({SILENCE, UNKNOWN, BLANK, BOUNDARY})

#: A head gives a label for each step, or tokens with blanks between them.
Head = Literal["classify", "ctc"]
#: The columns of a model's log-posteriors: the labels of each head, side by side.
Outputs = Mapping[Head, tuple[str, ...]]

#: What the tokens of a CTC head stand for.
Units = Literal["words", "characters"]

#: The ten commands of the 12-class tasks, in the order of Warden (2018).
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@dataclass(frozen=True)
class Vocabulary:
    """The V labels of a model, in the order of its outputs.

    Raises:
        DataError: a label occurs twice.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise DataError(f"labels have to differ; found {list(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    @property
    def words(self) -> tuple[str, ...]:
        """The labels that can be events: all except silence, unknown and blank."""
        return tuple(label for label in self.labels if label not in NOT_WORDS)

    def id(self, label: str) -> int:
        """The index of a label."""
        return self.labels.index(label)

    def ids(self, labels: Iterable[str]) -> list[int]:
        """The indices of many labels."""
        lookup = {label: index for index, label in enumerate(self.labels)}
        return [lookup[label] for label in labels]


@dataclass(frozen=True)
class Spelling:
    """How the tokens of a CTC head spell words; the first token is the blank.

    Silence has no tokens, an unknown word has one. Any other word is one token, or, if `_boundary_`
    is among the tokens, its characters and then the boundary.
    """

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, labels: Sequence[str], units: Units) -> "Spelling":
        """The tokens needed to spell labels.

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
        """Whether words are spelled in characters instead of having a token each."""
        return BOUNDARY in self._ids

    def spell(self, label: str) -> tuple[int, ...]:
        """The tokens of a label.

        Raises:
            DataError: the word, or a character of it, is not a token.
        """
        if label == SILENCE:
            return ()
        is_spelled = self.in_characters and label not in NOT_WORDS
        tokens = (*label, BOUNDARY) if is_spelled else (label,)
        if missing := [token for token in tokens if token not in self._ids]:
            raise DataError(
                f"{label!r:.60} cannot be spelled: {missing[0]!r:.60} is not a token of the model"
            )
        return tuple(self._ids[token] for token in tokens)


def columns(outputs: Outputs, head: Head) -> slice:
    """The columns of a head in the log-posteriors.

    Raises:
        DataError: the model has no such head.

    >>> columns({"classify": ("a", "b"), "ctc": ("_blank_", "a", "b")}, "ctc")
    slice(2, 5, None)
    """
    start = 0
    for name, labels in outputs.items():
        if name == head:
            return slice(start, start + len(labels))
        start += len(labels)
    raise DataError(f"the model has no head {head!r}, only {' and '.join(outputs)}")
