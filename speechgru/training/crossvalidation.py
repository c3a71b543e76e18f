"""Cross-validation: train once without each fold, and test what was left out."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from speechgru.audio.files import probe
from speechgru.backends.loader import open_backend
from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.common.wording import counted
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.fingerprint import corpus_fingerprint, digest, name_in
from speechgru.corpora.folds import make_folds
from speechgru.corpora.matching import matching_clips, only_to_train
from speechgru.corpora.other_sounds import other_sounds, paths_without
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.sequences import SequencePlan, Sequences
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.streams import StreamPlan, clip_name
from speechgru.decoding.factory import decoder_settings
from speechgru.errors import DataError, InterruptedRunError, UsageError
from speechgru.evaluation.ambient import AmbientSound, recognize_ambient
from speechgru.evaluation.clips import evaluate_clips
from speechgru.evaluation.events import EventReport
from speechgru.evaluation.fold_report import (
    ClipOutcome,
    FoldResult,
    FoldsReport,
    Outcome,
    StreamedWord,
)
from speechgru.evaluation.sequences import evaluate_sequences
from speechgru.evaluation.streams import evaluate_stream, split_case
from speechgru.labels import NOT_WORDS, UNKNOWN
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import stream_settings
from speechgru.training.data import TrainingData, task_of
from speechgru.training.loop import Status, train
from speechgru.training.recipe import Recipe
from speechgru.training.resuming import check_same_data
from speechgru.training.run_directory import RunDirectory

#: A recording of other speech that lasts so long is for false alarms, if its fold is tested.
_TALK_S = 10.0
#: Range of the length of a stream of the tested words, and seconds between two of them.
_MINUTES, _GAP_S = (1.0, 20.0), (0.2, 2.0)
_PLAN = "crossvalidation.json"


@dataclass(frozen=True)
class Watch:
    """Who follows a cross-validation.

    Args:
        say: called with lines for the user.
        report: called with the status of a fold's training.
        progress: counts decoded recordings.
        stop: asked often; when it returns true, the work ends, and can be continued.
    """

    say: Callable[[str], None] = lambda line: None
    report: Callable[[Status], None] | None = None
    progress: Progress | None = None
    stop: Callable[[], bool] = lambda: False


class CrossValidation:
    """The folds of a recipe's recordings, each with a run directory `fold-N` in `out`.

    Finished folds are not repeated, and a run that was stopped is resumed.

    Args:
        also: directory or manifest with more clips of the same words, only to train with.
        may_rename: where `out` holds the folds of other recordings or settings, use `out`-2 ...

    Raises:
        UsageError: the recipe names no data, there are too few speakers or takes for so many folds,
            or `out` holds another cross-validation.
        DataError: the data is invalid, or has fewer than three recordings of a word; `also` has
            no other recordings of the words.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        folds: int | None = None,
        also: str | None = None,
        may_rename: bool = False,
    ) -> None:
        if not recipe.data.directory:
            raise UsageError("no data: name it with --data DIR (or data.directory in the recipe)")
        self.recipe = recipe
        self.corpus = open_corpus(recipe.data.directory)
        self.folds = make_folds(self.corpus, folds)
        self.also = open_corpus(also) if also else None
        plan = {
            "recipe": recipe.model_dump(mode="json"),
            "recordings": digest(
                (corpus_fingerprint(corpus),) for corpus in (self.corpus, self.also) if corpus
            ),
            "folds": self.folds.count,
            "tested_in": digest((number,) for number in self.folds.numbers),
        }
        self._about_also: tuple[str, ...] = ()
        if self.also:
            name = f"--also {also}"
            self.also, self._about_also = only_to_train(self.corpus, self.also, name)
        self._plan = json.dumps(plan, indent=1)
        self.out, number = Path(out), 1
        while may_rename and self._is_other(self.out):
            number += 1
            self.out = out.with_name(f"{out.name}-{number}")
        if self._is_other(self.out):
            raise UsageError(
                f"{out}: holds the folds of other recordings or settings; use another --out"
            )

    def _is_other(self, out: Path) -> bool:
        path = out / _PLAN
        return path.exists() and path.read_bytes() != self._plan.encode()

    def run(self, device: torch.device, watch: Watch) -> FoldsReport:
        """Train and test every fold.

        Raises:
            InterruptedRunError: `watch.stop` returned true; the same call continues.
            DataError: as `train`, also if the recordings of a finished fold have changed.
            SpeechGRUError: as `train`.
        """
        write_atomic(self.out / _PLAN, self._plan)
        for word in self.folds.by_take:
            watch.say(f"too few speakers recorded {word!r}, so its takes are divided instead")
        also: tuple[Clip, ...] = ()
        if self.also is not None:
            also = matching_clips(self.corpus, self.also, self.out / "also", watch.progress)
            watch.say(f"{self.also.root}: {counted(len(also), 'more recording')} to train with")
        for line in self._about_also:
            watch.say(line)
        noises = self.corpus.noises + (self.also.noises if self.also else ())
        corpus = replace(self.corpus, noises=noises)
        whole = replace(corpus, clips=(*corpus.clips, *also))
        config = self.recipe.data
        packed = pack(
            whole,
            self.recipe.features.sample_rate,
            progress=watch.progress,
            channel=config.channel or None,
        )
        results = []
        for fold in range(self.folds.count):
            if watch.stop():
                raise self._stopped(fold)
            of_fold = self.folds.corpus(corpus, fold, also)
            results.append(self._result(fold, of_fold, packed, device, watch))
        takes = Counter(clip.word for clip in self.corpus.clips)
        return FoldsReport(self.folds.by, tuple(results), dict(takes))

    def _result(
        self, fold: int, corpus: Corpus, packed: PackedAudio, device: torch.device, watch: Watch
    ) -> FoldResult:
        path = self.out / f"fold-{fold + 1}.json"
        recipe, run = self.recipe, self.out / f"fold-{fold + 1}"
        task = task_of(recipe, corpus)
        kept, left_out = other_sounds().leave_out(fold, self.folds.count)
        data = TrainingData(
            corpus,
            task,
            packed,
            corpus_fingerprint(corpus),
            kept if recipe.data.other_sounds else None,
        )
        if path.exists():
            check_same_data(RunDirectory(run), data, watch.say)
            return _read(path)
        tested = [clip for clip in corpus.split("testing") if not clip.word.startswith("_")]
        watch.say(f"fold {fold + 1} of {self.folds.count}: leaving out {self._left_out(tested)}")
        resume = (run / "recipe.toml").exists()
        try:
            trained = train(
                recipe, run, device, resume, watch.report, watch.stop, watch.progress, data=data
            )
        except InterruptedRunError:
            raise self._stopped(fold) from None
        talk = [
            clip.path
            for clip in corpus.split("testing")
            if clip.word == UNKNOWN and probe(clip.path).duration_s >= _TALK_S
        ]
        backend = open_backend(trained.model, device.type if device.index is None else str(device))
        audio = SplitAudio(corpus, task, "testing", packed)
        speech = AmbientSound(
            corpus.root,
            (*talk, *paths_without(left_out, task.labels)),
            backend.sample_rate,
            channel=recipe.data.channel or None,
        )
        result = evaluate_fold(backend, audio, speech)
        write_atomic(path, result.model_dump_json(indent=1))
        return result

    def _left_out(self, clips: list[Clip]) -> str:
        speakers = sorted({clip.speaker for clip in clips} - {""})
        if self.folds.by == "take" or not speakers:
            return counted(len(clips), "take")
        names = ", ".join(speakers[:4]) + (f" and {len(speakers) - 4} more" * (len(speakers) > 4))
        return f"{names} ({counted(len(clips), 'recording')})"

    def _stopped(self, fold: int) -> InterruptedRunError:
        return InterruptedRunError(
            f"stopped in fold {fold + 1} of {self.folds.count}; the same command with --out "
            f"{self.out} continues"
        )


