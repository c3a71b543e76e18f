"""A corpus: clips with words, speakers and splits; a task: the examples that a model gets."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from speechgru.corpora.listing import Skipped
from speechgru.errors import DataError

SPLITS = ("training", "validation", "testing")

#: How clips were assigned to splits.
SPLIT_RULES = {
    "lists": "split by validation_list.txt and testing_list.txt",
    "archive": "an official test archive: all testing",
    "speaker": "split by speaker: a speaker is in one split only",
    "file": "split by file, not by speaker: fewer than five speakers are known",
    "folds": "split by cross-validation",
    "folders": "split by its folders training, validation and testing",
    "manifest": "split by the manifest's split column",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of one word by one speaker."""

    path: Path
    word: str
    speaker: str
    split: str


@dataclass(frozen=True)
class Corpus:
    """All clips under a directory or in a manifest, and its background recordings.

    `layout` is "speech-commands", "folders" or "manifest"; `split_by` is a key of `SPLIT_RULES`.
    `speakers_guessed` says that speakers were read off file names. `skipped` has what lies among
    the recordings and is not used; `notes` are sentences about what its lists or manifest
    say in vain.
    """

    root: Path
    layout: str
    clips: tuple[Clip, ...]
    noises: tuple[Path, ...] = ()
    split_by: str = "lists"
    speakers_guessed: bool = False
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Clip, ...]:
        """The clips of one split, in the order of their paths."""
        if name not in SPLITS:
            raise DataError(f"split {name!r}: a split is one of {', '.join(SPLITS)}")
        return tuple(clip for clip in self.clips if clip.split == name)

    @property
    def guessed_speakers(self) -> tuple[str, ...]:
        """Sorted speakers, if they were read off file names; else none."""
        if not self.speakers_guessed:
            return ()
        return tuple(sorted({clip.speaker for clip in self.clips if clip.speaker}))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every word once, sorted; labels that begin with an underscore are not words."""
        return sorted_words(clip.word for clip in self.clips)


def sorted_words(words: Iterable[str]) -> tuple[str, ...]:
    """Each word once in alphabetical order, without `_silence_`, `_unknown_` and their like."""
    return tuple(sorted({word for word in words if not word.startswith("_")}))


@dataclass(frozen=True, slots=True)
class Example:
    """A stretch of audio and the label that a model is to give it.

    `path` is None for digital silence. `start_s` is where to cut a clip out of a longer recording;
    None takes the whole file. `word` is what was said, `label` what the task calls it.
    """

    path: Path | None
    label: str
    word: str
    speaker: str
    start_s: float | None = None


@dataclass(frozen=True)
class Task:
    """A protocol applied to a corpus: the model's labels, and the examples of each split.

    What to say if a split is empty: of what `source`, and what a user might do (`hint`).
    """

    protocol: str
    labels: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    clip_s: float = 1.0
    description: str = ""
    source: str = ""
    hint: str = ""

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of one split.

        Raises:
            DataError: the split is unknown or has no example.
        """
        if name not in SPLITS:
            raise DataError(f"split {name!r}: a split is one of {', '.join(SPLITS)}")
        if not self.splits.get(name):
            raise DataError(
                f"{self.source or self.protocol}: the {name} split has no clips{self.hint}"
            )
        return self.splits[name]
