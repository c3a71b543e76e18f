"""What `calibrate` found, as tables that fit 80 columns."""

from collections import Counter
from typing import TYPE_CHECKING

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.tables.streams import decoder_settings, print_rate
from speechgru.cli.terminal import out, plain
from speechgru.common.wording import counted

if TYPE_CHECKING:
    from speechgru.evaluation.calibration import Calibration, Outcome


def print_calibration(found: "Calibration") -> None:
    """The thresholds, the trade-off, and what was chosen last."""
    out.line()
    _print_words(found)
    out.line()
    _print_trade_off(found)
    out.line()
    ambient = found.chosen.ambient
    out.line(
        f"ambient        {found.ambient.root.name}: "
        f"{counted(len(found.ambient.paths), 'recording')}, {ambient.hours:.2f} hours"
    )
    if found.case is not None:
        out.line(f"stream         {found.case.title}")
    out.line(f"decoder        {decoder_settings(found.config)}")
    out.line(f"state          {found.policy}")
    print_rate(ambient)
    stream = found.chosen.stream
    if stream is not None:
        low, high = stream.false_reject_ci95
        repeated = stream.recordings is not None and stream.recordings < stream.n
        of = f" of {stream.recordings:,} recordings" if repeated else ""
        out.styled(
            f"missed words   [bold]{100 * stream.false_reject_rate:.2f} %[/] "
            f"(95 % interval {100 * low:.2f} to {100 * high:.2f}; N={stream.n:,}{of})"
        )
    out.line("The thresholds were chosen on this audio: expect worse figures on any other.")


def _print_words(found: "Calibration") -> None:
    before, chosen = found.before, found.chosen
    table = bare_table(
        "word", "threshold", "before", "events", "per hour", "95 % interval", "missed"
    )
    missed = _missed(chosen)
    for word, threshold in chosen.thresholds.items():
        rate = chosen.ambient.by_word[word]
        low, high = rate["ci95"]
        table.add_row(
            plain(word),
            f"{threshold:g}",
            f"{before.thresholds[word]:g}",
            f"{rate['events']:,}",
            f"{rate['per_hour']:.2f}",
            f"{low:.2f} to {high:.2f}",
            missed.get(word, "-"),
        )
    out.show(table)


def _missed(outcome: "Outcome") -> dict[str, str]:
    """For each word of the stream, how many of its occurrences were missed."""
    if outcome.stream is None:
        return {}
    spoken_words = Counter(spoken.word for spoken in outcome.stream.words)
    matched = Counter(spoken.word for spoken, _ in outcome.stream.matched)
    return {word: f"{count - matched[word]} of {count}" for word, count in spoken_words.items()}


def _print_trade_off(found: "Calibration") -> None:
    rows = [("", outcome) for outcome in found.trade_off]
    rows = [("chosen" if outcome is found.chosen else "", outcome) for _, outcome in rows]
    table = bare_table(
        "", "per hour", "95 % interval", "missed %", "95 % interval", "false in stream"
    )
    for name, outcome in [("before", found.before), *rows]:
        low, high = outcome.ambient.ci95
        cells = [f"{outcome.ambient.per_hour:.2f}", f"{low:.2f} to {high:.2f}"]
        if outcome.stream is not None:
            stream = outcome.stream
            low, high = stream.false_reject_ci95
            cells += [
                f"{100 * stream.false_reject_rate:.2f}",
                f"{100 * low:.2f} to {100 * high:.2f}",
                f"{len(stream.false_alarms):,}",
            ]
        table.add_row(name, *cells, *["-"] * (5 - len(cells)))
    out.show(table)
