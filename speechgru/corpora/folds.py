"""Folds for cross-validation: each recording is tested once, by a model that never heard it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.speakers import hash_percent, hash_split, is_made
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

        A tenth of the files that are not tested are for validation, by the hash of their names, and
        at least one of each word that has two.
        """
        splits = [
            "training"
            if number == _NEVER_TESTED
            else "testing"
            if number == fold
            else _training_split(clip)
            for clip, number in zip(corpus.clips, self.numbers, strict=True)
        ]
        for word in corpus.words:
            places = [i for i, clip in enumerate(corpus.clips) if clip.word == word]
            of_word = [
                i for i in places if splits[i] != "testing" and self.numbers[i] != _NEVER_TESTED
            ]
            lowest = min(of_word, key=lambda i: hash_percent(_name(corpus.clips[i])))
            highest = max(of_word, key=lambda i: hash_percent(_name(corpus.clips[i])))
            if all(splits[i] == "validation" for i in of_word):
                splits[highest] = "training"
            elif all(splits[i] == "training" for i in of_word) and len(of_word) > 1:
                splits[lowest] = "validation"
        clips = [
            replace(clip, split=split) for clip, split in zip(corpus.clips, splits, strict=True)
        ]
        return replace(corpus, clips=(*clips, *also), split_by=_SPLIT_BY[self.by])


#: Keys of `SPLIT_RULES`.
_SPLIT_BY = {"speaker": "speaker", "take": "file"}


def make_folds(corpus: Corpus, count: int | None = None) -> Folds:
    """Divide a corpus by speaker, or by take where no word has two speakers that are known.

    The splits of the corpus do not matter. Without a number there are five folds, or as many as
    there are speakers or takes if those are fewer. Synthetic takes are in none.

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
    takes = _check_takes(corpus, real)
    speakers = {clip.speaker for clip in corpus.clips if clip.word in takes} - {""}
    if len(speakers) > 1:
        most = min(count or _USUAL, len(speakers))
        numbers, single = _by_speaker(corpus.clips, most), []
        # A word whose speakers are all in one fold would have no clip to train on there.
        for word in corpus.words:
            places = [i for i, clip in enumerate(corpus.clips) if clip.word == word]
            if len({numbers[i] for i in places}) == 1:
                single.append(word)
                dealt = _by_take([corpus.clips[i] for i in places], most)
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
    return Folds("take", count, _by_take(corpus.clips, count))


def _check_takes(corpus: Corpus, clips: Sequence[Clip]) -> dict[str, int]:
    """How many of the clips each word of the corpus has; fewer than three are an error."""
    takes = {clip.word: 0 for clip in corpus.clips if not clip.word.startswith("_")}
    for clip in clips:
        if clip.word in takes:
            takes[clip.word] += 1
    rare, fewest = min(takes.items(), key=lambda item: item[1])
    if fewest < _LEAST_TAKES:
        raise DataError(
            f"{corpus.root}: {fewest} recordings of {rare!r}; cross-validation needs at least "
            f"{_LEAST_TAKES} of each word"
        )
    return takes


def _by_speaker(clips: Sequence[Clip], count: int) -> list[int]:
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
    takes = _by_take(clips, count)
    return [fold_of.get(clip.speaker, take) for clip, take in zip(clips, takes, strict=True)]


def _by_take(clips: Sequence[Clip], count: int) -> tuple[int, ...]:
    """The takes of each word in the order of their names' hashes, dealt in turn."""
    folds = [0] * len(clips)
    places: dict[str, list[int]] = defaultdict(list)
    for place, clip in enumerate(clips):
        places[clip.word].append(place)
    for first, word in enumerate(sorted(places)):
        ordered = sorted(places[word], key=lambda i: (hash_percent(_name(clips[i])), clips[i].path))
        for turn, place in enumerate(ordered):
            folds[place] = (first + turn) % count
    return tuple(folds)


def _training_split(clip: Clip) -> str:
    """Validation for a tenth of the files by hash; other speech is all for training."""
    is_validation = not clip.word.startswith("_") and hash_split(_name(clip)) == "validation"
    return "validation" if is_validation else "training"


def _name(clip: Clip) -> str:
    return f"{clip.word}/{clip.path.name}"
