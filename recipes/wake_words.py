"""Lay out a trial of wake words: takes to train on, and strangers and other speech to test with.

    python recipes/wake_words.py DIRECTORY --words marvin,happy,zero --out wake

DIRECTORY holds `gsc-wide`, `ambient-speech`, `an4` and `esc-10`. OUT gets

takes/       recordings by --voices random speakers of the training split who said all the words, or
             --takes of each word, each by another speaker: `train my-words --data OUT/takes`
strangers.csv those of the validation and testing lists, whom the bundled network has not heard
             either, for testing, and noise of no training: `data stream OUT/strangers.csv`
speech/      recordings that are in no training, without the words as far as transcripts tell
singles.flac other words by those strangers, one in two seconds
pairs.flac   two other words right after each other, one pair in three seconds

so that `evaluate RUN --ambient OUT/speech` counts false alarms in running speech, and with the last
two where people say other words. Recordings are linked, not copied.
"""

import argparse
import csv
import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechgru.audio.files import read
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.listing import BACKGROUND_NOISE
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import SpeechGRUError, UsageError

RATE = 16_000
SINGLES, SINGLE_S = 1_000, 2.0
PAIRS, PAIR_S = 500, 3.0
#: A quiet room: white noise of this amplitude.
QUIET = 1e-3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DIRECTORY")
    parser.add_argument("--words", required=True, type=lambda text: text.split(","), metavar="A,B")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT")
    parser.add_argument("--voices", type=int, default=60, help="speakers to train on [60]")
    parser.add_argument("--takes", type=int, help="takes of each word instead, by as many speakers")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    out, words = options.out, options.words
    try:
        corpus = open_corpus(str(options.data / "gsc-wide"))
        known = [clip for clip in corpus.split("training") if clip.word in words]
        heard = [*corpus.split("validation"), *corpus.split("testing")]
        strangers = [clip for clip in heard if clip.word in words]
        others = other_words(corpus, heard, words)
        check(words, known, strangers, others)
        takes = (
            by_voices(known, words, options.voices, options.seed)
            if options.takes is None
            else by_takes(known, words, options.takes, options.seed)
        )
        speech = other_speech(options.data, words)
        noise = sorted((options.data / "esc-10").glob("*/*.ogg"))[1::2]
        if not noise:
            raise UsageError(f"{options.data}: has no recordings in esc-10")
        make_folder(out)
        link_clips(takes, out / "takes")
        write_manifest(strangers, noise, out / "strangers.csv")
        link({path.name: path for path in speech}, out / "speech")
        write_words(others, out, options.seed)
    except SpeechGRUError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for name, clips in (("takes", takes), ("strangers.csv", strangers)):
        voices = len({clip.speaker for clip in clips})
        print(f"{out / name}: {len(clips):,} recordings of {voices} voices")
    print(f"{out / 'speech'}: {len(speech):,} recordings of other speech")
    return 0


def by_voices(clips: Sequence[Clip], words: Iterable[str], count: int, seed: int) -> list[Clip]:
    """All recordings of some speakers who said every word, chosen at random.

    Raises:
        UsageError: there are not so many.
    """
    said = [{clip.speaker for clip in clips if clip.word == word} for word in words]
    voices = sorted(set.intersection(*said))
    if not 0 < count <= len(voices):
        raise UsageError(f"--voices {count}: {len(voices)} speakers said all the words")
    chosen = set(random.Random(seed).sample(voices, count))
    return [clip for clip in clips if clip.speaker in chosen]


def by_takes(clips: Sequence[Clip], words: Iterable[str], count: int, seed: int) -> list[Clip]:
    """So many recordings of each word, chosen at random, each by another speaker.

    Raises:
        UsageError: a word has not so many speakers.
    """
    shuffled = random.Random(seed).sample(sorted(clips, key=lambda clip: clip.path), len(clips))
    takes: list[Clip] = []
    for word in words:
        by_speaker = {clip.speaker: clip for clip in shuffled if clip.word == word}
        if not 0 < count <= len(by_speaker):
            raise UsageError(f"--takes {count}: {len(by_speaker)} speakers said {word!r}")
        takes += list(by_speaker.values())[:count]
    return takes


