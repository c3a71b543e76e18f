"""Export: builds the graph, checks that it is right, and only then writes the file."""

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
from speechgru.recognition.recognizer import complete_settings
from speechgru.recognition.verification import Difference
from speechgru.version import __version__

#: Points of accuracy that an export may lose.
MAX_POINTS_LOST = 0.3

Weights = Literal["float32", "int8"]


@dataclass(frozen=True)
class Accuracy:
    """The share of a split's n clips that is right, in PyTorch and exported."""

    protocol: str
    split: str
    n: int
    pytorch: float
    exported: float

    @property
    def points_lost(self) -> float:
        """Lost points; negative if the export is better."""
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
    """An exported model: its file, and how it compares with PyTorch.

    `differences` are between the graph and PyTorch with the weights in the file.
    """

    path: Path
    size_bytes: int
    weights: Weights
    differences: tuple[Difference, ...]
    accuracy: Accuracy | None

    @property
    def largest_difference(self) -> float:
        """The largest difference in log-posteriors."""
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
    """Write a model as ONNX, after checking that the file gives the same results as PyTorch.

    The graph is compared with PyTorch on the embedded corpus, and on clips of `audio`, if any,
    whole and in chunks. With int8 weights it is compared with PyTorch with rounded weights; what
    rounding costs shows in the accuracy on `audio`.

    Raises:
        GateError: log-posteriors differ by more than 1e-4, or more than 0.3 points of accuracy are
            lost; nothing is written.
        UsageError: the model needs whole clips.
        SpeechGRUError: a layer cannot be exported, or the file cannot be written.
    """
    model.check_streams()
    reference = TorchBackend(model.cpu())
    recordings = [embedded_recording(model.sample_rate)]
    if audio is not None:
        recordings.append(recording_of(audio, clip_samples(reference)))
    exported = as_onnx(model, "float32")
    differences = check_parity(OnnxBackend(exported), reference, recordings, progress=progress)
    if weights == "int8":
        exported, with_rounded = as_onnx(model, "int8"), TorchBackend(rounded(model))
        differences = check_parity(
            OnnxBackend(exported), with_rounded, recordings, progress=progress
        )
    accuracy = None
    if audio is not None:
        accuracy = _accuracy(reference, OnnxBackend(exported), audio, progress)
    worst = max(difference.log_posteriors for difference in differences)
    checked: dict[str, Any] = {"largest_difference": worst}
    if accuracy is not None:
        checked["accuracy"] = accuracy.as_dict()
    content = _with_checks(exported, checked)
    write_atomic(path, content)
    return Export(path, len(content), weights, tuple(differences), accuracy)


def as_onnx(model: SpeechGRU, weights: Weights) -> OnnxFile:
    """A model as an ONNX file, not yet compared with anything: its bytes and its header."""
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
    metadata = complete_settings(model.metadata, model.outputs)
    header = header_of(model) | {"metadata": metadata, "graph": graph}
    return parse_onnx(with_header(content, header))


def _with_checks(exported: OnnxFile, checked: dict[str, Any]) -> bytes:
    """The same file with the results of the checks in its header."""
    graph = exported.header["graph"] | {"checked": checked}
    return with_header(exported.content, dict(exported.header) | {"graph": graph})


def _accuracy(
    reference: TorchBackend, exported: OnnxBackend, audio: SplitAudio, progress: Progress | None
) -> Accuracy:
    report = evaluate_clips(exported, audio.task, audio.split, audio.packed, progress=progress)
    pytorch = evaluate_clips(reference, audio.task, audio.split, audio.packed)
    accuracy = Accuracy(report.protocol, report.split, report.n, pytorch.accuracy, report.accuracy)
    if accuracy.points_lost > MAX_POINTS_LOST:
        raise GateError(
            f"the export recognizes {100 * accuracy.exported:.2f} % of {accuracy.n} clips "
            f"({accuracy.split}), PyTorch {100 * accuracy.pytorch:.2f} %; "
            f"at most {MAX_POINTS_LOST:g} points may be lost; nothing was written"
        )
    return accuracy
