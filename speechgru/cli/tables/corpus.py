"""What `data check` and `data stats` found, as tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from speechgru.cli.terminal import Terminal, err, out, plain
from speechgru.common.wording import counted

if TYPE_CHECKING:
    from speechgru.corpora.check import CheckReport
    from speechgru.corpora.listing import Skipped
    from speechgru.corpora.stats import CorpusStats, Summary

EXAMPLES = 3


def print_report(report: "CheckReport") -> None:
    """Print each kind of finding: how many, and a few of them."""
    from speechgru.corpora.check import ERRORS, WARNINGS
    from speechgru.corpora.corpus import SPLIT_RULES

    clips, noises = counted(report.clips, "clip"), counted(report.noises, "background recording")
    out.line(f"{report.root}: {clips}, {noises}")
    out.line(f"{SPLIT_RULES[report.split_by]}{_guess(report.guessed_speakers)}")
    for guess in report.guesses:
        out.line(guess)
    print_skipped(report.skipped, out)
    if not report.listened:
        out.line("too many clips to search each for speech")
    if not report.findings:
        out.line("no errors and no warnings")
        return
    table = _table("", "found", "n", "examples", right={"n"})
    for kind, findings in report.by_kind().items():
        examples = [str(finding) for finding in findings[:EXAMPLES]]
        if len(findings) > EXAMPLES:
            examples.append(f"and {len(findings) - EXAMPLES:,} more: see --json")
        severity = plain("error", "red") if kind in ERRORS else plain("warning", "yellow")
        what = {**ERRORS, **WARNINGS}[kind]
        lines = Text("\n").join(plain(example) for example in examples)
        table.add_row(severity, what, f"{len(findings):,}", lines)
    out.show(table)
    out.line(f"{counted(report.errors, 'error')}, {counted(report.warnings, 'warning')}")


def print_stats(stats: "CorpusStats") -> None:
    """Print a table of the words, then one of the splits."""
    from speechgru.corpora.corpus import SPLIT_RULES

    out.line(f"{stats.root}: {SPLIT_RULES[stats.split_by]}{_guess(stats.guessed_speakers)}")
    for guess in stats.guesses:
        out.line(guess)
    print_skipped(stats.skipped, out)
    out.show(_words(stats))
    out.line()
    out.show(_splits(stats))
    if stats.speakers:
        out.line()
        out.show(_by_speaker(stats))
    if stats.noises:
        minutes = stats.noise_hours * 60
        out.line(f"and {counted(stats.noises, 'background recording')}, {minutes:.1f} minutes")
    if stats.unreadable:
        unreadable = counted(len(stats.unreadable), "recording")
        are, them = ("is", "it") if len(stats.unreadable) == 1 else ("are", "them")
        out.styled(
            f"[red]{unreadable} cannot be read[/] and {are} not counted: "
            f"`speechgru data check` lists {them}"
        )


def print_skipped(skipped: "Sequence[Skipped]", to: Terminal = err) -> None:
    """What lies among the recordings and is not used, in a line for each reason."""
    from speechgru.corpora.listing import summarize_skipped

    for line in summarize_skipped(skipped):
        to.line(line)


def _guess(speakers: Sequence[str]) -> str:
    """That speakers were read off file names, and which; "" if they were not."""
    from speechgru.corpora.guesses import speaker_guess

    return f"; {speaker_guess(speakers)}" if speakers else ""


def _words(stats: "CorpusStats") -> Table:
    from speechgru.corpora.corpus import SPLITS

    columns = ("train", "valid", "test", "speakers", "minutes", "min s", "median s", "max s")
    table = _table("word", *columns, right=set(columns))
    for word, of in stats.words.items():
        clips = [f"{of[split].clips:,}" if split in of else "-" for split in SPLITS]
        whole = of["all"]
        minutes = f"{whole.hours * 60:.1f}"
        table.add_row(plain(word), *clips, _speakers(whole), minutes, *_durations(whole))
    return table


def _splits(stats: "CorpusStats") -> Table:
    columns = ("clips", "speakers", "hours", "min s", "median s", "max s", "rates")
    table = _table("split", *columns, right=set(columns))
    for split, whole in stats.splits.items():
        counts = f"{whole.clips:,}", _speakers(whole), f"{whole.hours:.2f}"
        table.add_row(split, *counts, *_durations(whole), _rates(whole))
    return table


def _by_speaker(stats: "CorpusStats") -> Table:
    from speechgru.corpora.corpus import SPLITS

    columns = ("train", "valid", "test")
    table = _table("speaker", *columns, right=set(columns))
    for speaker, clips in stats.speakers.items():
        counts = [f"{clips[split]:,}" if split in clips else "-" for split in SPLITS]
        table.add_row(plain(speaker), *counts)
    return table


def _table(*headings: str, right: set[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        side: Literal["right", "left"] = "right" if heading in right else "left"
        # What is too wide continues on the next line, so that no figure is cut.
        table.add_column(heading, justify=side, overflow="fold")
    return table


def _speakers(summary: "Summary") -> str:
    """Their number; "-" where no speaker is known."""
    return f"{summary.speakers:,}" if summary.speakers else "-"


def _durations(summary: "Summary") -> tuple[str, ...]:
    return tuple(f"{s:.2f}" for s in (summary.min_s, summary.median_s, summary.max_s))


def _rates(summary: "Summary") -> str:
    if len(summary.rates) == 1:
        return f"{next(iter(summary.rates)):,} Hz"
    return "\n".join(f"{clips:,} at {rate:,} Hz" for rate, clips in summary.rates.items())
