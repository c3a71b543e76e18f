"""Pictures of an evaluation, as PNG."""

from pathlib import Path

import numpy as np

from speechgru.common.files import atomic_path
from speechgru.evaluation.clip_report import ClipReport

#: Up to this many labels a cell has room for its count.
MOST_WITH_COUNTS = 40


def save_confusion_picture(report: ClipReport, path: Path) -> None:
    """Draw the confusion matrix, each row as shares of its label's clips; written atomically.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    shown = report.shown
    counts = report.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [report.labels[i] for i in shown]
    side_inches = min(3.5 + 0.38 * len(labels), 24.0)
    # A Figure of its own has no window and no global state, as pyplot's have.
    figure = Figure(figsize=(side_inches, side_inches), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    # The square root makes a few clips that went astray visible beside a full diagonal.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(labels)), labels, rotation=90, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_xlabel("recognized")
    axes.set_ylabel("said")
    low, high = report.ci95
    axes.set_title(
        f"{report.protocol}, {report.split}: {100 * report.accuracy:.2f} % of {report.n:,} clips\n"
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f})",
        fontsize="medium",
        parse_math=False,
    )
    if len(labels) <= MOST_WITH_COUNTS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if shares[row, column] > 0.4 else "black",
            )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
