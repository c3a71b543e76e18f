"""The result of `train`, as JSON and as a line."""

import sys
from shlex import quote
from typing import TYPE_CHECKING

from speechgru.cli.terminal import out

if TYPE_CHECKING:
    from speechgru.training.loop import TrainingResult

#: More missed words than this are mentioned.
_MANY_MISSED_PERCENT = 50.0
#: Of less sound without words no rate is given.
_LEAST_HOURS = 0.02


def as_json(result: "TrainingResult") -> dict[str, object]:
    """A run's result in the form that `--json` prints."""
    return {
        "run": str(result.run),
        "model": str(result.model),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "stopped_early": result.early,
        "metrics": result.metrics,
    }


def print_result(result: "TrainingResult", data: str) -> None:
    """Print the best model with its validation figures, and the next command with its data."""
    score = result.metrics["validation"]
    carried = ", state carried" if score.get("carried") else ""
    why = ", ended early without a better validation" if result.early else ""
    if result.metrics["step"] == 0:
        out.line(f"{result.model}: nothing better was found; it has the weights it began with")
        return
    out.line(
        f"{result.model}: best at step {result.metrics['step']} of {result.steps}{why}; "
        f"validation {100 * score['balanced_accuracy']:.2f} % balanced over the labels, "
        f"{100 * score['accuracy']:.2f} % of N={score['n']}{carried}; {result.seconds:.0f} s"
    )
    if "stream_words" in score:
        hours = score["stream_hours"]
        alarms = (
            f"{score['false_alarms_per_hour']:.1f} false alarms per hour in {hours:.2f} hours, "
        )
        out.line(
            f"in streams of validation: {score['missed_percent']:.1f} % of "
            f"{score['stream_words']:,} words missed, {alarms * (hours >= _LEAST_HOURS)}"
            f"threshold {score['threshold']:g}"
        )
        if score["missed_percent"] > _MANY_MISSED_PERCENT:
            out.line("most words are missed: record more takes, by more people, or train longer")
    if sys.stdout.isatty():
        model = quote(str(result.model))
        out.line(f"next: speechgru evaluate {model} --data {quote(data)}")
        if "stream_words" in score:
            out.line(f"      speechgru listen {model}")
