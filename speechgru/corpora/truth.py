"""Truth files: the words in a recording and where they are, to score events against."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from speechgru.common.files import write_atomic
from speechgru.common.settings import Settings, describe
from speechgru.common.wording import shown
from speechgru.errors import DataError

#: A truth and its audio may differ by a resampler's rounding, but not by this much.
TOLERANCE_S = 0.05


class SpokenWord(Settings):
    """A word and its time, in seconds; `_unknown_` is speech that must not cause an event."""

    word: str = Field(min_length=1)
    start: float = Field(ge=0.0, allow_inf_nan=False)
    end: float = Field(ge=0.0, allow_inf_nan=False)
    #: What was said, where `word` is a label such as `_unknown_`; the clip; its loudness.
    said: str | None = None
    file: str | None = None
    snr_db: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.start < self.end:
            raise ValueError(
                f"{shown(self.word)}: end {self.end:g} must come after start {self.start:g}"
            )
        return self


class Truth(Settings):
    """All words of a recording in the order of their starts."""

    format: Literal["speechgru-truth"] = "speechgru-truth"
    version: Literal[1] = 1
    #: Duration of the audio; optional.
    duration_s: float | None = Field(None, gt=0.0)
    #: How the stream was made.
    made: dict[str, Any] = Field(default_factory=dict)
    words: tuple[SpokenWord, ...]

    @model_validator(mode="after")
    def _sort(self) -> Self:
        ordered = tuple(sorted(self.words, key=lambda spoken: spoken.start))
        object.__setattr__(self, "words", ordered)
        return self

    def check_fits(self, duration_s: float, labels: tuple[str, ...], name: str) -> None:
        """Check that this describes a recording of this length, in words that a model knows.

        Raises:
            DataError: it does not; the message begins with `name`, the truth file.
        """
        described_s = self.duration_s
        if described_s is not None and abs(described_s - duration_s) > TOLERANCE_S:
            raise DataError(
                f"{name}: describes {described_s:.3f} s of audio, but the audio has "
                f"{duration_s:.3f} s"
            )
        for spoken in self.words:
            if spoken.end > duration_s + TOLERANCE_S:
                raise DataError(
                    f"{name}: {shown(spoken.word)} ends at {spoken.end:.3f} s, "
                    f"but the audio has {duration_s:.3f} s"
                )
            if spoken.word not in labels and spoken.word != "_unknown_":
                raise DataError(
                    f"{name}: the model has no word {shown(spoken.word)} (at {spoken.start:.3f} "
                    "s); label speech that it does not know as _unknown_"
                )


def read_truth(path: Path) -> Truth:
    """Read a truth file (JSON).

    Raises:
        DataError: missing, not JSON, or not a truth file; names the first wrong field.
    """
    try:
        return Truth.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: not a truth file: {describe(error, Truth)}") from error


def write_truth(truth: Truth, path: Path) -> None:
    """Write a truth file atomically, without empty fields.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    write_atomic(path, truth.model_dump_json(exclude_none=True, indent=1) + "\n")
