"""Examples of speech that is none of the words: clips, and long recordings cut up."""

from collections.abc import Iterable, Iterator

from speechgru.audio.files import probe
from speechgru.corpora.corpus import Clip, Example
from speechgru.labels import UNKNOWN


def cut_speech(clips: Iterable[Clip], clip_s: float) -> Iterator[Example]:
    """Clips as `_unknown_`; a recording in `_unknown_/` of two clips' length or more is cut up.

    Its pieces of `clip_s` lie end to end; what is left at the recording's end, less than a piece,
    is not used.

    Raises:
        DataError: a recording's header cannot be read.
    """
    for clip in clips:
        pieces = int(probe(clip.path).duration_s / clip_s) if clip.word == UNKNOWN else 1
        starts_s = [clip_s * piece for piece in range(pieces)] if pieces > 1 else [None]
        for start_s in starts_s:
            yield Example(clip.path, UNKNOWN, clip.word, clip.speaker, start_s)
