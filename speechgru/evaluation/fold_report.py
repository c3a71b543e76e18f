"""What cross-validation found: the folds' results together, and what to record next."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field

from speechgru.common.settings import Settings
from speechgru.common.wording import counted
from speechgru.evaluation.metrics import (
    PERCENT_PER_ALARM,
    mean_interval,
    rate_interval,
    wilson_interval,
)
from speechgru.labels import NOT_WORDS

#: Resamplings of the speakers for an interval.
_SAMPLES = 2000
#: A word or a speaker stands out if it has at least this share of the errors ...
_STANDS_OUT = 0.3
#: ... and this many times as many per clip as all together.
_TIMES = 1.8
_FEW_SPEAKERS = 8

Outcome = Literal["matched", "wrong", "missed"]


class ClipOutcome(Settings):
    """A clip, and the label that a model gave it; the file is relative to the corpus."""

    file: str
    label: str
    recognized: str
    speaker: str


class StreamedWord(Settings):
    """A word in a stream with noise, and what became of it."""

    word: str
    speaker: str
    outcome: Outcome


class FoldResult(Settings):
    """What the model of one fold made of the recordings that it never heard.

    Args:
        streamed: words in a stream; None where the model needs whole clips.
        events: false alarms by word in `speech_hours` of other speech.
        edits, sequence_words: of sequences, for a model with a CTC head.
    """

    clips: tuple[ClipOutcome, ...]
    streamed: tuple[StreamedWord, ...] | None = None
    events: dict[str, int] = Field(default_factory=dict)
    speech_hours: float = 0.0
    edits: int | None = None
    sequence_words: int | None = None


@dataclass(frozen=True)
class FoldsReport:
    """All folds together.

    Args:
        by: "speaker" or "take".
        takes: recordings of each word.
    """

    by: str
    results: tuple[FoldResult, ...]
    takes: dict[str, int]

    @cached_property
    def clips(self) -> tuple[ClipOutcome, ...]:
        """Each clip once."""
        return tuple(clip for result in self.results for clip in result.clips)

    @cached_property
    def streamed(self) -> tuple[StreamedWord, ...]:
        """The words of all streams."""
        return tuple(word for result in self.results for word in result.streamed or ())

    @property
    def accuracy(self) -> dict[str, Any]:
        """Clips, those that are right, their share and its interval."""
        return self._share([(c.speaker, c.label == c.recognized) for c in self.clips], "correct")

    @property
    def missed(self) -> dict[str, Any] | None:
        """Words in streams, those without their event, their share and its interval."""
        if not self.streamed:
            return None
        return self._share([(w.speaker, w.outcome != "matched") for w in self.streamed], "missed")

    @property
    def false_alarms(self) -> dict[str, Any] | None:
        """Events in other speech, per hour, with their interval and by word."""
        hours = sum(result.speech_hours for result in self.results)
        if not hours:
            return None
        by_word = Counter[str]()
        for result in self.results:
            by_word.update(result.events)
        count = by_word.total()
        return {
            "events": count,
            "hours": hours,
            "per_hour": count / hours,
            "ci95": list(rate_interval(count, hours)),
            "by_word": dict(by_word.most_common()),
        }

    @property
    def word_error_rate(self) -> dict[str, Any] | None:
        """Of sequences: the mean over the folds with its interval, and each fold's.

        By speaker, the interval is that of the mean of other speakers.
        """
        rates = [
            r.edits / r.sequence_words
            for r in self.results
            if r.sequence_words and r.edits is not None
        ]
        if not rates:
            return None
        low, high = mean_interval(rates)
        ci95 = [max(0.0, low), high] if len(rates) > 1 else None
        return {"mean": float(np.mean(rates)), "ci95": ci95, "by_fold": rates}

    @property
    def confusions(self) -> list[dict[str, Any]]:
        """Pairs of labels that were confused, the most frequent first, with the files."""
        files: dict[tuple[str, str], list[str]] = {}
        for clip in self.clips:
            if clip.label != clip.recognized:
                files.setdefault((clip.label, clip.recognized), []).append(clip.file)
        return [
            {"label": label, "recognized": recognized, "count": len(found), "files": found}
            for (label, recognized), found in sorted(files.items(), key=lambda i: -len(i[1]))
        ]

    def accuracy_by(self, what: Literal["label", "speaker"]) -> dict[str, dict[str, Any]]:
        """Clips, those that are right, and their share with its interval, the worst first."""
        n, correct = Counter[str](), Counter[str]()
        for clip in self.clips:
            n[getattr(clip, what)] += 1
            correct[getattr(clip, what)] += clip.label == clip.recognized
        return {
            name: {
                "n": n[name],
                "correct": correct[name],
                "accuracy": correct[name] / n[name],
                "ci95": list(wilson_interval(correct[name], n[name])),
            }
            for name in sorted(n, key=lambda name: (correct[name] / n[name], name))
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folds": len(self.results),
            "by": self.by,
            **self.accuracy,
            "missed": self.missed,
            "false_alarms": self.false_alarms,
            **({"sequences": self.word_error_rate} if self.word_error_rate else {}),
            "per_class": self.accuracy_by("label"),
            "by_speaker": self.accuracy_by("speaker") if self.by == "speaker" else {},
            "confusions": self.confusions,
            "advice": self.advice,
        }

    @cached_property
    def advice(self) -> str:
        """What more recordings would be worth most, in a sentence."""
        words = [word for word in self.takes if word not in NOT_WORDS]
        errors = Counter(c.label for c in self.clips if c.label != c.recognized)
        errors.update(w.word for w in self.streamed if w.outcome != "matched")
        total, tested = errors.total(), len(self.clips) + len(self.streamed)
        alarms = self.false_alarms
        cost = PERCENT_PER_ALARM * alarms["per_hour"] / max(1, len(words)) if alarms else 0.0
        if alarms and cost > 0.5 and cost > 100 * total / tested:
            word = next(iter(alarms["by_word"]))
            return (
                f"Other speech is worth most: {alarms['per_hour']:.1f} false alarms an hour, most "
                f"of them {word!r}. Record talk without the words (`speechgru record --talk 120`), "
                "or collect false alarms with `listen --save-dir` and sort them with `review`."
            )
        if total and (name := self._standing_out("label", errors)):
            mistaken = [c for c in self.confusions if c["label"] == name]
            taken = f", mostly taken for {mistaken[0]['recognized']!r}" if mistaken else ""
            return (
                f"More recordings of {name!r} are worth most: it has {errors[name]:,} of the "
                f"{total:,} errors{taken}, and {counted(self.takes.get(name, 0), 'recording')}."
            )
        by_speaker = Counter(c.speaker for c in self.clips if c.label != c.recognized)
        by_speaker.update(w.speaker for w in self.streamed if w.outcome != "matched")
        speakers = {clip.speaker for clip in self.clips} - {""}
        if self.by == "take":
            return _advice_of_one_speaker(total, tested)
        if total and (name := self._standing_out("speaker", by_speaker)):
            return (
                f"More voices like {name!r} are worth most: that speaker has "
                f"{by_speaker[name]:,} of the {total:,} errors."
            )
        if not total:
            return (
                f"No error in {tested:,} tests: more of the same would show little. Record other "
                "voices, rooms and distances, if any will be used."
            )
        if len(speakers) < _FEW_SPEAKERS:
            return (
                f"More speakers are worth most: there are {len(speakers)}, and each new one is a "
                "stranger to the model."
            )
        return (
            f"No word and no speaker stands out among the {total:,} errors of {tested:,} tests: "
            "more speakers, a few takes of every word by each, are worth more than more takes by "
            "the same."
        )

    def _share(self, tests: list[tuple[str, bool]], name: str) -> dict[str, Any]:
        """A share with its 95 % interval.

        Tests of one speaker are alike: by speaker, the interval is the wider of Wilson's and of a
        bootstrap over speakers.
        """
        n, count = len(tests), sum(is_counted for _, is_counted in tests)
        low, high = wilson_interval(count, n)
        if self.by == "speaker" and n:
            names = sorted({speaker for speaker, _ in tests})
            place = {speaker: i for i, speaker in enumerate(names)}
            totals = np.zeros((2, len(names)))
            for speaker, is_counted in tests:
                totals[:, place[speaker]] += 1, is_counted
            drawn = np.random.default_rng(0).integers(len(names), size=(_SAMPLES, len(names)))
            of_samples = totals[:, drawn].sum(axis=2)
            bounds = np.quantile(of_samples[1] / of_samples[0], [0.025, 0.975])
            low, high = min(low, float(bounds[0])), max(high, float(bounds[1]))
        rate = "accuracy" if name == "correct" else "rate"
        return {"n": n, name: count, rate: count / n if n else 0.0, "ci95": [low, high]}

    def _standing_out(self, what: str, errors: Counter[str]) -> str | None:
        """The word or speaker with far more errors than its share of the tests."""
        tested = Counter(getattr(clip, what) for clip in self.clips)
        attribute = "word" if what == "label" else what
        tested.update(getattr(word, attribute) for word in self.streamed)
        (name, count), *_ = errors.most_common(1)
        expected = errors.total() * tested[name] / tested.total()
        is_one = name != "" and len(tested) > 1 and count > 1
        stands_out = count >= _STANDS_OUT * errors.total() and count >= _TIMES * expected
        return name if is_one and stands_out else None


def _advice_of_one_speaker(errors: int, tested: int) -> str:
    if not errors:
        return (
            f"No error in {tested:,} tests, all by one speaker or by nobody known: other speakers, "
            "or the same one on another day and farther away, would show more."
        )
    return (
        f"More takes of every word are worth most ({errors} errors in {tested:,} tests), on "
        "another day and from another place; these figures say nothing about other speakers."
    )
