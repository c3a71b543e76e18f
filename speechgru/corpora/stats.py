"""How much a corpus holds: clips, speakers, hours, durations and rates by word and split."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechgru.audio.files import AudioInfo, probe
from speechgru.common.progress import Progress
from speechgru.common.threads import in_threads
from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.guesses import layout_guesses
from speechgru.corpora.listing import Skipped
from speechgru.corpora.speaker_names import is_made
from speechgru.errors import DataError

_Readable = tuple[Clip, AudioInfo]
#: Of so many speakers each is counted.
_MOST_SPEAKERS = 12


@dataclass(frozen=True)
class Summary:
    """Some clips taken together; durations are in seconds, `rates` counts clips by hertz."""

    clips: int
    speakers: int
    hours: float
    min_s: float
    median_s: float
    max_s: float
    rates: dict[int, int]


@dataclass(frozen=True)
class CorpusStats:
    """A corpus in numbers, by split and by word and split; the split "all" has all clips.

    Words and splits without clips are missing; `_silence_` counts as a word. Files that are
    `unreadable` are not counted anywhere else. `speakers` has the clips of each by split; of more
    than a dozen it is empty.
    """

    root: Path
    layout: str
    split_by: str
    splits: dict[str, Summary]
    words: dict[str, dict[str, Summary]]
    noises: int
    noise_hours: float
    unreadable: tuple[str, ...]
    guessed_speakers: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    guesses: tuple[str, ...] = ()
    speakers: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        skipped = [{"file": name, "reason": reason} for name, reason in self.skipped]
        return asdict(self) | {"root": str(self.root), "skipped": skipped}


def stats(corpus: Corpus, progress: Progress | None = None) -> CorpusStats:
    """Count and measure all recordings by their headers; nothing is decoded.

    Raises:
        DataError: no recording can be read.
    """
    paths = [*(clip.path for clip in corpus.clips), *corpus.noises]
    infos = in_threads(_probe, paths, progress)
    pairs = zip(corpus.clips, infos, strict=False)
    readable = [(clip, info) for clip, info in pairs if info is not None]
    if not readable:
        raise DataError(f"{corpus.root}: none of its {len(corpus.clips)} recordings can be read")
    by_word: dict[str, list[_Readable]] = defaultdict(list)
    for clip, info in readable:
        by_word[clip.word].append((clip, info))
    noises = [info for info in infos[len(corpus.clips) :] if info is not None]
    return CorpusStats(
        root=corpus.root,
        layout=corpus.layout,
        split_by=corpus.split_by,
        splits=_by_split(readable),
        words={word: _by_split(members) for word, members in sorted(by_word.items())},
        noises=len(noises),
        noise_hours=sum(info.duration_s for info in noises) / 3600,
        unreadable=tuple(
            str(path) for path, info in zip(paths, infos, strict=True) if info is None
        ),
        guessed_speakers=corpus.guessed_speakers,
        skipped=corpus.skipped,
        guesses=layout_guesses(corpus),
        speakers=_by_speaker([clip for clip, _ in readable]),
    )


def _probe(path: Path) -> AudioInfo | None:
    try:
        return probe(path)
    except DataError:
        return None


def _by_speaker(clips: Sequence[Clip]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        if clip.speaker and not is_made(clip.speaker):
            counts[clip.speaker][clip.split] += 1
    if len(counts) > _MOST_SPEAKERS:
        return {}
    return {speaker: dict(splits) for speaker, splits in sorted(counts.items())}


def _by_split(members: Sequence[_Readable]) -> dict[str, Summary]:
    parts = {split: [m for m in members if m[0].split == split] for split in SPLITS}
    return {split: _summary(part) for split, part in {**parts, "all": members}.items() if part}


def _summary(members: Sequence[_Readable]) -> Summary:
    clips, infos = zip(*members, strict=True)
    durations_s = [info.duration_s for info in infos]
    return Summary(
        clips=len(clips),
        speakers=len({clip.speaker for clip in clips} - {""}),
        hours=sum(durations_s) / 3600,
        min_s=min(durations_s),
        median_s=statistics.median(durations_s),
        max_s=max(durations_s),
        rates=dict(Counter(info.rate for info in infos).most_common()),
    )
