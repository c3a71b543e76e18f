"""Caught clips on the page: which wait, their sound, and where each is filed."""

import threading
from collections.abc import Mapping
from typing import Any

from speechgru.audio.files import read
from speechgru.audio.pcm import to_packed, wav_header
from speechgru.audio.samples import SAMPLE_RATE
from speechgru.corpora.listing import list_recordings
from speechgru.corpora.review import CaughtClip, Filed, Review
from speechgru.errors import DataError, UsageError
from speechgru.serve.own_words.places import Places

#: Clips that are listed at once.
_MOST_LISTED = 100
#: Bytes of a clip's file. Ten seconds of 16-bit sound at 16 kHz have 320,000.
_MOST_BYTES = 2**25


#: Files the clips, unless a decision names another speaker.
_SPEAKER = "me"


class Reviewer:
    """Files caught clips, for any number of pages at once; each method may take a while."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._review: Review | None = None
        self._turn = threading.Lock()

    def list(self) -> dict[str, Any]:
        """What waits for a decision, by what is in the folders now; before any clip, nothing.

        Raises:
            DataError: the notes are damaged.
            UsageError: the data has no word folders.
        """
        caught = self._places.caught
        if caught is not None and not (caught.is_dir() and list_recordings(caught)[0]):
            return {"pending": [], "left": 0, "total": 0, "counts": {}, "words": []}
        with self._turn:
            return self._listed(self._open(fresh=True))

    def decide(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """File a clip, or undo the last decision: `{"decision": "undo"}`.

        Raises:
            UsageError: the decision makes no sense.
            SpeechGRUError: another process reviews these clips, or a file cannot be written.
        """
        for place in filter(None, (self._places.data, self._places.caught)):
            if not place.is_dir():  # moved, or on a disk that is gone
                raise UsageError(f"{place}: is not there")
        with self._turn, self._open().lock() as review:
            if wish.get("decision") == "undo":
                undone = review.undo()
                shown = self._shown(undone) | {"note": undone.note} if undone else None
                return self._listed(review) | {"undone": shown}
            if "file" not in wish:
                raise UsageError("file: the name of the clip is needed")
            if wish.get("speaker") == "" and wish.get("decision") in ("right", "word"):
                raise UsageError("speaker: who said it is missing")
            filed = review.decide_as(wish)
            return self._listed(review) | {"filed": self._shown(filed)}

    def sound(self, name: str) -> bytes:
        """A clip as a WAV file.

        Raises:
            UsageError: there is no such clip.
            DataError: it is too long, or cannot be decoded.
        """
        with self._turn:
            clip = self._find(name)
        try:
            size = clip.path.stat().st_size
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{clip.path}: cannot be read: {reason}") from error
        if size > _MOST_BYTES:
            raise DataError(f"{clip.path}: too long to be played on the page")
        content = to_packed(read(clip.path)).tobytes()
        return wav_header(SAMPLE_RATE, len(content)) + content

    def _shown(self, filed: Filed) -> dict[str, Any]:
        """A decision for JSON, the path of the copy below the data."""
        path, data = filed.path, self._places.data
        if path is None or not path.is_relative_to(data):  # a decision of another server
            return filed.as_dict()
        return filed.as_dict() | {"to": path.relative_to(data).as_posix()}

    def _find(self, name: str) -> CaughtClip:
        for clip in self._open().clips:
            if clip.name == name:
                return clip
        raise UsageError(f"{name!r:.80}: is not a caught clip")

    def _open(self, fresh: bool = False) -> Review:
        if self._places.caught is None:
            raise UsageError("clips are reviewed if the server has --caught DIR")
        if fresh or self._review is None:
            self._review = Review(self._places.caught, self._places.data, _SPEAKER)
        return self._review

    def _listed(self, review: Review) -> dict[str, Any]:
        pending = review.pending
        return {
            "pending": [clip.as_dict() for clip in pending[:_MOST_LISTED]],
            "left": len(pending),
            "total": len(review.clips),
            "counts": review.counts,
            "words": review.words,
        }
