"""Checks recordings for `data check`, and for `record` at its end."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechgru.common.progress import Progress
    from speechgru.corpora.check import CheckReport
    from speechgru.corpora.corpus import Corpus

#: More clips are not searched for speech: it takes longer than all else, 10 ms for each.
MOST_SEARCHED = 5_000


def checked(corpus: "Corpus", progress: "Progress | None" = None) -> "CheckReport":
    """What is wrong with a corpus; if it is small, also which recordings have no speech in them."""
    from speechgru.backends.loader import speech_finder
    from speechgru.corpora.check import check

    if len(corpus.clips) > MOST_SEARCHED:
        return check(corpus, progress)
    return check(corpus, progress, speech_finder())
