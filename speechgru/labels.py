"""Words and their ids; the labels that are no word."""

from collections.abc import Iterable
from dataclasses import dataclass

from speechgru.errors import DataError

SILENCE = "_silence_"
UNKNOWN = "_unknown_"
BLANK = "_blank_"
NOT_WORDS = frozenset({SILENCE, UNKNOWN, BLANK})

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
