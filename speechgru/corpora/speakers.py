"""Who speaks, and into which split: a speaker never changes it when recordings are added."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from speechgru.corpora.corpus import SPLITS, Clip
from speechgru.corpora.listing import label

NOHASH = "_nohash_"
_HASHES = 2**27


class Found(NamedTuple):
    """A recording before it has a split; `name` is its path as the corpus spells it.

    `speaker` is what a folder or a manifest says; where it is empty, the file's name may tell.
    """

    path: Path
    name: str
    word: str
    speaker: str = ""


def hash_percent(name: str) -> float:
    """Where a name lies in [0, 100]: SHA-1 modulo 2^27, as in Speech Commands (Warden, 2018)."""
    number = int.from_bytes(sha1(name.encode(), usedforsecurity=False).digest())
    return number % _HASHES * (100.0 / (_HASHES - 1))


def hash_split(name: str) -> str:
    """The split of a name by its hash: 10 % validation, 10 % testing, the rest training."""
    percent = hash_percent(name)
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def split_found(found: Sequence[Found]) -> tuple[tuple[Clip, ...], str]:
    """Give each recording its split by the hash of its speaker; the clips, and the rule used.

    Where fewer than three speakers can be told apart ("file"), each word's files are split
    instead, by the hash of their names.
    """
    speakers = _speakers(found)
    said: dict[str, set[str]] = defaultdict(set)
    for recording, speaker in zip(found, speakers, strict=True):
        if speaker:
            said[speaker].add(recording.word)
    if len(said) >= len(SPLITS):
        files = _split_files([r for r, s in zip(found, speakers, strict=True) if not s])
        splits, rule = share_out(said), "speaker"
    else:
        files, splits, rule = _split_files(found), {}, "file"
    clips = (
        Clip(r.path, r.word, speaker, files.get(r.name) or splits[speaker])
        for r, speaker in zip(found, speakers, strict=True)
    )
    return tuple(clips), rule


def share_out(said: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Speaker -> split, by hash, given the words that each has said.

    Where the hash leaves a split without a speaker (there are few), it takes those whom their
    splits can spare: who says most of the words it lacks, the lowest hash first, until it has
    every word that three speakers say. Fewer than three speakers are all training.
    """
    if len(said) < len(SPLITS):
        return dict.fromkeys(said, "training")
    splits = {speaker: hash_split(speaker) for speaker in said}
    if len(set(splits.values())) == len(SPLITS):
        return _with_training(splits, said)
    order = sorted(said, key=lambda speaker: (hash_percent(speaker), speaker))
    splits = {speaker: splits[speaker] for speaker in order}
    counts = Counter(word for speaker in order for word in set(said[speaker]))
    words = {speaker: {w for w in said[speaker] if counts[w] >= len(SPLITS)} for speaker in order}
    for split in SPLITS:
        if split not in splits.values():
            _fill(split, splits, words)
    return splits


def _with_training(splits: dict[str, str], said: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The same splits, but for words that nobody in training says: one of their speakers trains.

    Not one whose split would be left without a speaker.
    """
    for word in sorted({word for words in said.values() for word in words}):
        speakers = [speaker for speaker, words in said.items() if word in words]
        if any(splits[speaker] == "training" for speaker in speakers):
            continue
        counts = Counter(splits.values())
        spared = [speaker for speaker in speakers if counts[splits[speaker]] > 1]
        if spared:
            splits[min(spared, key=lambda s: (hash_percent(s), s))] = "training"
    return splits


def _fill(split: str, splits: dict[str, str], words: dict[str, set[str]]) -> None:
    """Move speakers into an empty split, so that theirs keeps someone and, if it can, its words."""

    def spared(speaker: str, strictly: bool) -> bool:
        rest = [s for s in splits if splits[s] == splits[speaker] and s != speaker]
        kept = set().union(*(words[s] for s in rest))
        return splits[speaker] != split and bool(rest) and (words[speaker] <= kept or not strictly)

    lacking = set().union(*words.values())
    while True:
        candidates = [s for s in splits if spared(s, strictly=True)]
        if split not in splits.values():
            candidates = candidates or [s for s in splits if spared(s, strictly=False)]
        best = max(candidates, key=lambda s: len(words[s] & lacking), default=None)
        if best is None or (split in splits.values() and not words[best] & lacking):
            return
        splits[best] = split
        lacking -= words[best]


def _split_files(found: Sequence[Found]) -> dict[str, str]:
    """File name -> split; each word is shared out on its own, so that no split lacks it."""
    stems: dict[str, dict[str, str]] = defaultdict(dict)
    for recording in found:
        stems[recording.word][recording.name] = recording.name.rpartition(".")[0]
    splits = {}
    for word, names in stems.items():
        shared = share_out({stem: {word} for stem in names.values()})
        splits.update({name: shared[stem] for name, stem in names.items()})
    return splits


def _speakers(found: Sequence[Found]) -> list[str]:
    """The speaker of each recording, "" where nobody can tell.

    Names are believed where at least half of the recordings that depend on them seem to be by
    speakers who say two words or more; `yes/yes_1.wav` and `yes/7f3a.wav` tell of none.
    """
    guesses = [r.speaker or speaker_in_name(r.name, r.word) for r in found]
    unsure = [
        (guess, r.word)
        for r, guess in zip(found, guesses, strict=True)
        if not r.speaker and NOHASH not in r.name
    ]
    words: dict[str, set[str]] = defaultdict(set)
    for guess, word in unsure:
        words[guess].add(word)
    telling = sum(bool(guess) and len(words[guess]) > 1 for guess, _ in unsure)
    believed = 2 * telling >= len(unsure) and len(words) > 1
    return [
        guess if believed or r.speaker or NOHASH in r.name else ""
        for r, guess in zip(found, guesses, strict=True)
    ]


def speaker_in_name(name: str, word: str) -> str:
    """Whom a file's name seems to tell: `anna_3.wav`, `yes-anna-3.wav`, `anna.wav`; else "".

    That is what stands before `_nohash_`, else before the first `_` or `-`, the word itself left
    out; a mere number is nobody.
    """
    stem = label(name.rpartition("/")[2].rpartition(".")[0])
    before, nohash, _ = stem.partition(NOHASH)
    if nohash:
        return before
    separated = re.split("[_-]", stem.removeprefix(f"{word}_").removeprefix(f"{word}-"))
    if len(separated) == 1 and (separated[0].isdigit() or separated[0] == word):
        return ""
    return separated[0]
