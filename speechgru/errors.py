"""The errors that a user can cause, each with its exit code.

A message is one sentence that names the file or the option, what was found, and what is needed.
"""


class SpeechGRUError(Exception):
    """A failure that is reported to the user in one sentence; exit code 1."""

    exit_code = 1


class UsageError(SpeechGRUError):
    """An invalid command, recipe or option; exit code 2."""

    exit_code = 2


class AudioDeviceError(SpeechGRUError):
    """No usable microphone, or PortAudio is missing; exit code 3."""

    exit_code = 3


class DataError(SpeechGRUError):
    """An invalid recording, corpus or model file; exit code 4."""

    exit_code = 4


class MissingWordsError(DataError):
    """A corpus lacks words that its protocol needs."""


class GateError(SpeechGRUError):
    """A requested check failed (parity, quality); exit code 5."""

    exit_code = 5


class InterruptedRunError(SpeechGRUError):
    """The user interrupted a run, and its results so far were kept; exit code 130."""

    exit_code = 130
