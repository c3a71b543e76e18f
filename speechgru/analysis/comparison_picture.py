"""A comparison as a picture."""

from collections.abc import Sequence
from pathlib import Path

from speechgru.analysis.comparison_results import Row
from speechgru.common.files import atomic_path


def save_comparison_picture(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw each cell's accuracy with its interval and seeds, and its costs; written atomically.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    splits = list(rows[0].splits)
    panels = len(splits) + 2
    figure = Figure(figsize=(3.2 * panels, 1.4 + 0.34 * len(rows)), layout="constrained", dpi=120)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    places = range(len(rows))
    for axis, split in zip(axes, splits, strict=False):
        for place, row in enumerate(rows):
            found = row.splits[split]
            low, high = found.ci95
            axis.plot([100 * low, 100 * high], [place, place], color="C0", linewidth=1.5)
            axis.plot([100 * a for a in found.accuracies], [place] * row.seeds, "|", color="C0")
            axis.plot(100 * found.accuracy, place, "o", color="C0")
        n = rows[0].splits[split].n
        axis.set_xlabel(f"{split}, % of {n:,} clips\n(95 % interval)")
    costs = axes[len(splits) :]
    costs[0].barh(places, [row.costs.train_clips_per_second for row in rows], color="C2")
    costs[0].set_xlabel("training, clips a second")
    costs[1].barh(places, [row.costs.step_us or 0 for row in rows], color="C1")
    costs[1].set_xlabel("a step of a stream, µs")
    axes[0].set_yticks(places, [f"{row.cell}, {row.hidden}" for row in rows], parse_math=False)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize="medium", parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
