"""Manifests: a CSV file with the columns file, word, speaker and split."""

import csv
from collections.abc import Iterator
from pathlib import Path

from speechgru.common.wording import did_you_mean, shown
from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.listing import BACKGROUND_NOISE, normalized
from speechgru.corpora.speakers import Recording, split_recordings
from speechgru.errors import DataError

REQUIRED = ("file", "word")
COLUMNS = (*REQUIRED, "speaker", "split")


def read_manifest(path: Path) -> Corpus:
    """Read a manifest; files are relative to its directory, in the order of its lines.

    `speaker` and `split` are optional: without them speakers are read off the file names, and the
    split is by speaker. The word `_background_noise_` marks background recordings.

    Raises:
        DataError: names the line, what was found and what is needed.
    """
    found: list[Recording] = []
    splits: list[str] = []
    noises: list[Path] = []
    lines: dict[Path, int] = {}
    for line, row in _rows(path):
        recording = _recording(path, line, row)
        if (first := lines.setdefault(recording.path, line)) != line:
            raise DataError(f"{path}, line {line}: {shown(recording.name)} is also in line {first}")
        if recording.word == BACKGROUND_NOISE:
            noises.append(recording.path)
            continue
        found.append(recording)
        splits.append(row.get("split", "").strip())
        if splits[-1] not in ("", *SPLITS):
            wanted = f"a split is one of {', '.join(SPLITS)}"
            raise DataError(f"{path}, line {line}: split {shown(splits[-1])}; {wanted}")
        if bool(splits[-1]) != bool(splits[0]):
            raise DataError(
                f"{path}, line {line}: split {shown(splits[-1])} after {shown(splits[0])}; either "
                "every line needs a split, or none"
            )
    if not found:
        raise DataError(f"{path}: no recordings; each line after the first names one")
    clips, rule, is_guess = split_recordings(found)
    if any(splits):
        pairs = zip(clips, splits, strict=True)
        clips = tuple(Clip(clip.path, clip.word, clip.speaker, split) for clip, split in pairs)
        rule = "manifest"
    return Corpus(path.parent, "manifest", clips, tuple(noises), rule, is_guess)


def _recording(path: Path, line: int, row: dict[str, str]) -> Recording:
    word = normalized(row["word"].strip())
    if not word:
        raise DataError(
            f"{path}, line {line}: the word is empty; each line needs a file and a word"
        )
    name = row["file"].strip()
    file = path.parent / name
    try:
        is_file = bool(name) and file.is_file()
    except OSError:  # the name is too long
        is_file = False
    if not is_file:
        raise DataError(
            f"{path}, line {line}: there is no file {shown(name)}; paths are relative to the "
            "manifest"
        )
    return Recording(file, name, word, normalized(row.get("speaker", "").strip()))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column of each line after the first, without blank lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [column.strip() for column in next(reader, [])]
            _check_header(path, header)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells under the "
                        f"{len(header)} columns {','.join(header)}; quote cells that have a comma"
                    )
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_header(path: Path, header: list[str]) -> None:
    needed = f"a manifest is a CSV file whose first line is {','.join(COLUMNS)}"
    if missing := [column for column in REQUIRED if column not in header]:
        raise DataError(f"{path}, line 1: no column {' or '.join(map(repr, missing))}; {needed}")
    for column in header:
        if column not in COLUMNS:
            hint = did_you_mean(column, COLUMNS) or f"; {needed}"
            raise DataError(f"{path}, line 1: unknown column {shown(column)}{hint}")
        if header.count(column) > 1:
            raise DataError(f"{path}, line 1: column {column!r} appears twice; {needed}")
