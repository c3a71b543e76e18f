"""What a clip trains: an output of the head, of which an unknown word may have its own."""

import torch
from torch import Tensor

from speechgru.corpora.corpus import Example, Task
from speechgru.labels import UNKNOWN
from speechgru.model.network import SpeechGRU


def outputs_of(examples: tuple[Example, ...], model: SpeechGRU) -> list[int]:
    """The output of the head that each example trains; an unknown word may have its own."""
    outputs = {name: i for i, name in enumerate((*model.labels, *model.unknown_words))}
    return [
        outputs[example.label]
        if example.label != UNKNOWN
        else outputs.get(example.word, outputs[UNKNOWN])
        for example in examples
    ]


def unknown_words(task: Task) -> tuple[str, ...]:
    """The words that stand behind `_unknown_` in a task's training clips."""
    words = {e.word for e in task.split("training") if e.label == UNKNOWN}
    return tuple(sorted(words - {UNKNOWN} - set(task.labels)))


def fold_outputs(outputs: Tensor, model: SpeechGRU) -> Tensor:
    """The label of each output of the head: an unknown word's is `_unknown_`."""
    if not model.unknown_words:
        return outputs
    unknown = model.vocabulary.id(UNKNOWN)
    return torch.where(outputs < len(model.labels), outputs, unknown)


def has_anagram(word: str, labels: tuple[str, ...]) -> bool:
    """Whether another label has the same letters: scrambled, "no" may be "on"."""
    letters = sorted(word)
    return any(label != word and sorted(label) == letters for label in labels)
