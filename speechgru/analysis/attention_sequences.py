"""Word errors of an attention decoder, which hears a string whole and then says its words."""

import numpy as np
import torch

from speechgru.audio.pcm import FULL_SCALE
from speechgru.common.progress import Progress
from speechgru.corpora.sequences import Strings
from speechgru.evaluation.sequences import HeardString, WordErrors
from speechgru.labels import BOUNDARY, UNKNOWN, Spelling
from speechgru.model.network import SpeechGRU


def spell_strings(
    model: SpeechGRU, strings: Strings, progress: Progress | None = None
) -> WordErrors:
    """Hear each string from a fresh state, and spell it."""
    found = []
    for number in range(len(strings)):
        string = strings[number]
        samples = torch.from_numpy(string.samples.astype(np.float32) / FULL_SCALE)
        tokens, _ = spell(model, samples.to(model.device).unsqueeze(0))
        said = words_of(tokens, model.spelling)
        found.append(HeardString(string.speaker, string.words, said))
        if progress is not None:
            progress(number + 1, len(strings))
    return WordErrors(tuple(found))


@torch.inference_mode()
def spell(model: SpeechGRU, samples: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """An utterance's tokens and where each was heard: (1, S) -> N, (N, T)."""
    assert model.speller is not None
    state = model.initial_state(1)
    features, _ = model.extract(samples, state["samples"])
    heard, _ = model.hear(features, state)
    return model.speller.spell(heard)


def words_of(tokens: list[int], spelling: Spelling) -> tuple[str, ...]:
    """Words of tokens; unknown ones are none, nor are characters without a boundary after them.

    >>> words_of([2, 1, 3, 2], Spelling(("_blank_", "_unknown_", "on", "no")))
    ('on', 'no', 'on')
    """
    names = [spelling.tokens[token] for token in tokens]
    if not spelling.in_characters:
        return tuple(name for name in names if name != UNKNOWN)
    words, letters = [], ""
    for name in names:
        if name == BOUNDARY:
            words += [letters] if letters else []
            letters = ""
        elif name != UNKNOWN:
            letters += name
    return tuple(words)
