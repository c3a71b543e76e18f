"""How good a model is on the validation split while it is trained."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from speechgru.backends.pytorch import TorchBackend
from speechgru.corpora.corpus import Task
from speechgru.corpora.packed import PackedAudio
from speechgru.model.network import SpeechGRU
from speechgru.recognition.clips import score_carried, score_clips
from speechgru.training.stream_validation import StreamScore

#: Streams side by side: so few that most clips follow many others.
ROWS = 32
#: Clips that are scored together.
_BATCH = 512


@dataclass(frozen=True)
class Score:
    """The result of a validation.

    The model with the highest `balanced_accuracy`, the mean of the labels' recalls, is the best; of
    equal ones that with the lowest loss, as a few clips are soon all right.

    Args:
        stream: set if streams choose the weights and have begun.
        carried: whether the state was carried from clip to clip.
    """

    loss: float
    accuracy: float
    balanced_accuracy: float
    n: int
    stream: StreamScore | None = None
    carried: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        clips = {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "n": self.n,
        }
        clips |= {"carried": True} if self.carried else {}
        return clips | (self.stream.as_dict() if self.stream else {})


class Validation:
    """The validation clips, stored on the model's device.

    Each is scored from a zero state; or, with `carried`, in streams with a fixed order.
    """

    def __init__(
        self,
        task: Task,
        packed: PackedAudio,
        model: SpeechGRU,
        carried: bool = False,
    ) -> None:
        examples = task.split("validation")
        clips = packed.gather(examples, model.steps(task.clip_s) * model.step_samples)
        self.clips = torch.from_numpy(clips).to(model.device)
        labels = [example.label for example in examples]
        self.targets = torch.tensor(model.vocabulary.ids(labels), device=model.device)
        order = np.random.default_rng(0).permutation(len(examples))
        self.order = order if carried else None

    @torch.no_grad()
    def __call__(self, model: SpeechGRU) -> Score:
        """Score a model, which is set to evaluation mode."""
        model.eval()
        scores = self._scores(model)
        hits = (scores.argmax(dim=1) == self.targets).double()
        size = len(model.labels)
        counts = torch.bincount(self.targets, minlength=size)
        recalls = torch.bincount(self.targets, hits, minlength=size) / counts.clamp_min(1)
        return Score(
            loss=functional.nll_loss(scores, self.targets).item(),
            accuracy=hits.mean().item(),
            balanced_accuracy=recalls[counts > 0].mean().item(),
            n=len(self.targets),
            carried=self.order is not None,
        )

    def _scores(self, model: SpeechGRU) -> Tensor:
        backend = TorchBackend(model)
        scores = (
            score_clips(backend, self.clips, _BATCH)
            if self.order is None
            else score_carried(backend, self.clips, self.order, ROWS)
        )
        return torch.from_numpy(scores).to(self.targets.device)
