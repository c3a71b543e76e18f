"""What is wrong with a corpus: its files one by one, and what they are to each other."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechgru.audio.files import blocks, probe
from speechgru.common.progress import Progress
from speechgru.common.threads import in_threads
from speechgru.corpora.corpus import SPLIT_RULES, SPLITS, Clip, Corpus
from speechgru.corpora.fingerprint import name_in
from speechgru.errors import DataError

#: Below this peak (-60 dBFS) a clip is silent.
SILENT_PEAK = 1e-3
#: A clip is clipped where this share of its samples is at full scale.
CLIPPED_SHARE = 0.01
FULL_SCALE = 0.999
#: A clip is odd in length beyond this multiple, or under this fraction, of the median.
ODD_LENGTH_FACTOR = 3.0
#: A word with fewer clips in training than this is hardly learned.
FEW_CLIPS = 10

#: Every kind of finding, in the order of a report, and how it is called.
ERRORS = {
    "empty": "empty files (0 bytes)",
    "corrupt": "corrupt files",
    "no_samples": "recordings without a sample",
    "not_finite": "NaN or infinite samples",
    "two_labels": "same audio, two words",
    "two_splits": "same audio, two splits",
    "speaker_in_two_splits": "speakers in two splits",
    "empty_split": "empty splits",
}
WARNINGS = {
    "silent": "silent clips",
    "clipped": "clipped clips",
    "odd_rate": "odd sample rates",
    "odd_length": "odd lengths",
    "repeated": "same audio, same word",
    "few_clips": "words with few clips",
    "split_by_file": "speakers unknown",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: its kind, a clause that tells it, the files it is about.

    Files are relative to the corpus where they lie in it.
    """

    kind: str
    detail: str
    files: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """Whether training or a figure would be spoilt ("error"), or might be ("warning")."""
        return "error" if self.kind in ERRORS else "warning"

    def __str__(self) -> str:
        return ": ".join(filter(None, (" = ".join(self.files), self.detail)))


@dataclass(frozen=True)
class CheckReport:
    """Everything that was found in a corpus, by kind in the order of `ERRORS` and `WARNINGS`."""

    root: Path
    clips: int
    noises: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return len(self.findings) - self.errors

    def by_kind(self) -> dict[str, tuple[Finding, ...]]:
        """The findings of each kind that has any."""
        kinds = ((kind, self._of(kind)) for kind in (*ERRORS, *WARNINGS))
        return {kind: findings for kind, findings in kinds if findings}

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "root": str(self.root),
            "clips": self.clips,
            "noises": self.noises,
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


class _Heard(NamedTuple):
    """What one file holds; `fault` is a kind of error where it cannot be used."""

    fault: str = ""
    detail: str = ""
    rate: int = 0
    duration_s: float = 0.0
    peak: float = 0.0
    clipped_share: float = 0.0
    digest: bytes = b""


def check(corpus: Corpus, progress: Progress | None = None) -> CheckReport:
    """Decode every recording and tell what is wrong with it, or with the whole.

    A bad file is a finding, never an exception. `_silence_` clips may be silent and of any length.
    """
    files = (*(clip.path for clip in corpus.clips), *corpus.noises)
    heard = in_threads(_hear, files, progress)
    named = [name_in(corpus.root, path) for path in files]
    clips = [
        _CheckedClip(clip, name, sound)
        for clip, name, sound in zip(corpus.clips, named, heard, strict=False)
    ]
    found = [
        *_faults(named, heard),
        *_duplicates(clips),
        *_speakers(corpus),
        *_splits(corpus),
        *_levels(clips),
        *_outliers(clips),
        *_few(corpus),
    ]
    order = {kind: position for position, kind in enumerate((*ERRORS, *WARNINGS))}
    found.sort(key=lambda finding: order[finding.kind])
    return CheckReport(corpus.root, len(corpus.clips), len(corpus.noises), tuple(found))


class _CheckedClip(NamedTuple):
    clip: Clip
    name: str
    heard: _Heard


