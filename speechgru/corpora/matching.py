"""Clips of another corpus to train with: the same words, at no higher rate than one's own."""

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import soundfile

from speechgru.audio.files import probe, read
from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.common.wording import counted, first_of
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.speaker_names import is_made
from speechgru.errors import DataError

#: Rules of `SPLIT_RULES` for a corpus that has no splits of its own.
_GUESSED = ("speaker", "file")


def only_to_train(corpus: Corpus, other: Corpus, name: str) -> tuple[Corpus, tuple[str, ...]]:
    """What of `other` may be trained with where a corpus is tested, and sentences about the rest.

    That is all clips with words of the corpus (where `other` has splits of its own, those of its
    training split), but no recording that the corpus has, too. `name` is what sentences call it.

    Raises:
        DataError: nothing is left, or a recording cannot be read.
    """
    clips = [clip for clip in other.clips if clip.word in corpus.words]
    if not clips:
        raise DataError(f"{name}: has none of the words {first_of(corpus.words)}")
    usable = [c for c in clips if c.split == "training" or other.split_by in _GUESSED]
    own = {_content(clip) for clip in corpus.clips}
    new = [replace(clip, split="training") for clip in usable if _content(clip) not in own]
    held, same = len(clips) - len(usable), len(usable) - len(new)
    notes = [f"{counted(held, 'recording')} of its other splits left out"] if held else []
    notes += [f"{counted(same, 'recording')} left out that --data has, too"] if same else []
    if not new:
        raise DataError(f"{name}: nothing to train with; {', '.join(notes)}")
    notes += _same_speakers(corpus.clips, new)
    return replace(other, clips=tuple(new)), tuple(f"{name}: {note}" for note in notes)


def _content(clip: Clip) -> bytes:
    try:
        return sha256(clip.path.read_bytes()).digest()
    except OSError as error:
        raise DataError(f"{clip.path}: cannot be read: {error.strerror or error}") from error


def _same_speakers(clips: Sequence[Clip], others: Sequence[Clip]) -> Iterator[str]:
    """A sentence, if speakers of both have the same names."""
    names = {clip.speaker for clip in clips} & {clip.speaker for clip in others} - {""}
    if people := sorted(name for name in names if not is_made(name)):
        yield (
            f"has speakers named as in --data ({first_of(people, 4)}); if they are the same "
            "people, a fold by speaker trains with voices that it tests"
        )


def matching_clips(
    corpus: Corpus, other: Corpus, folder: Path, progress: Progress | None = None
) -> tuple[Clip, ...]:
    """The training clips of `other` with words of the corpus; their speakers get new names.

    Recordings at a higher rate than the corpus's first clip are resampled to its rate, into
    `folder`: otherwise a network could recognize words by frequencies that the corpus lacks.

    Raises:
        DataError: a recording cannot be read.
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    rate, words = probe(corpus.clips[0].path).rate, set(corpus.words)
    clips = [clip for clip in other.split("training") if clip.word in words]
    matching = []
    for number, clip in enumerate(clips, 1):
        path = _at_most(rate, clip, folder)
        matching.append(replace(clip, path=path, speaker=f"also {clip.speaker}"))
        if progress is not None:
            progress(number, len(clips))
    return tuple(matching)


def _at_most(rate: int, clip: Clip, folder: Path) -> Path:
    """The recording, or if its rate is higher a resampled copy in `folder`."""
    if probe(clip.path).rate <= rate:
        return clip.path
    # Files of several folders may have the same name.
    path = folder / clip.word / f"{clip.path.stem}-{zlib.crc32(bytes(clip.path)):08x}.flac"
    if not path.exists():
        file = io.BytesIO()
        soundfile.write(file, read(clip.path, rate), rate, "PCM_16", format="FLAC")
        write_atomic(path, file.getvalue())
    return path.absolute()