def evaluate_fold(backend: Backend, audio: SplitAudio, speech: AmbientSound) -> FoldResult:
    """Test a model on a split: its clips, a stream of them with noise, sequences; other speech.

    Raises:
        DataError: as the evaluations.
    """
    report = evaluate_clips(backend, audio.task, audio.split, audio.packed)
    root, speakers = audio.corpus.root, {}
    clips = []
    for example, predicted in zip(report.examples, report.predicted, strict=True):
        name = name_in(root, example.path) if example.path else ""
        if example.path:
            speakers[clip_name(audio, example)] = example.speaker
        recognized = backend.labels[int(predicted)]
        clips.append(
            ClipOutcome(
                file=name, label=example.label, recognized=recognized, speaker=example.speaker
            )
        )
    found: dict[str, Any] = {"clips": tuple(clips)}
    try:
        backend.check_streams()
    except UsageError:  # it needs whole clips
        return FoldResult(**found)
    config = decoder_settings(backend.info)
    _, policy = stream_settings(backend.metadata)
    seconds = len(clips) * (audio.task.clip_s + sum(_GAP_S) / 2)
    minutes = min(max(seconds / 60, _MINUTES[0]), _MINUTES[1])
    case = split_case(audio, StreamPlan(minutes, gap_s=_GAP_S))
    events = evaluate_stream(backend, case, config, policy, keep_log_posteriors=False).events
    found["streamed"] = tuple(_outcomes(events, speakers))
    if speech.paths:
        _, alarms = recognize_ambient(backend, speech, config, policy)
        found["events"] = {w: r["events"] for w, r in alarms.by_word.items() if r["events"]}
        found["speech_hours"] = alarms.hours
    plan = SequencePlan()
    words = sum(example.label not in NOT_WORDS for example in audio.task.splits[audio.split])
    if "ctc" in backend.info.outputs and words >= plan.words[0]:
        errors = evaluate_sequences(backend, Sequences(audio, plan), config, policy).errors
        found |= {"edits": errors.edits.total, "sequence_words": errors.words}
    return FoldResult(**found)


def _outcomes(events: EventReport, speakers: dict[str, str]) -> list[StreamedWord]:
    outcomes: dict[int, Outcome] = {id(word): "matched" for word, _ in events.matched}
    outcomes |= {id(word): "wrong" for word, _ in events.wrong}
    return [
        StreamedWord(
            word=word.word,
            speaker=speakers.get(word.file or "", ""),
            outcome=outcomes.get(id(word), "missed"),
        )
        for word in events.words
    ]


def _read(path: Path) -> FoldResult:
    try:
        return FoldResult.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: is not the result of a fold; delete it to train it again"
        ) from error