def _hear(path: Path) -> _Heard:
    digest = hashlib.blake2b(digest_size=16)
    samples = bad = clipped = values = rate = 0
    peak = 0.0
    try:
        for frames, block_rate in blocks(path):
            rate, mono, level = block_rate, frames.mean(axis=1), np.abs(frames)
            bad += int(np.count_nonzero(~np.isfinite(mono)))
            samples, values = samples + len(mono), values + level.size
            peak = max(peak, float(level.max()))
            clipped += int(np.count_nonzero(level >= FULL_SCALE))
            digest.update(mono.tobytes())
    except DataError as error:
        return _Heard(_fault(path), str(error).removeprefix(f"{path}: "))
    if bad:
        return _Heard("not_finite", f"{bad:,} of {samples:,} samples are not finite")
    return _Heard(
        rate=rate,
        duration_s=samples / rate,
        peak=peak,
        clipped_share=clipped / values,
        digest=digest.digest(),
    )


def _fault(path: Path) -> str:
    """Which kind of error a file is that cannot be decoded."""
    if path.is_file() and path.stat().st_size == 0:
        return "empty"
    try:
        return "corrupt" if probe(path).frames else "no_samples"
    except DataError:
        return "corrupt"


def _faults(names: Sequence[str], heard: Sequence[_Heard]) -> Iterator[Finding]:
    for name, sound in zip(names, heard, strict=True):
        if sound.fault:
            yield Finding(sound.fault, sound.detail, (name,))


def _duplicates(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    """The same samples more than once; silence is like silence and does not count."""
    same: dict[tuple[int, bytes], list[_CheckedClip]] = defaultdict(list)
    for checked in clips:
        if checked.heard.peak >= SILENT_PEAK:
            same[checked.heard.rate, checked.heard.digest].append(checked)
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


def _speakers(corpus: Corpus) -> Iterator[Finding]:
    if corpus.split_by == "file":
        yield Finding("split_by_file", SPLIT_RULES["file"])
        return
    clips: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in corpus.clips:
        if clip.speaker:
            clips[clip.speaker][clip.split] += 1
    for speaker, counts in sorted(clips.items()):
        if len(counts) > 1:
            told = ", ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
            yield Finding("speaker_in_two_splits", f"{speaker}: {told}")


def _splits(corpus: Corpus) -> Iterator[Finding]:
    if corpus.split_by == "archive":
        return
    for split in SPLITS:
        if not corpus.split(split):
            yield Finding("empty_split", f"{split}: no clips")


def _levels(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    for clip, name, heard in clips:
        if heard.fault or clip.word.startswith("_"):
            continue
        if heard.peak < SILENT_PEAK:
            told = f"peak {20 * np.log10(heard.peak):.0f} dBFS" if heard.peak else "all zeros"
            yield Finding("silent", told, (name,))
        if heard.clipped_share >= CLIPPED_SHARE:
            told = f"{heard.clipped_share:.1%} of the samples at full scale"
            yield Finding("clipped", told, (name,))


def _outliers(clips: Sequence[_CheckedClip]) -> Iterator[Finding]:
    """Rates and lengths that stand out from those of most clips."""
    usual = [c for c in clips if not c.heard.fault and not c.clip.word.startswith("_")]
    if not usual:
        return
    rate = Counter(checked.heard.rate for checked in usual).most_common(1)[0][0]
    median_s = float(np.median([checked.heard.duration_s for checked in usual]))
    for _clip, name, heard in usual:
        if heard.rate != rate:
            yield Finding("odd_rate", f"{heard.rate} Hz; most have {rate} Hz", (name,))
        ratio = heard.duration_s / median_s
        if not 1 / ODD_LENGTH_FACTOR <= ratio <= ODD_LENGTH_FACTOR:
            told = f"{heard.duration_s:.2f} s; the median is {median_s:.2f} s"
            yield Finding("odd_length", told, (name,))


def _few(corpus: Corpus) -> Iterator[Finding]:
    training = Counter(clip.word for clip in corpus.split("training"))
    if not training:
        return
    for word in corpus.words:
        if training[word] < FEW_CLIPS:
            yield Finding("few_clips", f"{word}: {training[word]} in training")
