"""`speechgru data check`: finds what is wrong with recordings before a run is trained on them."""

from typing import Annotated

import typer

from speechgru.cli import options
from speechgru.cli.checking import checked
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import print_json
from speechgru.common.wording import counted
from speechgru.errors import DataError


@examples("speechgru data check my-words/", "speechgru data check recordings.csv --strict --json")
def check(
    directory: options.Directory,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 4 for warnings too.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Find what is wrong with recordings.

    Unreadable files, recordings too long to be read as a whole, samples that are NaN, infinite or
    (as floats) far beyond 1, the same audio under two words or in two splits, speakers in two
    splits and empty splits are errors, with exit code 4. Warnings are for clips that are silent,
    without speech where most clips of the word have it, clipped, cut off, unusually long or short,
    repeated, at another sample rate than most, or with channels that cancel each other; for silent
    background recordings, or talk in them; for words with few clips, or with none to validate or
    test; and for unknown speakers.
    """
    from speechgru.corpora import open_corpus

    corpus = open_corpus(directory)
    with progress_bar("checking") as progress:
        report = checked(corpus, progress)
    if json:
        print_json(report.as_dict())
    else:
        from speechgru.cli.tables.corpus import print_report

        print_report(report)
    if report.errors or (strict and report.warnings):
        warnings = f" and {counted(report.warnings, 'warning')}" if strict else ""
        raise DataError(f"{directory}: {counted(report.errors, 'error')}{warnings}")
