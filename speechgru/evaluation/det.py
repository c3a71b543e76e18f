"""Detection error trade-off (DET): false alarms against missed words, over all thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from speechgru.common.files import atomic_path
from speechgru.common.progress import Progress
from speechgru.corpora.truth import Truth
from speechgru.decoding.factory import DecoderConfig
from speechgru.evaluation.events import score_events
from speechgru.evaluation.lettering import drawable, lettering
from speechgru.evaluation.streams import Sound, StreamOutput, StreamReport, recognize_stream
from speechgru.recognition.backend import Backend
from speechgru.recognition.state_policy import StatePolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(2, 17)) + tuple(
    round(0.8 + 0.02 * i, 2) for i in range(1, 10)
)
#: Room for a label of a threshold.
_LABEL_PIXELS = (60.0, 25.0)
#: Characters in a line of the title.
_TITLE_WIDTH = 60


@dataclass(frozen=True)
class OperatingPoint:
    """The error rates at one threshold for all words; None stands for a threshold per word."""

    threshold: float | None
    false_alarms_per_hour: float
    false_reject_rate: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "threshold": self.threshold,
            "false_alarms_per_hour": self.false_alarms_per_hour,
            "false_reject_rate": self.false_reject_rate,
        }


def det_curve(
    backend: Backend,
    sound: Sound,
    truth: Truth,
    output: StreamOutput,
    config: DecoderConfig,
    policy: StatePolicy,
    progress: Progress | None = None,
) -> list[OperatingPoint]:
    """A point for each of `THRESHOLDS`, in order.

    All are decoded from the log-posteriors of `output`, unless events reset the state.
    """
    points = []
    for done, threshold in enumerate(THRESHOLDS, 1):
        other = config.model_copy(update={"threshold": threshold, "thresholds": {}})
        if policy.mode == "event":
            again = recognize_stream(backend, sound, other, policy, grammar=output.grammar)
            events = list(again.events)
        else:
            events = output.replay(other)
        report = score_events(truth, events, output.duration_s)
        points.append(
            OperatingPoint(threshold, report.false_alarms_per_hour, report.false_reject_rate)
        )
        if progress is not None:
            progress(done, len(THRESHOLDS))
    return points


def save_stream_picture(
    backend: Backend, report: StreamReport, path: Path, progress: Progress | None = None
) -> None:
    """Draw the DET curve of a stream whose log-posteriors were kept.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    case, events = report.case, report.events
    points = det_curve(
        backend, case.sound, case.truth, report.output, report.config, report.policy, progress
    )
    chosen = OperatingPoint(
        report.config.threshold, events.false_alarms_per_hour, events.false_reject_rate
    )
    title = f"{case.title}\n{events.n:,} words, state: {report.policy}"
    save_det_picture(points, chosen, title, path)


def save_det_picture(
    points: Sequence[OperatingPoint],
    chosen: OperatingPoint,
    title: str,
    path: Path,
    by_word: Sequence[OperatingPoint] = (),
) -> None:
    """Draw the curve as PNG, with the detector's own point; written atomically.

    `by_word` are points with a threshold per word, drawn as a second curve.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    with lettering(), atomic_path(path) as temporary:
        det_figure(points, chosen, title, by_word).savefig(temporary, format="png")


def det_figure(
    points: Sequence[OperatingPoint],
    chosen: OperatingPoint,
    title: str,
    by_word: Sequence[OperatingPoint] = (),
) -> "Figure":
    """The picture that `save_det_picture` writes."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(6.4, 4.8), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    axes.plot(
        *zip(*map(_place, points), strict=True),
        marker=".",
        label="one threshold for all words",
    )
    if by_word:
        axes.plot(
            *zip(*map(_place, by_word), strict=True),
            marker=".",
            label="a threshold for each word",
        )
    axes.plot(*_place(chosen), "o", label="detector", clip_on=False, zorder=3)
    axes.set_xlabel("false alarms per hour")
    axes.set_ylabel("words not recognized, %")
    # From none to thousands: logarithmic from one per hour on, linear below.
    axes.set_xscale("symlog", linthresh=1.0)
    most = max(point.false_alarms_per_hour for point in (*points, *by_word, chosen))
    axes.set_xlim(-0.05, 2.5 * max(1.0, most))
    axes.set_ylim(-3, 108)
    axes.xaxis.set_major_formatter("{x:g}")
    _label_thresholds(axes, points)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(fill(drawable(title), _TITLE_WIDTH), fontsize="medium", parse_math=False)
    return figure


def _place(point: OperatingPoint) -> tuple[float, float]:
    """Where a point is drawn: x, y."""
    return point.false_alarms_per_hour, 100 * point.false_reject_rate


def _label_thresholds(axes: "Axes", points: Sequence[OperatingPoint]) -> None:
    """Write thresholds beside points, so many of them that no two labels overlap.

    Where several thresholds have the same errors, as on a short stream, they share a label.
    """
    thresholds: dict[tuple[float, float], list[float]] = {}
    for point in points:
        if point.threshold is not None:
            thresholds.setdefault(_place(point), []).append(point.threshold)
    labelled: list[tuple[float, float]] = []
    for place, same in thresholds.items():
        x, y = axes.transData.transform(place)
        if any(
            abs(x - x1) < _LABEL_PIXELS[0] and abs(y - y1) < _LABEL_PIXELS[1] for x1, y1 in labelled
        ):
            continue
        labelled.append((x, y))
        text = f"{min(same):g}" + (f" to {max(same):g}" if len(same) > 1 else "")
        axes.annotate(text, place, (5, 4), textcoords="offset points", fontsize="x-small")