def other_speech(root: Path, words: Iterable[str]) -> list[Path]:
    """The halves of `ambient-speech` and `an4` that no package and no training has.

    Raises:
        UsageError: one of them is missing.
    """
    try:
        text = (root / "an4" / "transcripts.tsv").read_text()
    except OSError as error:
        raise UsageError(f"{root}: has no an4/transcripts.tsv") from error
    rows = [line.split("\t") for line in text.splitlines()]
    speakers = set(sorted({speaker for _, speaker, _ in rows})[1::2])
    said = [
        root / "an4" / "utterances" / f"{name}.ogg"
        for name, speaker, transcript in rows
        if speaker in speakers and not {*words} & {*transcript.lower().split()}
    ]
    read_aloud = sorted((root / "ambient-speech").glob("*.flac"))[1::2]
    if not read_aloud:
        raise UsageError(f"{root}: has no recordings in ambient-speech")
    return read_aloud + said


def other_words(
    corpus: Corpus, clips: Iterable[Clip], words: Iterable[str]
) -> dict[str, list[Clip]]:
    """Recordings of every other word of the corpus, by word."""
    found, others = defaultdict(list), set(corpus.words) - {*words}
    for clip in clips:
        if clip.word in others:
            found[clip.word].append(clip)
    return dict(found)


def check(
    words: Iterable[str],
    known: Sequence[Clip],
    strangers: Sequence[Clip],
    others: dict[str, list[Clip]],
) -> None:
    """Raise a `UsageError` if a word is missing, or other words are."""
    for word in words:
        for clips, where in ((known, "training split"), (strangers, "validation or testing list")):
            if not any(clip.word == word for clip in clips):
                raise UsageError(f"--words {word}: no recording of it in the {where}")
    if len(others) < 2:
        raise UsageError("there are fewer than two other words to test with")


def make_folder(out: Path) -> None:
    """Raise a `UsageError` if it is there already or cannot be made."""
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error


def link_clips(clips: Iterable[Clip], folder: Path) -> None:
    """Link recordings into a folder per word.

    The hash of a speaker's name decides the split, and by the names that they have here all these
    speakers would be for training: so they get others.
    """
    by_word: dict[str, dict[str, Path]] = defaultdict(dict)
    for clip in clips:
        by_word[clip.word][f"w{clip.path.name}"] = clip.path
    for word, paths in by_word.items():
        link(paths, folder / word)


def link(paths: Mapping[str, Path], folder: Path) -> None:
    """Link files by new names into a new folder."""
    folder.mkdir(parents=True)
    for name, path in paths.items():
        (folder / name).symlink_to(path.absolute())


def write_manifest(clips: Iterable[Clip], noise: Iterable[Path], out: Path) -> None:
    """List recordings, for testing, and noise."""
    rows = [(clip.path, clip.word, clip.speaker) for clip in clips]
    rows += [(path, BACKGROUND_NOISE, "") for path in noise]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "word", "speaker", "split"))
        for path, word, speaker in rows:
            relative = os.path.relpath(path.absolute(), out.absolute().parent)
            writer.writerow((relative, word, speaker, "testing"))


def write_words(others: dict[str, list[Clip]], out: Path, seed: int) -> None:
    """Write the two recordings of other words, every word as often as any other."""
    chosen, noise = random.Random(seed), np.random.default_rng(seed)
    for name, count, each, seconds in (
        ("singles", SINGLES, 1, SINGLE_S),
        ("pairs", PAIRS, 2, PAIR_S),
    ):
        samples = (QUIET * noise.standard_normal(round(count * seconds * RATE))).astype(np.float32)
        for number in range(count):
            clips = [chosen.choice(others[word]) for word in chosen.sample(sorted(others), each)]
            said = np.concatenate([spoken(clip) for clip in clips])
            start = round(number * seconds * RATE)
            room = samples[start : start + len(said)]
            room += said[: len(room)]
        soundfile.write(out / f"{name}.flac", samples, RATE)


def spoken(clip: Clip) -> NDArray[np.float32]:
    """The stretch of a recording in which its word is, (S,)."""
    samples = read(clip.path, RATE)
    start, end = (round(s * RATE) for s in word_bounds_s(samples, RATE))
    return samples[start:end]


if __name__ == "__main__":
    sys.exit(main())
