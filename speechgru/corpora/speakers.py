"""Speakers, and the split of each, which few recordings that are added change."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from speechgru.corpora.copies import originals
from speechgru.corpora.corpus import SPLITS, Clip, sorted_words
from speechgru.corpora.speaker_names import (
    NOHASH,
    NUMBERED,
    NUMBERED_SPEAKERS,
    is_false_alarm,
    is_made,
    speaker_in_name,
)

_HASHES = 2**27
#: So many speakers are split by speaker, and three of them train; of fewer, each is in every split.
FEWEST_SPEAKERS = 5


class Recording(NamedTuple):
    """A recording before it has a split; `name` is its path as the corpus spells it.

    `speaker` is what a folder or a manifest says; where it is empty, the file's name may tell.
    """

    path: Path
    name: str
    word: str
    speaker: str = ""


class Split(NamedTuple):
    """Clips with their splits; the rule, a key of `SPLIT_RULES`; whether it rests on file names."""

    clips: tuple[Clip, ...]
    rule: str
    is_guess: bool


def hash_percent(name: str) -> float:
    """Where a name lies in [0, 100]: SHA-1 modulo 2^27, as in Speech Commands (Warden, 2018)."""
    number = int.from_bytes(sha1(name.encode(), usedforsecurity=False).digest())
    return number % _HASHES * (100.0 / (_HASHES - 1))


def hash_split(name: str) -> str:
    """The split of a name by its hash: 10 % validation, 10 % testing, the rest training."""
    percent = hash_percent(name)
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def split_recordings(recordings: Sequence[Recording]) -> Split:
    """Give each recording its split by the hash of its speaker.

    Where fewer than five speakers are known ("file"), as of four only two would train, the files of
    each word are split instead, by the hash of their names. Synthetic speakers and reviewed
    false alarms are for training, and do not count, unless there are no others.
    """
    names = [r.speaker or speaker_in_name(r.name, r.word) for r in recordings]
    for_training = [
        is_made(name) or is_false_alarm(r.name) for r, name in zip(recordings, names, strict=True)
    ]
    real = [r for r, trains in zip(recordings, for_training, strict=True) if not trains]
    if len(real) in (0, len(recordings)):
        return _split_recordings(recordings)
    split = _split_recordings(real)
    rest = iter(split.clips)
    clips = tuple(
        Clip(r.path, r.word, name, "training") if trains else next(rest)
        for r, name, trains in zip(recordings, names, for_training, strict=True)
    )
    return split._replace(clips=clips)


def _split_recordings(recordings: Sequence[Recording]) -> Split:
    speakers = _speakers(recordings)
    words: dict[str, set[str]] = defaultdict(set)
    for recording, speaker in zip(recordings, speakers, strict=True):
        if speaker:
            words[speaker].add(recording.word)
    fewest = len(SPLITS) if all(map(is_made, words)) else FEWEST_SPEAKERS
    if len(words) >= fewest:
        unknown = [r for r, speaker in zip(recordings, speakers, strict=True) if not speaker]
        takes = Counter(
            speaker
            for r, speaker in zip(recordings, speakers, strict=True)
            if speaker and not r.word.startswith("_")
        )
        splits = _with_most(split_speakers(words), words, takes)
        files, rule = _split_files(unknown), "speaker"
    else:
        files, splits, rule = _split_files(recordings), {}, "file"
    clips = tuple(
        Clip(r.path, r.word, speaker, files.get(r.name) or splits[speaker])
        for r, speaker in zip(recordings, speakers, strict=True)
    )
    guessed = any(
        speaker and not r.speaker and NOHASH not in r.name
        for r, speaker in zip(recordings, speakers, strict=True)
    )
    return Split(clips, rule, guessed)


def split_speakers(words_of: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Speaker -> split, by hash, given the words of each.

    Where the hash leaves a split without a speaker (there are few), it takes those that their
    splits can spare: the speakers with most of the words it lacks, the lowest hash first, until it
    has every word that three speakers have. Fewer than three speakers are all training. A word that
    would be missing in training gets a speaker there, and if no split loses a word by it, at least
    half of the speakers are training.
    """
    if len(words_of) < len(SPLITS):
        return dict.fromkeys(words_of, "training")
    splits = {speaker: hash_split(speaker) for speaker in words_of}
    if len(set(splits.values())) == len(SPLITS):
        return _with_half(_with_training(splits, words_of), words_of)
    order = sorted(words_of, key=lambda speaker: (hash_percent(speaker), speaker))
    splits = {speaker: splits[speaker] for speaker in order}
    counts = Counter(word for speaker in order for word in set(words_of[speaker]))
    common = {
        speaker: {word for word in words_of[speaker] if counts[word] >= len(SPLITS)}
        for speaker in order
    }
    for split in SPLITS:
        if split not in splits.values():
            _fill(split, splits, common)
    return _with_half(splits, words_of)


