"""Review of caught clips: each is filed into a corpus by what it really was."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from speechgru.audio.files import read
from speechgru.common.files import append_line, cut_unfinished_line, write_atomic
from speechgru.common.locks import LockedError, lock_file
from speechgru.common.word_folders import folder_word, make_word_folder
from speechgru.common.wording import did_you_mean, shown
from speechgru.corpora.folders import SPLIT_FOLDERS, split_folders
from speechgru.corpora.listing import BACKGROUND_NOISE, list_recordings, list_words, normalized
from speechgru.corpora.own_recordings import NUMBERS_LOCK, check_speaker, next_path, numbered
from speechgru.corpora.speaker_names import FALSE_ALARM
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.labels import UNKNOWN

#: What a clip really was: the model's word, another of the words, other speech, noise, or nothing
#: worth keeping.
Decision = Literal["right", "word", "speech", "noise", "discard"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)

#: One line for each decision, in the folder of the caught clips.
_LOG = "review.jsonl"


@dataclass(frozen=True)
class CaughtClip:
    """A clip that a model took for a word, or nearly.

    Args:
        name: its path below the folder.
        problem: why the .json beside it says nothing, if there is one; its folder has the word.
    """

    path: Path
    name: str
    word: str
    kind: str = "event"
    score: float | None = None
    model: str = ""
    time: str = ""
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = asdict(self)
        name = fields.pop("name")
        return {"file": name, **{k: v for k, v in fields.items() if k not in ("path", "problem")}}


@dataclass(frozen=True)
class Filed:
    """A decision about a clip, and the path of its copy; None where it was thrown away.

    `is_new` is false where the recording in `path` had been there before, with the same sound;
    `note` is a sentence about a copy that could not be undone.
    """

    clip: CaughtClip
    decision: Decision
    path: Path | None
    is_new: bool = True
    note: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        to = str(self.path) if self.path else None
        return {"file": self.clip.name, "decision": self.decision, "to": to}


def caught_clips(root: Path) -> list[CaughtClip]:
    """The recordings under a folder, each with the word that the model took it for.

    That is what the .json beside it says, which `listen --save-dir` writes; otherwise its folder's
    word. In the order of their times, as far as their names tell.

    Raises:
        DataError: there is no such folder, or no recording in it.
    """
    paths = list_recordings(root)[0] if root.is_dir() else []
    if not paths:
        raise DataError(f"{root}: holds no recording; `listen --save-dir {root}` saves some")
    return [_describe(root, path) for path in sorted(paths, key=lambda path: (path.name, path))]


def _describe(root: Path, path: Path) -> CaughtClip:
    name = path.relative_to(root).as_posix()
    word = normalized(folder_word(path.parent))
    description = path.with_suffix(".json")
    try:
        found = json.loads(description.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return CaughtClip(path, name, word)
    except (OSError, ValueError, RecursionError):
        found = None
    given = found.get("word") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(given, str) or not given:
        problem = f"{description}: does not say which word was recognized; its folder does"
        return CaughtClip(path, name, word, problem=problem)
    score = found.get("score")
    return CaughtClip(
        path,
        name,
        normalized(given),
        str(found.get("kind", "event")),
        score if isinstance(score, float) and math.isfinite(score) else None,
        str(found.get("model", "")),
        str(found.get("time", "")),
    )


class Review:
    """Files caught clips into a directory of word folders, one decision after another.

    A clip is copied, with its description, to `WORD/SPEAKER_N`, or as a false alarm to
    `_unknown_/alarm_N` or `_background_noise_/alarm_N`. The caught clips stay as they are. Each
    decision is noted in their folder, so that a review can stop and go on at any time.

    Raises:
        DataError: there are no caught clips, or the notes are damaged.
        UsageError: `data` is not a directory of word folders, or the speaker's name cannot be used.
    """

    def __init__(self, root: Path, data: Path, speaker: str) -> None:
        self.root, self.speaker = Path(root), check_speaker(speaker)
        self.clips = caught_clips(self.root)
        self.data = _word_folders(Path(data))
        self.words = sorted(
            normalized(folder_word(self.data / name))
            for name in list_words(self.data).folders
            if not name.startswith("_")
        )
        self._log = self.root / _LOG
        self._filed = self._read_log()

    @property
    def pending(self) -> list[CaughtClip]:
        """The clips without a decision."""
        decided = {filed.clip.name for filed in self._filed}
        return [clip for clip in self.clips if clip.name not in decided]

    @property
    def counts(self) -> dict[str, int]:
        """Decisions of each kind about the clips that are there."""
        known = {clip.name for clip in self.clips}
        counts = Counter(filed.decision for filed in self._filed if filed.clip.name in known)
        return {decision: counts[decision] for decision in DECISIONS}

    def find(self, name: str) -> CaughtClip:
        """The pending clip of this name.

        Raises:
            UsageError: there is none.
        """
        for clip in self.pending:
            if clip.name == name:
                return clip
        known = {clip.name for clip in self.clips}
        if name in known:
            raise UsageError(f"{shown(name)}: was reviewed already")
        raise UsageError(f"{shown(name)}: is not a caught clip{did_you_mean(name, known)}")

    def decide(
        self,
        clip: CaughtClip,
        decision: Decision,
        word: str | None = None,
        speaker: str | None = None,
    ) -> Filed:
        """File a clip.

        Args:
            word: what was said, for "word".
            speaker: who said it, for "right" and "word", unless it is the usual one.

        Raises:
            UsageError: no such word among those of the data; the speaker's name cannot be used; the
                clip is gone, or damaged, and is not thrown away.
            SpeechGRUError: a file cannot be written.
        """
        word = clip.word if decision == "right" else normalized(word or "")
        if decision in ("right", "word") and word not in self.words:
            hint = f"; there are {', '.join(self.words)}{did_you_mean(word, self.words)}"
            raise UsageError(f"{shown(word)}: {self.data} has no such word{hint}")
        path, is_new = None, True
        if decision != "discard":
            _check_readable(clip.path)
        if decision in ("right", "word"):
            prefix = check_speaker(speaker, "speaker") if speaker else self.speaker
            path, is_new = _copy(clip.path, make_word_folder(self.data, word), prefix)
        elif decision in ("speech", "noise"):
            folder = UNKNOWN if decision == "speech" else BACKGROUND_NOISE
            path, is_new = _copy(clip.path, self.data / folder, FALSE_ALARM)
        filed = Filed(clip, decision, path, is_new)
        # Another review may run in another directory.
        row = filed.as_dict() | {"to": str(path.absolute()) if path else None, "new": is_new}
        append_line(self._log, json.dumps(row, ensure_ascii=False))
        self._filed.append(filed)
        return filed

    def decide_as(self, wish: Mapping[str, Any]) -> Filed:
        """File a clip as a message asks: `decision`, and if needed `file`, `word` and `speaker`.

        Without a file the decision is for the first pending clip.

        Raises:
            UsageError: the message makes no sense, no clip is pending, or as for `decide`.
            SpeechGRUError: a file cannot be written.
        """
        decision = wish.get("decision")
        if decision not in DECISIONS:
            known = ", ".join((*DECISIONS, "undo"))
            hint = did_you_mean(decision, DECISIONS) if isinstance(decision, str) else ""
            raise UsageError(f"decision {shown(decision)}: one of {known} is needed{hint}")
        if unknown := wish.keys() - {"file", "decision", "word", "speaker"}:
            raise UsageError(
                f"{shown(min(unknown))}: only file, decision, word and speaker are known"
            )
        if not all(isinstance(value, str) for value in wish.values()):
            raise UsageError("file, decision, word and speaker must be strings")
        if decision == "word" and not wish.get("word"):
            raise UsageError("decision 'word': the word is missing")
        if "file" in wish:
            clip = self.find(wish["file"])
        elif pending := self.pending:
            clip = pending[0]
        else:
            raise UsageError("no clip is left to decide about")
        word = normalized(wish.get("word", ""))
        if decision != "word" and word not in ("", clip.word):
            raise UsageError(f"word {shown(word)}: goes with the decision 'word'")
        return self.decide(clip, decision, wish.get("word"), wish.get("speaker"))

    def undo(self) -> Filed | None:
        """Take the last decision back; returns it, or None if there is none.

        Its copy is deleted, unless that was there before the decision, or was changed since, of
        which there is a note.

        Raises:
            SpeechGRUError: the copy cannot be deleted, or the note cannot be written.
        """
        if not self._filed:
            return None
        filed = self._filed[-1]
        append_line(self._log, json.dumps({"file": filed.clip.name, "decision": "undo"}))
        self._filed.pop()
        if filed.path is None or not filed.is_new:
            return filed
        if not filed.path.exists():
            return replace(filed, note=f"{filed.path}: is no longer there, so nothing was deleted")
        if not _same(filed.path, filed.clip.path):
            why = "it has changed" if filed.clip.path.exists() else "the caught clip is gone"
            return replace(filed, note=f"{filed.path}: stays, as {why}")
        try:
            filed.path.unlink()
            filed.path.with_suffix(".json").unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise SpeechGRUError(f"{filed.path}: cannot be deleted: {reason}") from error
        return filed

    @contextmanager
    def lock(self) -> Iterator[Self]:
        """Keep other processes from reviewing the same clips.

        Raises:
            SpeechGRUError: another process does, or the folder cannot be written.
        """
        try:
            with lock_file(self.root / ".review.lock", wait=False):
                cut_unfinished_line(self._log)
                self._filed = self._read_log()
                yield self
        except LockedError as error:
            raise SpeechGRUError(f"{self.root}: another process reviews these clips") from error

    def _read_log(self) -> list[Filed]:
        try:
            # Not splitlines(): a name may have other separators of lines in it.
            lines = self._log.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self._log}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{self._log}: is not UTF-8") from error
        clips = {clip.name: clip for clip in self.clips}
        filed: dict[str, Filed] = {}
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                name, decision, to = row["file"], row["decision"], row.get("to") or ""
                if not all(isinstance(value, str) for value in (name, decision, to)):
                    raise TypeError("file, decision and to must be strings")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                if number == len(lines):
                    break  # the process was killed while it wrote this line
                raise DataError(f"{self._log}, line {number}: not a decision") from error
            filed.pop(name, None)
            if decision in DECISIONS:
                clip = clips.get(name, CaughtClip(self.root / name, name, ""))  # it was deleted
                path = self._below_data(Path(to)) if to else None
                filed[name] = Filed(clip, decision, path, row.get("new") is not False)
        return list(filed.values())

    def _below_data(self, path: Path) -> Path:
        """A path as `decide` gives it, if it is one of a file in the data."""
        root = self.data.absolute()
        return self.data / path.relative_to(root) if path.is_relative_to(root) else path


def check_apart(caught: Path, data: Path, name: str) -> None:
    """Raise UsageError if clips lie among the recordings that they are filed into, or around them.

    They would be read as recordings of words, and these as caught clips.
    """
    one, other = Path(caught).resolve(), Path(data).resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UsageError(f"{name} {caught}: a folder apart from {data} is needed")


def _word_folders(data: Path) -> Path:
    """Where the word folders are: in the directory itself, or in its split for training."""
    if not data.is_dir():
        raise UsageError(f"{data}: a directory of word folders is needed, to file the clips into")
    listing = list_words(data)
    for name in split_folders(listing):
        if SPLIT_FOLDERS[name.lower()] == "training":
            return data / name
    if not any(not name.startswith("_") for name in listing.folders):
        if any(child.is_dir() and child.name[0] not in "._" for child in data.iterdir()):
            raise UsageError(f"{data}: its folders hold no recordings of words yet")
        raise UsageError(f"{data}: holds no word's folder, so there is nothing to file clips into")
    return data


def _check_readable(path: Path) -> None:
    """Raise UsageError for what no training could read."""
    try:
        read(path)
    except DataError as error:
        raise UsageError(f"{error}; it can only be discarded") from error


def _copy(source: Path, folder: Path, prefix: str) -> tuple[Path, bool]:
    """Copy a recording, and its description, under the next number.

    Returns the copy's path, and whether it is new: one that is there already, as after a kill, is
    taken as it is.

    Raises:
        UsageError: the recording cannot be read; it may have been deleted meanwhile.
        SpeechGRUError: the copy cannot be written.
    """
    try:
        content, suffix = source.read_bytes(), source.suffix
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror or error}") from error
    with lock_file(folder.parent / NUMBERS_LOCK):
        for path in numbered(folder, prefix):
            if path.suffix == suffix and _same(path, source):
                return path, False
        path = next_path(folder, prefix, suffix)
        description = source.with_suffix(".json")
        if description.is_file():
            write_atomic(path.with_suffix(".json"), description.read_bytes())
        write_atomic(path, content)
    return path, True


def _same(path: Path, other: Path) -> bool:
    try:
        same_size = path.stat().st_size == other.stat().st_size
        return same_size and path.read_bytes() == other.read_bytes()
    except OSError:
        return False
