"""Write a manifest that puts chosen speakers, or some of their takes, into each split.

    python recipes/choose_speakers.py fsdd --training theo:10 --validation theo:5 \
        --testing theo:35 --out own-voice.csv

NAME takes all of a speaker's recordings, NAME:N the next N of each word, in the order of the file
names with numbers counted (theo_2 before theo_10). Background recordings belong to every split.
Then `train` and `evaluate` with `--data own-voice.csv`.
"""

import argparse
import csv
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.listing import BACKGROUND_NOISE
from speechgru.errors import SpeechGRUError, UsageError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DIR", help="word folders whose file names tell speakers")
    for split in SPLITS:
        parser.add_argument(f"--{split}", required=True, metavar="NAME[:N],...")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.csv")
    options = parser.parse_args(arguments)
    try:
        corpus = open_corpus(options.data)
        chosen = {split: choose(corpus, split, getattr(options, split)) for split in SPLITS}
        rows = assign(corpus, chosen)
        write(corpus, rows, options.out)
    except SpeechGRUError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    counts = ", ".join(f"{sum(s == split for _, s in rows):,} {split}" for split in SPLITS)
    print(f"{options.out}: {counts}")
    return 0


def choose(corpus: Corpus, split: str, text: str) -> dict[str, int | None]:
    """Speaker -> takes of each word for this split; None is all that are left.

    Raises:
        UsageError: no such speaker, or not a number of takes.
    """
    known = sorted({clip.speaker for clip in corpus.clips} - {""})
    chosen: dict[str, int | None] = {}
    for one in text.split(","):
        name, colon, number = one.partition(":")
        if name not in known:
            raise UsageError(f"--{split} {one}: no speaker {name!r}; there are {', '.join(known)}")
        if colon and not (number.isdecimal() and int(number)):
            raise UsageError(f"--{split} {one}: takes are a whole number above 0")
        chosen[name] = int(number) if colon else None
    return chosen


def assign(corpus: Corpus, chosen: dict[str, dict[str, int | None]]) -> list[tuple[Clip, str]]:
    """Each chosen recording with its split, in the corpus' order.

    Raises:
        UsageError: a speaker has too few takes of a word.
    """
    takes: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in corpus.clips:
        takes[clip.speaker, clip.word].append(clip)
    splits: dict[Path, str] = {}
    for (speaker, word), clips in takes.items():
        clips.sort(key=lambda clip: natural(clip.path.stem))
        first = 0
        for split in SPLITS:
            if speaker not in chosen[split]:
                continue
            number = chosen[split][speaker]
            last = len(clips) if number is None else first + number
            if last > len(clips) or first == last:
                raise UsageError(
                    f"{speaker} has {len(clips)} takes of {word!r}: too few for --{split}"
                )
            splits.update((clip.path, split) for clip in clips[first:last])
            first = last
    return [(clip, splits[clip.path]) for clip in corpus.clips if clip.path in splits]


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which theo_2 comes before theo_10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def write(corpus: Corpus, rows: list[tuple[Clip, str]], out: Path) -> None:
    """The manifest, its files relative to its own folder.

    Raises:
        UsageError: `out` cannot be written.
    """

    def relative(path: Path) -> str:
        return os.path.relpath(path.absolute(), out.absolute().parent)

    try:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "word", "speaker", "split"))
            for clip, split in rows:
                writer.writerow((relative(clip.path), clip.word, clip.speaker, split))
            for noise in corpus.noises:
                writer.writerow((relative(noise), BACKGROUND_NOISE, "", ""))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
