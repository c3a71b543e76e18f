"""What `evaluate --sequences` found, as tables that fit 80 columns."""

from typing import TYPE_CHECKING

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.tables.streams import decoder_settings
from speechgru.cli.terminal import out, plain

if TYPE_CHECKING:
    from speechgru.evaluation.sequences import SequenceReport, WordErrors

#: With more speakers than this the table is too long to read.
MOST_SPEAKERS = 20
WRONG = 8


def print_sequences(report: "SequenceReport") -> None:
    """Print some sequences with errors, every speaker's rate, and last the figures."""
    errors, made = report.errors, report.source
    out.line()
    _print_wrong(errors)
    if 1 < len(report.by_speaker) <= MOST_SPEAKERS:
        _print_speakers(report)
    (few, many), (least_s, most_s), (least_db, most_db) = (
        made[name] for name in ("words", "gap_s", "snr_db")
    )
    out.line(
        f"sequences      {len(errors.sequences):,} of {few} to {many} words, gaps {least_s:g} to "
        f"{most_s:g} s, {least_db:g} to {most_db:g} dB SNR"
    )
    out.line(f"decoder        {decoder_settings(report.config)}")
    out.line(f"state          {report.policy}")
    out.line(
        f"words          {errors.words:,}: substituted {errors.edits.substitutions:,}, "
        f"deleted {errors.edits.deletions:,}, inserted {errors.edits.insertions:,}"
    )
    low, high = errors.ci95
    out.styled(
        f"word errors    [bold]{100 * errors.rate:.2f} %[/] "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f}, bootstrapped)"
    )
    if report.attention:
        low, high = report.attention.ci95
        out.line(
            f"with attention {100 * report.attention.rate:.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}), whole sequences at once"
        )
    right = errors.correct_sequences
    out.line(f"all correct    {right:,} of {len(errors.sequences):,}")


def _print_wrong(errors: "WordErrors") -> None:
    wrong = [sequence for sequence in errors.sequences if sequence.edits.total]
    if not wrong:
        return
    out.styled("[bold]sequences with errors[/], some of them")
    for sequence in wrong[:WRONG]:
        out.line(f"  spoken      {' '.join(sequence.reference)}")
        out.line(f"  recognized  {' '.join(sequence.hypothesis)}")
    out.line()


def _print_speakers(report: "SequenceReport") -> None:
    headings = "sequences", "words", "sub.", "del.", "ins.", "errors %", "95 % interval"
    table = bare_table("speaker", *headings, gap=2)
    for speaker, errors in report.by_speaker.items():
        low, high = errors.ci95
        table.add_row(
            plain(speaker or "several"),
            f"{len(errors.sequences):,}",
            f"{errors.words:,}",
            *(f"{count:,}" for count in errors.edits),
            f"{100 * errors.rate:.2f}",
            f"{100 * low:.2f} to {100 * high:.2f}",
        )
    out.show(table)
    out.line()
