"""Protocols: the clips of a task in each split, and their labels.

The 12 classes are silence, unknown and the ten commands. Where TensorFlow's example defines them
(`v2-12`, `v1-12`: tensorflow/examples/speech_commands/input_data.py), each split, training too,
gets ceil(10 %) of its command clips as silence and as many clips of other words as unknown.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha1
from math import ceil
from pathlib import Path
from typing import NamedTuple

from speechgru.audio.files import probe, read
from speechgru.audio.samples import SAMPLE_RATE
from speechgru.common.threads import in_threads
from speechgru.common.wording import did_you_mean
from speechgru.corpora.background import cut_silence
from speechgru.corpora.corpus import SPLITS, Clip, Corpus, Example, Task
from speechgru.corpora.speaker_names import is_false_alarm
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import DataError, MissingWordsError, UsageError
from speechgru.labels import COMMANDS, NOT_WORDS, SILENCE, UNKNOWN

_NAMES_V1 = (
    "bed bird cat dog down eight five four go happy house left marvin nine no off on one right "
    "seven sheila six stop three tree two up wow yes zero"
)
WORDS_V1 = tuple(_NAMES_V1.split())
WORDS_V2 = tuple(sorted((*WORDS_V1, "backward", "follow", "forward", "learn", "visual")))

_NO_WORD = (SILENCE, UNKNOWN)
TWELVE = (*_NO_WORD, *COMMANDS)

_PROBED, _SHORTEST_S, _LONGEST_S = 300, 0.5, 5.0
#: A recording up to this length is a clip as it is; of a longer one, what is spoken in it is a
#: clip, with this margin before and after.
_WORD_S, _MARGIN_S = 1.2, 0.25

#: What remains of a false alarm's recording after its clip.
_AFTER_ALARM_S = 0.1

Examples = tuple[Example, ...]


def make_task(
    protocol: str, corpus: Corpus, seed: int = 0, words: Iterable[str] | None = None
) -> Task:
    """Apply a protocol to a corpus: the labels, and the examples of every split.

    The same corpus and seed give the same examples on every system. `words` restricts `folder` to
    some of the words, in that order; the others count as unknown. A split may be empty: then
    `Task.split` raises an error.

    Raises:
        UsageError: there is no such protocol, or `words` is given for another one than `folder`.
        DataError: the corpus lacks a word, or no split has a clip.
    """
    if protocol not in _RULES:
        hint = f"{did_you_mean(protocol, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}"
        raise UsageError(f"protocol {protocol!r} is unknown{hint}")
    if words is not None and protocol != "folder":
        raise UsageError(f"only protocol folder takes words; {protocol} has its own")
    description, labels, examples_of = _RULES[protocol]
    if protocol == "folder":
        labels += tuple(words) if words is not None else corpus.words
    _check(protocol, corpus, labels)
    splits = {split: examples_of(corpus, split, labels, seed) for split in SPLITS}
    if not any(splits.values()):
        raise DataError(f"{corpus.root}: protocol {protocol} finds no clips in any split")
    clip_s = _typical_length_s(corpus, labels[len(_NO_WORD) :]) if protocol == "folder" else 1.0
    source, hint = f"{corpus.root}", ""
    if protocol != "folder":
        source += f": {protocol}"
    elif corpus.split_by in ("file", "speaker"):
        hint = "; three recordings or more of each word are needed"
    elif corpus.split_by == "lists":
        hint = "".join(f"; {note}" for note in corpus.notes)
    return Task(protocol, labels, splits, clip_s, description, source, hint)


def _check(protocol: str, corpus: Corpus, labels: tuple[str, ...]) -> None:
    needed = [label for label in labels if label not in NOT_WORDS]
    if missing := [word for word in needed if word not in corpus.words]:
        raise MissingWordsError(
            f"{corpus.root}: protocol {protocol} needs {len(needed)} words; "
            f"there are no clips of {', '.join(missing)}"
        )
    if not needed or len(set(needed)) < len(needed):
        raise UsageError(f"words {', '.join(needed)}: at least one is needed, each once")
    if protocol in ("v2-12", "v1-12") and corpus.split_by == "archive":
        raise DataError(
            f"{corpus.root}: an official test archive has its own silence and unknown words; "
            f"{protocol} chooses them, so evaluate with protocol v2-12-official"
        )


def _all_words(corpus: Corpus, split: str, labels: tuple[str, ...], seed: int) -> Examples:
    """Each clip of a word, labelled with it."""
    wanted = frozenset(labels)
    return _labelled(clip for clip in corpus.split(split) if clip.word in wanted)


def unheard_speakers(corpus: Corpus) -> frozenset[str] | None:
    """Whose other speech must not train, as their words validate or test.

    None where the splits were given, so that they say what trains.
    """
    if corpus.split_by == "file":
        return frozenset()
    if corpus.split_by != "speaker":
        return None
    return frozenset(
        clip.speaker
        for clip in corpus.clips
        if clip.speaker and clip.split != "training" and not clip.word.startswith("_")
    )


def _folder(corpus: Corpus, split: str, labels: tuple[str, ...], seed: int) -> Examples:
    """Every word; for training also silence and other speech, which is not scored.

    Where files were split by speaker, whose words validate or test stays unheard; all other speech
    is for training, whatever its split.
    """
    spoken = labels[len(_NO_WORD) :]
    words = _all_words(corpus, split, spoken, seed)
    if split != "training":
        return words
    unheard = unheard_speakers(corpus)
    clips = [
        clip
        for clip in corpus.clips
        if clip.split == split
        or (unheard is not None and clip.word == UNKNOWN and clip.speaker not in unheard)
    ]
    others = (
        clip
        for clip in clips
        if (clip.word == UNKNOWN and not is_false_alarm(clip.path.as_posix()))
        or not (clip.word in labels or clip.word.startswith("_"))
    )
    clip_s = _typical_length_s(corpus, spoken)
    silence = _silence(corpus, split, tenth(words), seed, clip_s)
    alarms = tuple(_false_alarms(corpus, clip_s))
    return words + tuple(_cut_speech(others, clip_s)) + alarms + silence


def _tensorflow_12(corpus: Corpus, split: str, labels: tuple[str, ...], seed: int) -> Examples:
    """Unknown: a random 10 % of other words. Silence: zeros, in training cuts of noise."""
    clips = corpus.split(split)
    commands = _labelled(clip for clip in clips if clip.word in COMMANDS)
    count = tenth(commands)
    others = [clip for clip in clips if clip.word not in COMMANDS and not clip.word.startswith("_")]
    chosen = sorted(others, key=lambda clip: _random_key(seed, clip))[:count]
    noises = corpus.noises if split == "training" else ()
    return commands + _labelled(chosen, UNKNOWN) + cut_silence(noises, split, count, seed)


def _official_12(corpus: Corpus, split: str, labels: tuple[str, ...], seed: int) -> Examples:
    """Training and validation as in `v2-12`; testing only with an official test archive."""
    if corpus.split_by == "archive":
        return _commands_12(corpus, split, labels, seed) if split == "testing" else ()
    return () if split == "testing" else _tensorflow_12(corpus, split, labels, seed)


def _commands_12(corpus: Corpus, split: str, labels: tuple[str, ...], seed: int) -> Examples:
    """Unknown: all other words. Silence: `_silence_` if the split has it, else cuts of noise."""
    clips = corpus.split(split)
    commands = _labelled(clip for clip in clips if clip.word in COMMANDS)
    others = (clip for clip in clips if clip.word not in (*COMMANDS, SILENCE))
    silence = _silence(corpus, split, tenth(commands), seed)
    return commands + _labelled(others, UNKNOWN) + silence


def _silence(corpus: Corpus, split: str, count: int, seed: int, clip_s: float = 1.0) -> Examples:
    """The clips of `_silence_`; if the split has none, cuts of noise."""
    recorded = _labelled(clip for clip in corpus.split(split) if clip.word == SILENCE)
    return recorded or cut_silence(corpus.noises, split, count, seed, clip_s)


def _cut_speech(clips: Iterable[Clip], clip_s: float) -> Iterator[Example]:
    """Clips as `_unknown_`; a recording in `_unknown_/` of two clips' length or more is cut.

    Its pieces of `clip_s` follow each other; a rest at its end, shorter than a piece, is not used.

    Raises:
        DataError: a recording's header cannot be read.
    """
    for clip in clips:
        pieces = int(probe(clip.path).duration_s / clip_s) if clip.word == UNKNOWN else 1
        starts_s = [clip_s * piece for piece in range(pieces)] if pieces > 1 else [None]
        for start_s in starts_s:
            yield Example(clip.path, UNKNOWN, clip.word, clip.speaker, start_s)


def _false_alarms(corpus: Corpus, clip_s: float) -> Iterator[Example]:
    """What `review` filed as a false alarm, speech or noise, as `_unknown_`.

    All of it is for training. Of a recording that is longer than a clip, the end is taken: there
    the model took it for a word.

    Raises:
        DataError: a recording's header cannot be read.
    """
    paths = (*(clip.path for clip in corpus.clips if clip.word == UNKNOWN), *corpus.noises)
    for path in paths:
        if is_false_alarm(path.as_posix()):
            start_s = max(0.0, probe(path).duration_s - clip_s - _AFTER_ALARM_S)
            yield Example(path, UNKNOWN, UNKNOWN, "", start_s)


def tenth(examples: Examples) -> int:
    """How many clips of silence, and of unknown words, go with the clips of commands."""
    return ceil(len(examples) / 10)


class _Rule(NamedTuple):
    """A protocol; `folder` takes its words from the corpus."""

    description: str
    labels: tuple[str, ...]
    examples_of: Callable[[Corpus, str, tuple[str, ...], int], Examples]


_RULES = {
    "v2-35": _Rule("the 35 words of Speech Commands v0.02", WORDS_V2, _all_words),
    "v2-12": _Rule(
        "ten commands of v0.02, 10 % unknown words, 10 % digital silence (as in TensorFlow)",
        TWELVE,
        _tensorflow_12,
    ),
    "v2-12-official": _Rule(
        "trained as v2-12, tested on the official test archive",
        TWELVE,
        _official_12,
    ),
    "v1-30": _Rule("the 30 words of Speech Commands v0.01", WORDS_V1, _all_words),
    "v1-12": _Rule(
        "ten commands of v0.01, 10 % unknown words, 10 % digital silence (as in TensorFlow)",
        TWELVE,
        _tensorflow_12,
    ),
    "folder": _Rule("every word of a directory or manifest", _NO_WORD, _folder),
    "commands-12": _Rule(
        "ten commands, all other words as unknown, _silence_ or cuts of noise as silence",
        TWELVE,
        _commands_12,
    ),
}

#: The protocols by name, with descriptions.
PROTOCOLS = {name: rule.description for name, rule in _RULES.items()}


def _labelled(clips: Iterable[Clip], label: str | None = None) -> Examples:
    return tuple(Example(c.path, label or c.word, c.word, c.speaker) for c in clips)


def _random_key(seed: int, clip: Clip) -> str:
    """A key that sorts clips at random, the same on every system and for every format."""
    return sha1(f"{seed}/{clip.word}/{clip.speaker}/{clip.path.stem}".encode()).hexdigest()


def _typical_length_s(corpus: Corpus, words: tuple[str, ...]) -> float:
    """The 95 % quantile of the training clips' lengths, in steps of 0.1 s, of a few hundred clips.

    Of recordings that are longer than a word, only what is spoken counts, with a margin. Of fewer
    recordings the longest one counts: a quantile of so few would cut later ones.

    Raises:
        DataError: a recording cannot be read.
    """
    clips = [clip for clip in corpus.split("training") if clip.word in words] or corpus.clips
    count = min(len(clips), _PROBED)
    chosen = [clips[number * len(clips) // count] for number in range(count)]
    lengths_s = [probe(clip.path).duration_s for clip in chosen]
    length_s = _quantile_95(lengths_s)
    if length_s <= _WORD_S and count < _PROBED:
        length_s = min(max(lengths_s), _WORD_S)
    if length_s > _WORD_S:
        spoken_s = _quantile_95(in_threads(_spoken_s, [clip.path for clip in chosen[::3]]))
        length_s = min(length_s, spoken_s + 2 * _MARGIN_S)
    # A duration of a whole number of tenths must not be rounded up for its last bit.
    return min(max(ceil(length_s * 10 - 1e-6) / 10, _SHORTEST_S), _LONGEST_S)


def _quantile_95(lengths_s: Sequence[float]) -> float:
    """The 95 % quantile."""
    return sorted(lengths_s)[ceil(0.95 * len(lengths_s)) - 1]


def _spoken_s(path: Path) -> float:
    """Seconds from the start of the first word in a recording to the end of the last."""
    start_s, end_s = word_bounds_s(read(path), SAMPLE_RATE)
    return end_s - start_s
