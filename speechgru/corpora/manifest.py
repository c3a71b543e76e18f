"""Manifests: a CSV file with the columns file, word, speaker and split."""

import codecs
import csv
import unicodedata
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from speechgru.common.wording import did_you_mean, shown
from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.listing import BACKGROUND_NOISE, normalized
from speechgru.corpora.speakers import Recording, split_recordings
from speechgru.errors import DataError

REQUIRED = ("file", "word")
COLUMNS = (*REQUIRED, "speaker", "split")
#: What separates cells: spreadsheets of some languages write semicolons.
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_manifest(path: Path) -> Corpus:
    """Read a manifest; files are relative to its directory, in the order of its lines.

    `speaker` and `split` are optional: without them speakers are read off the file names, and the
    split is by speaker. The word `_background_noise_` marks background recordings, of which every
    split gets a part.

    Raises:
        DataError: names the line, what was found and what is needed.
    """
    found: list[Recording] = []
    splits: list[str] = []
    noises: dict[Path, str] = {}
    lines: dict[Path, int] = {}
    for line, row in _rows(path):
        recording = _recording(path, line, row)
        if (first := lines.setdefault(recording.path, line)) != line:
            raise DataError(f"{path}, line {line}: {shown(recording.name)} is also in line {first}")
        split = row.get("split", "").strip()
        if recording.word == BACKGROUND_NOISE:
            noises[recording.path] = split
            continue
        if split not in ("", *SPLITS):
            wanted = f"a split is one of {', '.join(SPLITS)}"
            raise DataError(f"{path}, line {line}: split {shown(split)}; {wanted}")
        found.append(recording)
        splits.append(split)
        if bool(split) != bool(splits[0]):
            raise DataError(
                f"{path}, line {line}: split {shown(split)} after {shown(splits[0])}; either "
                "every line needs a split, or none"
            )
    if not found:
        raise DataError(f"{path}: no recordings; each line after the first names one")
    clips, rule, is_guess = split_recordings(found)
    if any(splits):
        pairs = zip(clips, splits, strict=True)
        clips = tuple(Clip(clip.path, clip.word, clip.speaker, split) for clip, split in pairs)
        rule = "manifest"
    notes = _ignored_splits(noises) if len(set(splits)) > 1 else ()
    return Corpus(path.parent, "manifest", clips, tuple(noises), rule, is_guess, notes=tuple(notes))


def _ignored_splits(noises: dict[Path, str]) -> Iterator[str]:
    """That the manifest gives background recordings splits, if it does."""
    for path in [path for path, split in noises.items() if split][:1]:
        yield (
            f"the split of background noise is ignored ({path.name}: {noises[path]}): every split "
            "gets a part of each background recording"
        )


def _recording(path: Path, line: int, row: dict[str, str]) -> Recording:
    word = normalized(row["word"].strip())
    if not word:
        raise DataError(
            f"{path}, line {line}: the word is empty; each line needs a file and a word"
        )
    written = row["file"].strip()
    name = next((name for name in _spellings(written) if _is_file(path.parent / name)), None)
    if name is None:
        raise DataError(
            f"{path}, line {line}: there is no file {shown(written)}; paths are relative to the "
            "manifest"
        )
    speaker = normalized(row.get("speaker", "").strip())
    return Recording(path.parent / name, name, word, speaker)


def _spellings(name: str) -> Iterator[str]:
    """A file's name as written, with slashes for backslashes, and its accents composed or not."""
    yield name
    slashed = name.replace("\\", "/")
    yield slashed
    yield unicodedata.normalize("NFC", slashed)
    yield unicodedata.normalize("NFD", slashed)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column of each line after the first, without empty lines."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = max(_SEPARATORS, key=first.count)
            reader = csv.reader(chain([first], file), strict=True, delimiter=separator)
            header = [column.strip().lower() for column in next(reader, [])]
            _check_header(path, header)
            line = reader.line_num
            for cells in reader:
                line = reader.line_num
                if not any(map(str.strip, cells)):
                    continue
                if len(cells) != len(header):
                    under = f"{len(cells)} cells under the {len(header)} columns"
                    raise DataError(
                        f"{path}, line {line}: {under} {separator.join(header)}; "
                        f"quote cells that have a {_SEPARATORS[separator]}"
                    )
                yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line + 1}: not a CSV file: {error}; check the quotes"
        ) from error
    except UnicodeDecodeError as error:
        is_utf16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        found = "is UTF-16" if is_utf16 else f"is not UTF-8 text ({error.reason})"
        raise DataError(f"{path}: {found}; save it as CSV UTF-8") from error
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
