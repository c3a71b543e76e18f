"""Made posteriors of a CTC head, and grammars to search them with."""

import numpy as np

from speechgru.labels import UNKNOWN, Spelling

LABELS = ("go", "no", "on")
WORDS = Spelling.of(LABELS, "words")
CHARACTERS = Spelling.of((UNKNOWN, *LABELS), "characters")
GRAMMARS = {
    "go (no|on)": "g(n|o)",
    "go\ngo on": "g|go",
    "[go] no\non on on": "g?n|ooo",
    "no (go|on) [on]": "n(g|o)o?",
}


def random_posteriors(rng, steps, tokens, sharpness=1.0):
    """(T, V) of any shape: from nearly even to nearly certain."""
    scores = sharpness * rng.standard_normal((steps, tokens))
    scores[:, 0] += rng.uniform(-1, 2)
    return np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
