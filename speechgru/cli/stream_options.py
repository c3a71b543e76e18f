"""The stream and decoder options of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechgru.cli.options import number_range
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.corpora.sequences import SequencePlan

_OF_STREAM = ("audio", "truth", "tune", "keep")
#: Minutes of a stream, and of a conversation, unless others are asked for.
STREAM_MINUTES, CONVERSATION_MINUTES = 20.0, 90.0
_OF_DECODER = ("state", "threshold", "beam", "grammar")
#: Orders of the clips, and how sequences are made, unless others are asked for.
ORDERS, WORDS, GAP, SNR = 1, "3:7", "0:0.3", "20:30"


@dataclass(frozen=True)
class StreamOptions:
    """The options as they were typed; None or False for those that were not given."""

    audio: Path | None
    truth: Path | None
    minutes: float | None
    seed: int
    split: str
    state: str | None
    threshold: float | None
    beam: int | None
    grammar: Path | None
    tune: bool
    keep: bool
    picture: Path | None
    talk: str | None
    channel: int | None = None

    def check(
        self,
        streaming: bool,
        ambient: bool,
        sequences: bool,
        conversation: bool = False,
        has_clips: bool = True,
    ) -> None:
        """Check that the options fit each other and what is evaluated.

        Raises:
            UsageError: they do not.
        """
        decodes = streaming or ambient or sequences or conversation
        is_made = conversation or (streaming and (self.audio is None or self.tune))
        partner = "--conversation" if self.audio else "--streaming or --conversation"
        check_partner(partner, is_made, minutes=self.minutes is not None)
        if self.picture is not None and ambient and not (streaming or has_clips):
            raise UsageError("--picture: needs --data DIR or --streaming")
        combined = has_clips and (conversation or self.tune)
        partner = "--conversation or --tune" + (" of --data DIR" if not has_clips else "")
        check_partner(partner, combined, talk=self.talk is not None)
        for names, fits, wanted in (
            (_OF_STREAM, streaming, "--streaming"),
            (_OF_DECODER, decodes, "--streaming, --conversation, --sequences or --ambient"),
        ):
            check_partner(wanted, fits, **{name: self._given(name) for name in names})
        if not streaming:
            return
        if self.truth is not None and self.audio is None:
            raise UsageError("--truth: needs --audio FILE, the recording that it describes")
        if self.keep and not self.tune:
            raise UsageError("--keep: needs --tune, whose choice it keeps")
        for option in _OF_DECODER if self.tune else ():
            if self._given(option):
                raise UsageError(f"--tune: chooses the decoder; leave --{option} out")
        if self.tune and self.audio is None and self.split == "testing":
            raise UsageError("--tune: must not choose on the testing split; add --split validation")

    def _given(self, option: str) -> bool:
        value = getattr(self, option)
        return value is not None and value is not False  # a threshold of 0 equals False


def check_partner(partner: str, is_given: bool, **options: bool) -> None:
    """Check that no option was set, by name, which only has an effect together with `partner`.

    Raises:
        UsageError: one was, and `partner` was not given.
    """
    for option, is_set in options.items():
        if is_set and not is_given:
            raise UsageError(f"--{option}: only has an effect together with {partner}")


def sequence_plan(words: str, gap: str, snr: str, seed: int) -> "SequencePlan":
    """How sequences of words are made, by --words, --gap and --snr.

    Raises:
        UsageError: one of them is not LOW:HIGH, or out of range.
    """
    from speechgru.corpora.sequences import SequencePlan

    few, many = number_range(words, "--words")
    if not few.is_integer() or not many.is_integer():
        raise UsageError(f"--words {words}: two whole numbers LOW:HIGH are needed")
    gap_s, snr_db = number_range(gap, "--gap"), number_range(snr, "--snr")
    return SequencePlan((int(few), int(many)), gap_s, snr_db, seed)
