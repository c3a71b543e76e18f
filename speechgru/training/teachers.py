"""Trained models whose answers a network learns in training (knowledge distillation).

Source: G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from speechgru.backends.pytorch import TorchBackend
from speechgru.errors import UsageError
from speechgru.labels import NOT_WORDS, UNKNOWN
from speechgru.model.fronts import FRAMES_PER_STEP
from speechgru.model.network import SpeechGRU, State
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import load_model
from speechgru.recognition.clips import clip_samples, tail_steps
from speechgru.training.data import label_ids
from speechgru.training.rows import NO_TARGET, Batch

#: A false alarm of teachers: a word is so many times as likely as all that is no word together.
_ALARM_ODDS = 0.5


class Teachers:
    """Models that hear the batches of a student, and answer together with their mean posteriors.

    A model that runs on streams answers at every step; its state is carried like the student's. One
    that needs whole clips hears each clip of a row by itself, and answers at the steps that have
    the clip's word as target.

    Args:
        names: files, run directories or names of models in the package.
        unknown_odds: the student's `sampling.unknown_odds`.

    Raises:
        DataError: a file is not a model.
        UsageError: a model has other labels, another sample rate or no classify head, or there is
            no model of this name.
    """

    def __init__(self, names: Sequence[str], student: SpeechGRU, unknown_odds: float = 1.0) -> None:
        self.student = student
        self.teachers = {
            f"teacher{number}.": _Teacher(name, student, unknown_odds)
            for number, name in enumerate(names)
        }
        #: Whether all teachers tell apart the student's unknown words. If not, labels are taught.
        self.by_class = all(
            set(student.unknown_words) <= set(teacher.model.unknown_words)
            for teacher in self.teachers.values()
        )
        self.width = len(student.labels) + self.by_class * len(student.unknown_words)
        words = [i for i, label in enumerate(student.labels) if label not in NOT_WORDS]
        self.words = torch.tensor(words, dtype=torch.long, device=student.device)

    def check_rows(self, samples: int) -> None:
        """Raise a `UsageError` if the steps of a teacher on streams do not fill rows this long."""
        for teacher in self.teachers.values():
            teacher.check_rows(samples)

    def initial_state(self, rows: int) -> State:
        """What the teachers carry from one batch of streams to the next: zeros, (R, ...) each.

        The names are part of the checkpoint format.
        """
        return {
            prefix + name: tensor
            for prefix, teacher in self.teachers.items()
            for name, tensor in teacher.initial_state(rows).items()
        }

    def __call__(self, batch: Batch) -> tuple[Tensor, State]:
        """Posteriors for the student to learn, (B, T, V + U), and the teachers' new state.

        (B, T, V) if labels are taught. At a step without an answer the target has probability 1; if
        there is no target either, all posteriors are 0. Where teachers recognize a word that was
        not said (`Rows.wordless`), what was heard has probability 1.
        """
        with torch.inference_mode():
            answers, state = self._answer(batch)
        # Inference tensors cannot take part in the computation of gradients; their copies can.
        return answers.clone(), {name: tensor.clone() for name, tensor in state.items()}

    def _answer(self, batch: Batch) -> tuple[Tensor, State]:
        carried = self.initial_state(len(batch.features))
        carried |= {name: batch.state[name] for name in carried if name in batch.state}
        state: State = {}
        total = self.student.mean.new_zeros(*batch.targets.shape, self.width)
        for prefix, teacher in self.teachers.items():
            own = {name: carried[prefix + name] for name in teacher.initial_state(1)}
            posteriors, own = teacher(batch, own)
            columns = teacher.columns if self.by_class else teacher.labels
            total.index_add_(2, columns, posteriors.to(total.dtype))
            state |= {prefix + name: tensor for name, tensor in own.items()}
        targets = batch.targets if self.by_class else label_ids(batch.targets, self.student)
        one_hot = functional.one_hot(targets.clamp_min(0), self.width)
        one_hot = one_hot * (targets != NO_TARGET)[..., None]
        answered = total.sum(dim=2, keepdim=True) > 0
        answers = torch.where(answered, functional.normalize(total, p=1, dim=2), one_hot)
        assert batch.rows is not None
        return self._corrected(answers, batch.rows.wordless), state

    def _corrected(self, answers: Tensor, wordless: Tensor) -> Tensor:
        """Answers (B, T, W), without false alarms and what comes close to them."""
        words = answers[..., self.words]
        others = answers.sum(dim=2) - words.sum(dim=2)
        alarms = (wordless != NO_TARGET) & (words.amax(dim=2) > _ALARM_ODDS * others)
        heard = functional.one_hot(wordless.clamp_min(0), self.width).to(answers.dtype)
        return torch.where(alarms[..., None], heard, answers)

    @property
    def provenance(self) -> list[dict[str, Any]]:
        """How each teacher was made, with the name and the hash of its file."""
        return [teacher.provenance for teacher in self.teachers.values()]


class _Teacher:
    """One model: a batch and its state to posteriors of its classes (B, T, C), and new state."""

    def __init__(self, name: str, student: SpeechGRU, unknown_odds: float) -> None:
        path = trained_model(name)
        self.model = load_model(path, student.device).requires_grad_(False)
        self.student, self.source = student, f"training.teachers {name}"
        self._check()
        # Features of the same configuration are the student's, augmented and masked as they are.
        self.has_own_features = self.model.features.config != student.features.config
        self.hears_clips = bool(self.model.config.whole_clips)
        backend = TorchBackend(self.model)
        self.clip_steps = clip_samples(backend) // self.model.step_samples
        self.tail_steps = tail_steps(backend)
        classes = (*self.model.labels, *self.model.unknown_words)
        ids = {word: i for i, word in enumerate((*student.labels, *student.unknown_words))}
        unknown = ids.get(UNKNOWN, 0)
        columns = torch.tensor([ids.get(word, unknown) for word in classes], device=student.device)
        #: For each class the same class of the student, and the student's label.
        self.columns, self.labels = columns, label_ids(columns, student)
        own = torch.arange(len(classes), device=student.device)
        provenance = self.model.metadata.get("provenance", {})
        own_odds = provenance.get("recipe", {}).get("sampling", {}).get("unknown_odds", 1.0)
        self.log_shares = _log_shares(self.model, own_odds)[label_ids(own, self.model)]
        self.unknown_odds = unknown_odds
        # The teacher's file has the rest: its recipe, and what it began with.
        self.provenance = {
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **{name: provenance[name] for name in ("data", "commit") if name in provenance},
        }

    def _check(self) -> None:
        model, student, source = self.model, self.student, self.source
        if "classify" not in model.config.heads:
            raise UsageError(f"{source}: has no classify head, so it cannot teach one")
        if different := set(model.labels) ^ set(student.labels):
            word = min(different)
            has, lacks = ("it", "the recipe") if word in model.labels else ("the recipe", "it")
            raise UsageError(
                f"{source}: its labels must be those of the recipe; {has} has {word!r:.80}, "
                f"and {lacks} does not"
            )
        if model.sample_rate != student.sample_rate:
            raise UsageError(
                f"{source}: expects {model.sample_rate} Hz audio, but the recipe uses "
                f"{student.sample_rate} Hz"
            )

    def check_rows(self, samples: int) -> None:
        model, rate = self.model, self.model.sample_rate
        if not self.hears_clips and samples % model.step_samples:
            raise UsageError(
                f"{self.source}: its steps of {1000 * model.step_samples / rate:g} ms do not fill "
                f"the recipe's rows of {samples / rate:g} s (stream.seconds_per_clip)"
            )

    def initial_state(self, rows: int) -> State:
        """The state at the start of a stream, as far as the teacher has any."""
        state = self.model.initial_state(rows)
        if self.hears_clips:
            state = {"samples": state["samples"]}
        if not self.has_own_features:
            del state["samples"]
        return state

    def __call__(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        model, student = self.model, self.student
        new_state: State = {}
        assert batch.rows is not None
        if self.has_own_features:
            with torch.autocast(model.device.type, enabled=False):
                features, new_state["samples"] = model.extract(batch.rows.samples, state["samples"])
        else:
            scale = student.deviation / model.deviation
            features = batch.features * scale + (student.mean - model.mean) / model.deviation
        if self.hears_clips:
            return self._answers_to_clips(features, batch), new_state
        encoded, layers = model.encode(features, state)
        posteriors = self._posteriors(model.apply_heads(encoded))
        return posteriors[:, self._steps_heard(batch)], new_state | layers

    def _steps_heard(self, batch: Batch) -> Tensor:
        """The teacher's last step that has ended by the end of each of the student's: (T,)."""
        ends = torch.arange(1, batch.targets.shape[1] + 1, device=batch.targets.device)
        return (ends * self.student.step_samples // self.model.step_samples - 1).clamp_min(0)

    def _answers_to_clips(self, features: Tensor, batch: Batch) -> Tensor:
        """Each clip's answer at the steps that have its word as target, and 0 at the others."""
        assert batch.rows is not None
        starts, target_clips = batch.rows.clip_starts, batch.rows.target_clips
        model, (rows, clips) = self.model, starts.shape
        frames = min(FRAMES_PER_STEP * self.clip_steps, features.shape[1])
        first = starts // model.features.config.hop_samples
        first = first.clamp(0, features.shape[1] - frames)  # (B, N)
        index = first[..., None] + torch.arange(frames, device=features.device)
        row = torch.arange(rows, device=features.device)[:, None, None]
        heard = features[row, index].flatten(0, 1)  # (B N, frames, F)
        encoded, _ = model.encode(heard, model.initial_state(len(heard)))
        tail = model.apply_heads(encoded)[:, -self.tail_steps :].mean(dim=1)
        answers = self._posteriors(tail).view(rows, clips, -1)
        answered = (target_clips >= 0)[..., None]
        return answers[row[..., 0], target_clips.clamp_min(0)] * answered  # (B, T, C)

    def _posteriors(self, log_posteriors: Tensor) -> Tensor:
        """Posteriors of a classify head as if labels were as frequent as in the student's data."""
        log_posteriors = self.model.split_heads(log_posteriors)["classify"]
        shares = _log_shares(self.student, self.unknown_odds)[self.labels] - self.log_shares
        return torch.softmax(log_posteriors + shares, dim=-1)


def _log_shares(model: SpeechGRU, unknown_odds: float) -> Tensor:
    """The prior of a model, (V,), without the odds of unknown speech: these are for recognition."""
    log_shares = model.log_prior.clone()
    if UNKNOWN in model.vocabulary:
        log_shares[model.vocabulary.id(UNKNOWN)] += math.log(unknown_odds)
    return log_shares
