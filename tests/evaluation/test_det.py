"""The picture of the detection error trade-off, which short streams make sparse."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from speechgru.evaluation.det import THRESHOLDS, OperatingPoint, det_figure, save_det_picture

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
