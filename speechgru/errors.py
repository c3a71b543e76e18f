"""One family of errors that a user can cause, each with its exit code.

A message is one sentence that names the file or the option, what was found, and what is needed.
"""


class SpeechGRUError(Exception):
    """Something failed that the user should be told of in one sentence; exit code 1."""

    exit_code = 1


class UsageError(SpeechGRUError):
    """A command, a recipe or an option that makes no sense; exit code 2."""

    exit_code = 2


class AudioDeviceError(SpeechGRUError):
    """No usable microphone, or no PortAudio; exit code 3."""

    exit_code = 3


class DataError(SpeechGRUError):
    """A recording, a corpus or a model file that is invalid; exit code 4."""

    exit_code = 4


class GateError(SpeechGRUError):
    """A check that was asked for did not pass (parity, quality); exit code 5."""

    exit_code = 5


class InterruptedRunError(SpeechGRUError):
    """The user stopped a run; what was done so far is kept; exit code 130."""

    exit_code = 130
