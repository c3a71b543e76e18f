"""Export: the graph, the proof that it is right, and only then the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from speechgru.backends.onnx import OnnxBackend
from speechgru.backends.pytorch import TorchBackend
from speechgru.common.files import write_atomic
from speechgru.common.progress import Progress
from speechgru.corpora.split_audio import SplitAudio
from speechgru.errors import GateError
from speechgru.evaluation.clips import evaluate_clips
from speechgru.export.graph import build_graph
from speechgru.export.graph_builder import OPSET
from speechgru.export.parity import check_parity, embedded_recording, recording_of
from speechgru.export.weights import folded, rounded
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.onnx import OnnxFile, parse_onnx, with_header
from speechgru.modelfile.safetensors import header_of
from speechgru.recognition.clips import clip_samples
from speechgru.recognition.verification import Difference
from speechgru.version import __version__

#: Points of accuracy that an export may lose.
MOST_POINTS_LOST = 0.3

Weights = Literal["float32", "int8"]


@dataclass(frozen=True)
class Accuracy:
    """The share of a split's n clips that is right, through PyTorch and exported."""

    protocol: str
    split: str
    n: int
    pytorch: float
    exported: float

    @property
    def points_lost(self) -> float:
        """Negative where the export is better."""
        return 100 * (self.pytorch - self.exported)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "protocol": self.protocol,
            "split": self.split,
            "n": self.n,
            "pytorch": self.pytorch,
            "exported": self.exported,
        }


@dataclass(frozen=True)
class Export:
    """A model that was exported: its file, and what it was compared with.

    `differences` are those of the graph from PyTorch with the weights that the file holds.
    """

    path: Path
    size_bytes: int
    weights: Weights
    differences: tuple[Difference, ...]
    accuracy: Accuracy | None

    @property
    def largest_difference(self) -> float:
        """Of all log-posteriors that were compared."""
        return max(difference.log_posteriors for difference in self.differences)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": str(self.path),
            "size_bytes": self.size_bytes,
            "weights": self.weights,
            "largest_difference": self.largest_difference,
            "differences": [difference.as_dict() for difference in self.differences],
            "accuracy": self.accuracy.as_dict() if self.accuracy else None,
        }


def export_model(
    model: SpeechGRU,
    path: Path,
    weights: Weights = "float32",
    audio: SplitAudio | None = None,
    progress: Progress | None = None,
) -> Export:
    """Write a model as ONNX, once it is shown that the file answers as PyTorch does.

    The graph is compared with PyTorch on the embedded corpus, and on clips of `audio` if there is
    any, whole and in chunks. In 8 bits it is compared with PyTorch's answer to the rounded weights;
    what the rounding costs is the accuracy on `audio`.

    Raises:
        GateError: the graph differs by more than 1e-4 in log-posteriors, or more than 0.3 points of
            accuracy are lost. Nothing was written.
        UsageError: the model needs whole clips.
        SpeechGRUError: a layer cannot be exported, or the file cannot be written.
    """
    model.check_streams()
    reference = TorchBackend(model.cpu())
    recordings = [embedded_recording(model.sample_rate)]
    if audio is not None:
        recordings.append(recording_of(audio, clip_samples(reference)))
    exported, held = as_onnx(model, "float32"), reference
    differences = check_parity(OnnxBackend(exported), held, recordings, progress=progress)
    if weights == "int8":
        exported, held = as_onnx(model, "int8"), TorchBackend(rounded(model))
        differences = check_parity(OnnxBackend(exported), held, recordings, progress=progress)
    accuracy = None
    if audio is not None:
        accuracy = _accuracy(reference, OnnxBackend(exported), audio, progress)
    result = Export(path, len(exported.content), weights, tuple(differences), accuracy)
    checked: dict[str, Any] = {"largest_difference": result.largest_difference}
    if accuracy is not None:
        checked["accuracy"] = accuracy.as_dict()
    write_atomic(path, _described(exported, checked))
    return result


def as_onnx(model: SpeechGRU, weights: Weights) -> OnnxFile:
    """A model as an ONNX file that was not compared with anything: its bytes, and its header."""
    content = build_graph((rounded if weights == "int8" else folded)(model), weights == "int8")
    graph = {
        "sample_rate": model.sample_rate,
        "step_samples": model.step_samples,
        "parameters": model.parameter_count,
        "weights": weights,
        "opset": OPSET,
        "speechgru": __version__,
        "onnx": onnx.__version__,
    }
    return parse_onnx(with_header(content, header_of(model) | {"graph": graph}))


def _described(exported: OnnxFile, checked: dict[str, Any]) -> bytes:
    """The same file, and in its header what was found."""
    graph = exported.header["graph"] | {"checked": checked}
    return with_header(exported.content, dict(exported.header) | {"graph": graph})


def _accuracy(
    reference: TorchBackend, exported: OnnxBackend, audio: SplitAudio, progress: Progress | None
) -> Accuracy:
    of_split = audio.task, audio.split, audio.packed
    ours = evaluate_clips(exported, *of_split, progress=progress)
    theirs = evaluate_clips(reference, *of_split)
    found = Accuracy(ours.protocol, ours.split, ours.n, theirs.accuracy, ours.accuracy)
    if found.points_lost > MOST_POINTS_LOST:
        raise GateError(
            f"the export recognizes {100 * found.exported:.2f} % of {found.n} clips "
            f"({found.split}) where PyTorch recognizes {100 * found.pytorch:.2f} %; "
            f"{MOST_POINTS_LOST:g} points may be lost; nothing was written"
        )
    return found
