"""speechgru: spoken commands, recognized frame by frame with a recurrent network."""

import os

from speechgru.version import __version__ as __version__

# From 1.32 on onnxruntime otherwise numbers the machine and reports its use to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # `typing` takes long enough to load that Ctrl-C would find it at that
if TYPE_CHECKING:
    from pathlib import Path

    from speechgru.recognition.recognizer import Recognizer


def load(model: "str | Path | None" = None) -> "Recognizer":
    """A recognizer for a stream, of an exported model (.onnx) or a trained one (.safetensors).

    Without a model it is the one in the package: ten commands, unknown words and silence.

    `recognizer.push(samples)` hears mono float32 samples in [-1, 1] at `recognizer.sample_rate`,
    any number of them, and gives the events that they settle; `recognizer.flush()` the last ones.

    Raises:
        DataError: missing, truncated, damaged, not a speechgru model, or of a newer format.
        UsageError: no such file, and no model of this name in the package.
        SpeechGRUError: a trained model, but torch is not installed.
    """
    from speechgru.backends.loader import load as opened

    return opened(model)
