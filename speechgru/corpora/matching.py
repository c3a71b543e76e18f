"""Clips of another corpus to train with: the same words, at no higher rate than one's own."""

import io
import zlib
from dataclasses import replace
from pathlib import Path

import soundfile

from speechgru.audio.files import probe, read
from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.corpora.corpus import Clip, Corpus


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
