"""What is wrong with a corpus: with single files, and with files taken together."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from speechgru.audio.files import CANCELLED_DB, max_recording_s
from speechgru.audio.samples import SAMPLE_RATE
from speechgru.common.progress import Progress
from speechgru.common.threads import in_threads
from speechgru.corpora.corpus import SPLIT_RULES, SPLITS, Clip, Corpus
from speechgru.corpora.fingerprint import name_in
from speechgru.corpora.guesses import layout_guesses
from speechgru.corpora.listing import Skipped
from speechgru.corpora.measured import Measured, measure
from speechgru.corpora.speaker_names import is_made, speaker_in_name
from speechgru.corpora.speakers import FEWEST_SPEAKERS

#: Below this peak (-60 dBFS) a clip is silent, as the recognizer gets it: mixed to one channel.
SILENT_PEAK = 1e-3
#: A clip is clipped where this share of its samples is at full scale.
CLIPPED_SHARE = 0.01
#: A clip's length is odd beyond this multiple, or under this fraction, of the median ...
ODD_LENGTH_FACTOR = 3.0
#: ... or if it is too short for any word.
SHORTEST_WORD_S = 0.1
#: A word needs at least this many clips in training.
FEW_CLIPS = 10
#: A recording without speech has a lower probability of it ...
SURELY_SPEECH = 0.9
#: ... and is found among this many others of its word, most of which have speech. A word may be a
#: whistle.
_FEWEST_OTHERS = 3
#: Somebody talks in a recording of noise if there is speech in this share of a few seconds.
TALK_SHARE = 0.5

#: Every kind of finding, in the order of a report, and what it is called there.
ERRORS = {
    "empty": "empty files (0 bytes)",
    "corrupt": "corrupt files",
    "no_samples": "recordings without a sample",
    "not_finite": "NaN or infinite samples",
    "not_scaled": "float samples far beyond 1",
    "too_long": "recordings too long to read",
    "two_labels": "same audio, two words",
    "two_splits": "same audio, two splits",
    "speaker_in_two_splits": "speakers in two splits",
    "empty_split": "empty splits",
}
WARNINGS = {
    "incomplete": "recordings that are not whole",
    "silent": "silent recordings",
    "no_speech": "recordings without speech",
    "talk_in_noise": "talk in background noise",
    "clipped": "clipped clips",
    "cut_off": "words cut off",
    "channels": "channels that differ",
    "odd_rate": "odd sample rates",
    "odd_length": "odd lengths",
    "repeated": "same audio, same word",
    "few_clips": "words with few clips",
    "not_in_split": "words not in a split",
    "split_by_file": "speakers unknown",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: its kind, a description, and the files concerned.

    Files inside the corpus have relative names.
    """

    kind: str
    detail: str
    files: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """ "error" if training or a figure would be wrong, "warning" if it might be."""
        return "error" if self.kind in ERRORS else "warning"

    def __str__(self) -> str:
        return ": ".join(filter(None, (" = ".join(self.files), self.detail)))


