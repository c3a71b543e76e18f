"""The picture of the detection error trade-off, which short streams make sparse."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tone_listener import stream, tone_listener, with_ctc_head
from tones import RATE

from speechgru.backends.pytorch import TorchBackend
from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.decoding.ctc import CTCConfig
from speechgru.decoding.grammar import parse_grammar
from speechgru.evaluation.det import (
    THRESHOLDS,
    OperatingPoint,
    det_curve,
    det_figure,
    save_det_picture,
)
from speechgru.evaluation.streams import ArraySound, recognize_stream
from speechgru.labels import Spelling
from speechgru.recognition.state_policy import CARRY

CURVES = {
    "four words, one false alarm": lambda t: (12.0 if t <= 0.3 else 0.0, round(4 * t) / 4),
    "nothing goes wrong": lambda t: (0.0, 0.0),
    "nothing is recognized": lambda t: (0.0, 1.0),
    "hundreds of words": lambda t: (600.0 * (1 - t), t**3),
}


def curve(name):
    return [OperatingPoint(t, *CURVES[name](t)) for t in THRESHOLDS]


@pytest.mark.parametrize("name", CURVES)
def test_labels_and_points_can_all_be_seen(name):
    points = curve(name)
    figure = det_figure(points, points[8], name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (axes,) = figure.axes
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert boxes
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    inside = axes.get_window_extent(renderer)
    assert all(inside.x0 <= box.x0 and box.y1 <= inside.y1 for box in boxes)
    detector = axes.transData.transform(axes.lines[-1].get_xydata()[0])
    assert inside.padded(-5).contains(*detector)  # the whole dot


def test_thresholds_with_the_same_errors_share_a_label():
    points = curve("nothing goes wrong")
    (axes,) = det_figure(points, points[0], "").axes
    assert [text.get_text() for text in axes.texts] == ["0.1 to 0.98"]
    assert axes.get_xlim()[1] >= 1.0


def test_a_picture_is_written_whole(tmp_path):
    points = curve("hundreds of words")
    save_det_picture(points, points[3], "語 $x", tmp_path / "det.png")
    assert [path.name for path in tmp_path.iterdir()] == ["det.png"]


@pytest.mark.parametrize("mode", ["carry", "event"])
def test_the_curve_is_of_the_decoder_with_its_grammar(mode):
    """At the decoder's own threshold it is the decoder's own point."""
    backend = TorchBackend(with_ctc_head(tone_listener()))
    samples, _ = stream(["low", "high", "mid", "mid", "low"], seed=900)
    sound = ArraySound(np.asarray(samples, np.float32), RATE)
    grammar = parse_grammar("mid (mid|high)", Spelling(backend.info.outputs["ctc"]))
    config = CTCConfig(threshold=THRESHOLDS[len(THRESHOLDS) // 2])
    policy = CARRY.model_copy(update={"mode": mode})
    output = recognize_stream(backend, sound, config, policy, grammar=grammar)
    without = recognize_stream(backend, sound, config, policy)
    assert len(output.events) < len(without.events)
    truth = Truth(duration_s=60.0, words=(SpokenWord(word="low", start=0.0, end=0.1),))
    (point,) = [
        point
        for point in det_curve(backend, sound, truth, output, config, policy)
        if point.threshold == config.threshold
    ]
    per_hour = 3600 / output.duration_s
    assert point.false_alarms_per_hour == pytest.approx(len(output.events) * per_hour)
