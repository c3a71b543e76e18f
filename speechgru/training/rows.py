"""What training draws, and what the network learns from it."""

from dataclasses import dataclass

from torch import Tensor

from speechgru.model.network import State

#: The target of a step that does not count in the loss.
NO_TARGET = -100
#: Pads the words of a row.
NO_WORD = -1


@dataclass(frozen=True)
class Batch:
    """Augmented features of B rows, with what to learn from them.

    Args:
        features: (B, 2 T, F).
        state: the state from which the network starts.
        targets: a class for each step, (B, T); `NO_TARGET` where none counts.
        words: the classes of the words in order, (B, N), also of unknown ones, padded with
            `NO_WORD`. On the host, where their number is known without waiting for a GPU.
        rows: the rows that the features are of, for teachers.
    """

    features: Tensor
    state: State
    targets: Tensor
    words: Tensor
    rows: "Rows | None" = None


@dataclass(frozen=True)
class Clips:
    """Clips (N, S), their classes (N,), and the first and last sample of their words (N, 2).

    The classes are on the host, the others on the model's device.
    """

    samples: Tensor
    classes: Tensor
    spans: Tensor


@dataclass(frozen=True)
class Rows:
    """Augmented samples (B, S), a target per step (B, T), and the words in order (B, N).

    The words are on the host.

    Args:
        clip_starts: the first sample of each clip in its row, (B, N).
        target_clips: which of these clips has the target of a step as its word, (B, T); -1 where
            the target, if any, is none of theirs.
        wordless: the label of steps in which no word is recognized, (B, T): silence, or unknown in
            running speech; `NO_TARGET` elsewhere.
    """

    samples: Tensor
    targets: Tensor
    words: Tensor
    clip_starts: Tensor
    target_clips: Tensor
    wordless: Tensor