@dataclass(frozen=True)
class CheckReport:
    """All findings about a corpus, by kind in the order of `ERRORS` and `WARNINGS`.

    `guessed_speakers` were read off file names; `guesses` says what else could have been meant in
    another way; `skipped` lies among the recordings but is not used; `listened` is whether the
    words' recordings were searched for speech.
    """

    root: Path
    clips: int
    noises: int
    findings: tuple[Finding, ...]
    split_by: str = "lists"
    guessed_speakers: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    guesses: tuple[str, ...] = ()
    listened: bool = False

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of findings that are warnings."""
        return len(self.findings) - self.errors

    def by_kind(self) -> dict[str, tuple[Finding, ...]]:
        """The findings by kind, for kinds that have any."""
        kinds = ((kind, self._of(kind)) for kind in (*ERRORS, *WARNINGS))
        return {kind: findings for kind, findings in kinds if findings}

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "root": str(self.root),
            "clips": self.clips,
            "noises": self.noises,
            "split_by": self.split_by,
            "guessed_speakers": list(self.guessed_speakers),
            "guesses": list(self.guesses),
            "listened": self.listened,
            "skipped": [{"file": name, "reason": reason} for name, reason in self.skipped],
            "errors": self.errors,
            "warnings": self.warnings,
            "counts": {kind: len(self._of(kind)) for kind in (*ERRORS, *WARNINGS)},
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "files": list(finding.files),
                    "detail": finding.detail,
                }
                for finding in self.findings
            ],
        }

    def _of(self, kind: str) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.kind == kind)


class Listener(Protocol):
    """Hears whether there is speech in a recording; called from several threads."""

    def in_file(self, path: Path) -> float:
        """The probability that there is speech in a recording of a word."""

    def talk_in_file(self, path: Path) -> tuple[float, float]:
        """In the seconds with the most speech: its share, and where they start, in seconds."""


class _CheckedClip(NamedTuple):
    clip: Clip
    name: str
    measured: Measured


def check(
    corpus: Corpus,
    progress: Progress | None = None,
    listener: Listener | None = None,
) -> CheckReport:
    """Decode every recording, and report what is wrong with it or with the corpus.

    A bad file is a finding, never an exception. `_silence_` clips may be silent and of any length.

    Args:
        listener: hears whether there is speech in a recording; None: none is searched for it.

    Raises:
        DataError: `$SPEECHGRU_MAX_HOURS` is not a number of hours.
    """
    max_recording_s()
    noises = frozenset(corpus.noises)
    words = {clip.path for clip in corpus.clips if not clip.word.startswith("_")}
    files = (*(clip.path for clip in corpus.clips), *corpus.noises)

    def look_at(path: Path) -> Measured:
        measured = measure(path, path not in noises)
        if listener is None or measured.fault:
            return measured
        if path in noises:
            return measured._replace(talk=listener.talk_in_file(path))
        return measured._replace(speech=listener.in_file(path)) if path in words else measured

    measured = in_threads(look_at, files, progress)
    names = [name_in(corpus.root, path) for path in files]
    clips = [
        _CheckedClip(clip, name, of_file)
        for clip, name, of_file in zip(corpus.clips, names, measured, strict=False)
    ]
    findings = [
        *_faults(names, measured),
        *_duplicates(clips),
        *_words_as_noise(clips, names[len(clips) :], measured[len(clips) :]),
        *_speakers(corpus),
        *_splits(corpus),
        *_levels(clips),
        *_without_speech(clips),
        *_noises(names[len(clips) :], measured[len(clips) :]),
        *_outliers(clips),
        *_few_clips(corpus),
        *_not_in_split(corpus),
    ]
    order = {kind: position for position, kind in enumerate((*ERRORS, *WARNINGS))}
    findings.sort(key=lambda finding: order[finding.kind])
    return CheckReport(
        corpus.root,
        len(corpus.clips),
        len(corpus.noises),
        tuple(findings),
        corpus.split_by,
        corpus.guessed_speakers,
        corpus.skipped,
        layout_guesses(corpus),
        listener is not None,
    )


def _faults(names: Sequence[str], measured: Sequence[Measured]) -> Iterator[Finding]:
    for name, of_file in zip(names, measured, strict=True):
        if of_file.fault:
            yield Finding(of_file.fault, of_file.detail, (name,))
        if of_file.incomplete:
            yield Finding("incomplete", of_file.incomplete, (name,))


def _duplicates(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    """The same samples more than once, except silence."""
    same: dict[tuple[int, bytes], list[_CheckedClip]] = defaultdict(list)
    for checked in clips:
        if checked.measured.peak >= SILENT_PEAK:
            same[checked.measured.rate, checked.measured.digest].append(checked)
    for group in same.values():
        if len(group) == 1:
            continue
        names = tuple(checked.name for checked in group)
        words = sorted({checked.clip.word for checked in group})
        splits = [split for split in SPLITS if split in {c.clip.split for c in group}]
        if len(words) > 1:
            yield Finding("two_labels", " and ".join(words), names)
        if len(splits) > 1:
            yield Finding("two_splits", " and ".join(splits), names)
        if len(words) == len(splits) == 1:
            yield Finding("repeated", "", names)


def _words_as_noise(
    clips: Sequence[_CheckedClip], names: Sequence[str], noises: Sequence[Measured]
) -> Iterator[Finding]:
    """Recordings of a word that are also background noise, in which no word must be recognized."""
    by_sound = {(c.measured.rate, c.measured.digest): c for c in clips if not c.measured.fault}
    for name, noise in zip(names, noises, strict=True):
        same = by_sound.get((noise.rate, noise.digest))
        if same is not None and noise.peak >= SILENT_PEAK and not same.clip.word.startswith("_"):
            detail = f"{same.clip.word} and background noise"
            yield Finding("two_labels", detail, (same.name, name))


def _speakers(corpus: Corpus) -> Iterator[Finding]:
    if corpus.split_by == "file":
        # A few people's own words, by their names, are no fault.
        words = [clip for clip in corpus.clips if not clip.word.startswith("_")]
        told = {clip.speaker or speaker_in_name(clip.path.name, clip.word) for clip in words}
        names = {name.casefold() for name in told if not is_made(name)}
        if "" in names or len(names) >= FEWEST_SPEAKERS:
            yield Finding("split_by_file", SPLIT_RULES["file"])
        return
    clips: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in corpus.clips:
        if clip.speaker:
            clips[clip.speaker][clip.split] += 1
    for speaker, counts in sorted(clips.items()):
        if len(counts) > 1:
            shares = ", ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
            yield Finding("speaker_in_two_splits", f"{speaker}: {shares}")


def _splits(corpus: Corpus) -> Iterator[Finding]:
    if corpus.split_by == "archive":
        return
    for split in SPLITS:
        if not corpus.split(split):
            yield Finding("empty_split", f"{split}: no clips")


def _levels(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    for clip, name, measured in clips:
        if measured.fault or clip.word.startswith("_"):
            continue
        if measured.lost_db >= CANCELLED_DB:
            channel = f"channel {measured.loudest_channel}"
            yield Finding(
                "channels",
                f"their average is {measured.lost_db:.0f} dB quieter than {channel} alone",
                (name,),
            )
        yield from _silent(name, measured)
        if measured.clipped_share >= CLIPPED_SHARE:
            share = f"{measured.clipped_share:.1%} of the samples at full scale"
            yield Finding("clipped", share, (name,))
        if measured.cut_off:
            yield Finding("cut_off", " and ".join(measured.cut_off), (name,))


def _silent(name: str, measured: Measured) -> Iterator[Finding]:
    if measured.peak < SILENT_PEAK:
        peak_db = 20 * np.log10(measured.peak) if measured.peak else 0.0
        yield Finding("silent", f"peak {peak_db:.0f} dBFS" if peak_db else "all zeros", (name,))


def _without_speech(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    """Recordings of a word that hold something else, where most of the word's hold speech."""
    heard: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for clip, name, measured in clips:
        if measured.speech is not None and measured.peak >= SILENT_PEAK:
            heard[clip.word].append((name, measured.speech))
    for of_word in heard.values():
        without = [(name, speech) for name, speech in of_word if speech < SURELY_SPEECH]
        if len(of_word) - len(without) >= max(_FEWEST_OTHERS, len(without)):
            for name, speech in without:
                detail = f"speech with a probability of {speech:.0%}"
                yield Finding("no_speech", detail, (name,))


