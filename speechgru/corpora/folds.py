"""Folds for cross-validation: each recording is tested once, by a model that never heard it."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from speechgru.corpora.copies import originals
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.fingerprint import name_in
from speechgru.corpora.speaker_names import is_made
from speechgru.corpora.speakers import hash_percent, hash_split
from speechgru.errors import DataError, UsageError

#: More folds than this are trained only where they are asked for.
_USUAL = 5
#: A word needs a recording for each of testing, validation and training.
_LEAST_TAKES = 3
#: Instead of a fold: synthetic takes are only trained with.
_NEVER_TESTED = -1


@dataclass(frozen=True)
class Folds:
    """The fold in which each clip of a corpus is tested.

    Args:
        by: "speaker", where no speaker is in two folds, or "take".
        count: number of folds.
        numbers: from 0, in the order of the corpus's clips; -1 for synthetic takes.
        by_take: words that are divided by take, as all their speakers are in one fold.
    """

    by: str
    count: int
    numbers: tuple[int, ...]
    by_take: tuple[str, ...] = ()

    def corpus(self, corpus: Corpus, fold: int, also: Sequence[Clip] = ()) -> Corpus:
        """The corpus with the splits of a fold; `also` are more clips to train with.

        A tenth of the takes that are not tested are for validation, by the hash of their names, and
        at least one of each word that has two.
        """
        takes = _takes(corpus)
        splits = [
            "training"
            if number == _NEVER_TESTED
            else "testing"
            if number == fold
            else _training_split(clip.word, take)
            for clip, take, number in zip(corpus.clips, takes, self.numbers, strict=True)
        ]
        for word in corpus.words:
            places = [i for i, clip in enumerate(corpus.clips) if clip.word == word]
            of_word = [
                i for i in places if splits[i] != "testing" and self.numbers[i] != _NEVER_TESTED
            ]
            ordered = sorted({takes[i] for i in of_word}, key=hash_percent)
            if all(splits[i] == "validation" for i in of_word):
                moved = {ordered[-1]: "training"}
            elif all(splits[i] == "training" for i in of_word) and len(ordered) > 1:
                moved = {ordered[0]: "validation"}
            else:
                continue
            for i in of_word:
                splits[i] = moved.get(takes[i], splits[i])
        clips = [
            replace(clip, split=split) for clip, split in zip(corpus.clips, splits, strict=True)
        ]
        return replace(corpus, clips=(*clips, *also), split_by="folds")


def make_folds(corpus: Corpus, count: int | None = None) -> Folds:
    """Divide a corpus by speaker, or by take where no word has two speakers that are known.

    The splits of the corpus do not matter. Without a number there are five folds, or as many as
    there are speakers or takes if those are fewer. Synthetic takes are in none; copies of a take,
    altered or not, are where it is.

    Raises:
        UsageError: there are fewer speakers, or takes of a word, than folds.
        DataError: a word has fewer than three recordings.
    """
    real = tuple(clip for clip in corpus.clips if not is_made(clip.speaker))
    if len(real) < len(corpus.clips):
        _check_takes(corpus, real)
        folds = make_folds(replace(corpus, clips=real), count)
        of_real = iter(folds.numbers)
        numbers = [_NEVER_TESTED if is_made(c.speaker) else next(of_real) for c in corpus.clips]
        return replace(folds, numbers=tuple(numbers))
    takes, names = _check_takes(corpus, real), _takes(corpus)
    speakers = {clip.speaker for clip in corpus.clips if clip.word in takes} - {""}
    if len(speakers) > 1:
        most = min(count or _USUAL, len(speakers))
        numbers, single = _by_speaker(corpus.clips, names, most), []
        # A word whose speakers are all in one fold would have no clip to train on there.
        for word in corpus.words:
            places = [i for i, clip in enumerate(corpus.clips) if clip.word == word]
            if len({numbers[i] for i in places}) == 1:
                single.append(word)
                dealt = _by_take([word] * len(places), [names[i] for i in places], most)
                for place, number in zip(places, dealt, strict=True):
                    numbers[place] = number
        if len(single) < len(takes):
            if count and count > most:
                raise UsageError(f"--folds {count}: there are only {most} speakers")
            return Folds("speaker", most, tuple(numbers), tuple(single))
    rare, fewest = min(takes.items(), key=lambda item: item[1])
    count = count or min(_USUAL, fewest)
    if count > fewest:
        raise UsageError(f"--folds {count}: there are only {fewest} takes of {rare!r}")
    words = [clip.word for clip in corpus.clips]
    return Folds("take", count, _by_take(words, names, count))


def _check_takes(corpus: Corpus, clips: Sequence[Clip]) -> dict[str, int]:
    """How many takes each word of the corpus has in these clips; fewer than three are an error.

    Copies are not counted.
    """
    takes = {clip.word: 0 for clip in corpus.clips if not clip.word.startswith("_")}
    of_clips = zip(clips, _takes(replace(corpus, clips=tuple(clips))), strict=True)
    for word, _ in {(clip.word, take) for clip, take in of_clips}:
        if word in takes:
            takes[word] += 1
    rare, fewest = min(takes.items(), key=lambda item: item[1])
    if fewest < _LEAST_TAKES:
        raise DataError(
            f"{corpus.root}: {fewest} recordings of {rare!r}; cross-validation needs at least "
            f"{_LEAST_TAKES} of each word"
        )
    return takes


def _by_speaker(clips: Sequence[Clip], takes: Sequence[str], count: int) -> list[int]:
    """Whole speakers, those with most clips of words first, each to the fold with the fewest.

    Then those of other speech alone, so that they take no fold from a speaker of words. Files
    without a speaker are dealt like takes.
    """
    of_words: Counter[str] = Counter()
    of_others: Counter[str] = Counter()
    for clip in clips:
        if clip.speaker:
            (of_others if clip.word.startswith("_") else of_words)[clip.speaker] += 1
    fold_of: dict[str, int] = {}
    for counts in (of_words, of_others):
        sizes = [0] * count
        for speaker, size in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if speaker not in fold_of:
                fold_of[speaker] = sizes.index(min(sizes))
            sizes[fold_of[speaker]] += size
    dealt = _by_take([clip.word for clip in clips], takes, count)
    return [fold_of.get(clip.speaker, number) for clip, number in zip(clips, dealt, strict=True)]


def _by_take(words: Sequence[str], takes: Sequence[str], count: int) -> tuple[int, ...]:
    """The takes of each word in the order of their names' hashes, dealt in turn: of each clip."""
    fold_of: dict[tuple[str, str], int] = {}
    of_word: dict[str, set[str]] = defaultdict(set)
    for word, take in zip(words, takes, strict=True):
        of_word[word].add(take)
    for first, word in enumerate(sorted(of_word)):
        ordered = sorted(of_word[word], key=lambda take: (hash_percent(take), take))
        for turn, take in enumerate(ordered):
            fold_of[word, take] = (first + turn) % count
    return tuple(fold_of[key] for key in zip(words, takes, strict=True))


def _training_split(word: str, take: str) -> str:
    """Validation for a tenth of the takes by hash; other speech is all for training."""
    is_validation = not word.startswith("_") and hash_split(take) == "validation"
    return "validation" if is_validation else "training"


def _takes(corpus: Corpus) -> list[str]:
    """The name of each clip's take, its word and path in that folder; a copy has its original's.

    Of recordings elsewhere only the folder's and the file's name count.
    """
    names = []
    for clip in corpus.clips:
        name = name_in(corpus.root, clip.path)
        if name == os.fspath(clip.path):
            name = f"{clip.path.parent.name}/{clip.path.name}"
        names.append(f"{clip.word}/{name.removeprefix(f'{clip.word}/')}")
    stems = [name.rpartition(".")[0] for name in names]
    original = originals(set(stems))
    # Of the original's own name, with its suffix.
    first: dict[str, str] = {}
    for name, stem in sorted(zip(names, stems, strict=True)):
        first.setdefault(stem, name)
    return [first[original[stem]] for stem in stems]