def _with_training(
    splits: dict[str, str], words_of: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """The same splits, but each word that has no speaker in training gets one of its speakers.

    Never one that is alone in a split.
    """
    for word in sorted({word for words in words_of.values() for word in words}):
        speakers = [speaker for speaker, words in words_of.items() if word in words]
        if any(splits[speaker] == "training" for speaker in speakers):
            continue
        counts = Counter(splits.values())
        spared = [speaker for speaker in speakers if counts[splits[speaker]] > 1]
        if spared:
            splits[min(spared, key=lambda s: (hash_percent(s), s))] = "training"
    return splits


def _with_half(splits: dict[str, str], words_of: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The same splits, but of few speakers, whose hashes may agree, at least half are training.

    Moved are those with the highest hashes, whose splits keep their words without them.
    """
    order = sorted(splits, key=lambda speaker: (-hash_percent(speaker), speaker))
    for speaker in order:
        if 2 * list(splits.values()).count("training") >= len(splits):
            break
        others = [s for s in splits if splits[s] == splits[speaker] and s != speaker]
        remaining = {word for s in others for word in words_of[s]}
        if splits[speaker] != "training" and others and remaining >= set(words_of[speaker]):
            splits[speaker] = "training"
    return splits


def _with_most(
    splits: dict[str, str], words_of: Mapping[str, Collection[str]], takes: Mapping[str, int]
) -> dict[str, str]:
    """The same splits, but not most of all words' takes by somebody who does not train.

    Unless half of the takes train, who has most of the others changes places with somebody who
    trains and has less than half as many, where neither split loses a word.
    """
    splits = dict(splits)

    def words_in(split: str, leaves: str, comes: str) -> set[str]:
        speakers = [s for s in splits if splits[s] == split and s != leaves]
        return {word for speaker in (*speakers, comes) for word in words_of[speaker]}

    def may_change(most: str, other: str) -> bool:
        kept = words_in("training", other, most) >= set(words_of[other])
        return kept and words_in(splits[most], most, other) >= set(words_of[most])

    while True:
        training = [speaker for speaker, split in splits.items() if split == "training"]
        pairs = [
            (takes[most], -takes[other], most, other)
            for most in splits
            if splits[most] != "training"
            for other in training
            if 0 < 2 * takes[other] < takes[most] and may_change(most, other)
        ]
        if not pairs or 2 * sum(takes[speaker] for speaker in training) >= sum(takes.values()):
            return splits
        *_, most, other = max(pairs)
        splits[most], splits[other] = "training", splits[most]


def _fill(split: str, splits: dict[str, str], words: dict[str, set[str]]) -> None:
    """Move speakers into an empty split; theirs keeps a speaker and, if possible, its words."""

    def is_spared(speaker: str, strictly: bool) -> bool:
        others = [s for s in splits if splits[s] == splits[speaker] and s != speaker]
        remaining = set().union(*(words[s] for s in others))
        keeps_words = words[speaker] <= remaining or not strictly
        return splits[speaker] != split and bool(others) and keeps_words

    missing = set().union(*words.values())
    while True:
        candidates = [s for s in splits if is_spared(s, strictly=True)]
        if split not in splits.values():
            candidates = candidates or [s for s in splits if is_spared(s, strictly=False)]
        best = max(candidates, key=lambda s: len(words[s] & missing), default=None)
        if best is None or (split in splits.values() and not words[best] & missing):
            return
        splits[best] = split
        missing -= words[best]


def _split_files(recordings: Sequence[Recording]) -> dict[str, str]:
    """File name -> split; each word is split on its own, so that every split has it.

    Copies are where the original is, if it is there.
    """
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for recording in recordings:
        stems[recording.word][recording.name] = recording.name.rpartition(".")[0]
    splits = {}
    for word, names in stems.items():
        takes = originals(names.values())
        of_takes = split_speakers({take: {word} for take in takes.values()})
        splits.update({name: of_takes[takes[stem]] for name, stem in names.items()})
    return splits


def _speakers(recordings: Sequence[Recording]) -> list[str]:
    """The speaker of each recording, "" where it is unknown.

    Names are believed if at least half of the recordings that depend on them then have speakers
    with two words or more: not those in `yes/yes_1.wav` and `yes/7f3a.wav`. Of a single word they
    need three speakers with two recordings or more.
    """
    guesses = _without_takes(
        [r.speaker or speaker_in_name(r.name, r.word) for r in recordings],
        [bool(r.speaker) or NOHASH in r.name for r in recordings],
    )
    unsure = [
        (guess.casefold(), r.word)
        for r, guess in zip(recordings, guesses, strict=True)
        if not r.speaker and NOHASH not in r.name
    ]
    takes = Counter(guess for guess, _ in unsure)
    words = Counter(guess for guess, _ in set(unsure))
    is_single = len(sorted_words(r.word for r in recordings)) == 1
    repeated, least = (takes, len(SPLITS)) if is_single else (words, 1)
    speakers = [guess for guess in words if guess and repeated[guess] > 1]
    plausible = sum(takes[guess] for guess in speakers)
    believed = 2 * plausible >= len(unsure) and len(words) > 1 and len(speakers) >= least
    spellings = _spellings(guesses)
    return [
        guess
        if NOHASH in r.name
        else spellings.get(guess.casefold(), "") * (believed or bool(r.speaker))
        for r, guess in zip(recordings, guesses, strict=True)
    ]


def _without_takes(guesses: Sequence[str], are_known: Sequence[bool]) -> list[str]:
    """The guesses, but "anna1" is "anna" where there is one, or "anna2": one speaker, not two.

    With "anna2", only if three speakers are left then: "child1" and "child2" may be all there are.
    """
    folded = {guess.casefold() for guess in guesses}
    numbered = {guess: NUMBERED.fullmatch(guess) for guess in folded}
    numbers_of: dict[str, set[str]] = defaultdict(set)
    for guess, match in numbered.items():
        numbers_of[match[1] if match else guess].add(guess)
    several = {
        name
        for name, spelled in numbers_of.items()
        if name in folded
        or (len(numbers_of) >= len(SPLITS) and len(spelled) > 1 and name not in NUMBERED_SPEAKERS)
    }
    found = []
    for guess, is_known in zip(guesses, are_known, strict=True):
        match = None if is_known else NUMBERED.fullmatch(guess)
        is_take = match is not None and match[1].casefold() in several
        found.append(match[1] if match and is_take else guess)
    return found


def _spellings(names: Sequence[str]) -> dict[str, str]:
    """The most common spelling of each name: Anna, anna and ANNA are one speaker."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        counts[name.casefold()][name] += 1
    return {
        folded: min(spellings, key=lambda name: (-spellings[name], name))
        for folded, spellings in counts.items()
    }