def _noises(names: Sequence[str], measured: Sequence[Measured]) -> Iterator[Finding]:
    """Background recordings that hold nothing, or talk: they are trained as silence."""
    for name, of_file in zip(names, measured, strict=True):
        if not of_file.fault:
            yield from _silent(name, of_file)
            share, start_s = of_file.talk
            if share >= TALK_SHARE and of_file.peak >= SILENT_PEAK:
                detail = f"from {start_s:.0f} s on; talk belongs in _unknown_"
                yield Finding("talk_in_noise", detail, (name,))


def _outliers(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    """Rates and lengths that differ from those of most clips."""
    words = [c for c in clips if not c.measured.fault and not c.clip.word.startswith("_")]
    if not words:
        return
    rate = Counter(checked.measured.rate for checked in words).most_common(1)[0][0]
    median_s = float(np.median([checked.measured.duration_s for checked in words]))
    for _clip, name, measured in words:
        if measured.rate != rate and min(measured.rate, rate) < SAMPLE_RATE:
            yield Finding("odd_rate", f"{measured.rate} Hz; most have {rate} Hz", (name,))
        ratio = measured.duration_s / median_s
        if measured.duration_s < SHORTEST_WORD_S:
            length = f"{measured.duration_s:.2f} s; a word lasts {SHORTEST_WORD_S:g} s or more"
            yield Finding("odd_length", length, (name,))
        elif not 1 / ODD_LENGTH_FACTOR <= ratio <= ODD_LENGTH_FACTOR:
            length = f"{measured.duration_s:.2f} s; the median is {median_s:.2f} s"
            yield Finding("odd_length", length, (name,))


def _few_clips(corpus: Corpus) -> Iterator[Finding]:
    """Words with few real takes: of all, where a part of them is set apart for the user."""
    if not corpus.split("training"):
        return
    set_apart = corpus.split_by == "file"
    clips = corpus.clips if set_apart else corpus.split("training")
    takes = Counter(clip.word for clip in clips if not is_made(clip.speaker))
    made = Counter(clip.word for clip in clips if is_made(clip.speaker))
    where = "in all" if set_apart else "in training"
    for word in corpus.words:
        if takes[word] < FEW_CLIPS:
            besides = f", besides {made[word]} synthetic" if made[word] else ""
            yield Finding("few_clips", f"{word}: {takes[word]} {where}{besides}")


def _not_in_split(corpus: Corpus) -> Iterator[Finding]:
    """Words that a split cannot validate or test, though it has clips of others."""
    words = {split: {clip.word for clip in corpus.split(split)} for split in SPLITS[1:]}
    for word in corpus.words if corpus.split("training") else ():
        if lacking := [split for split in words if words[split] and word not in words[split]]:
            yield Finding("not_in_split", f"{word}: no clip in {' or '.join(lacking)}")
