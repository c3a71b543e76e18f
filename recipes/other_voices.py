"""Set other voices of a Speech Commands directory apart for testing, to confirm a result.

    python recipes/other_voices.py gsc-open --out gsc-open-others --seed 1

A testing list is short and has few voices, so a recipe's result may depend on them. OUT has links
to the words of DIR, and other lists: for testing, random voices of the training split until they
have --clips recordings; the voices of DIR's testing list are for training. Validation stays the
same. Then `train` and `evaluate` with `--data OUT`.
"""

import argparse
import random
import sys
from collections import defaultdict
from pathlib import Path

from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.speech_commands import LISTS
from speechgru.errors import SpeechGRUError, UsageError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DIR", help="with validation_list.txt, testing_list.txt")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=1434, help="minimum for testing")
    options = parser.parse_args(arguments)
    try:
        corpus = open_corpus(options.data)
        testing = drawn(corpus, options.clips, options.seed)
        write(corpus, testing, options.out)
    except SpeechGRUError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    voices = len({clip.speaker for clip in testing})
    print(f"{options.out}: {len(testing):,} clips of {voices} voices for testing")
    return 0


def drawn(corpus: Corpus, clips: int, seed: int) -> list[Clip]:
    """All recordings of random voices of the training split, until there are `clips`.

    Raises:
        UsageError: the corpus is not split by lists, or has too few clips.
    """
    if corpus.split_by != "lists":
        raise UsageError(f"{corpus.root}: has no {' or '.join(LISTS.values())}")
    training = corpus.split("training")
    if not 0 < clips < len(training):
        raise UsageError(f"--clips {clips}: must be between 1 and {len(training) - 1}")
    by_voice = defaultdict(list)
    for clip in training:
        by_voice[clip.speaker].append(clip)
    voices = sorted(by_voice)
    random.Random(seed).shuffle(voices)
    found: list[Clip] = []
    for voice in voices:
        if len(found) >= clips:
            break
        found += by_voice[voice]
    return found


def write(corpus: Corpus, testing: list[Clip], out: Path) -> None:
    """Link the corpus's folders, and write its lists with these clips for testing.

    Raises:
        UsageError: `out` is there already, or cannot be written.
    """
    listed = {"validation": corpus.split("validation"), "testing": testing}
    try:
        out.mkdir(parents=True)
        for folder in sorted(path for path in corpus.root.iterdir() if path.is_dir()):
            (out / folder.name).symlink_to(folder.absolute(), target_is_directory=True)
        for split, name in LISTS.items():
            names = sorted(f"{clip.path.parent.name}/{clip.path.name}" for clip in listed[split])
            (out / name).write_text("".join(f"{one}\n" for one in names))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
