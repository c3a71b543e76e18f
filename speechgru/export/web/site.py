"""The page's files: the model, its header, the JavaScript, and onnxruntime-web beside them."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from speechgru.common.files import atomic_path, write_atomic
from speechgru.errors import UsageError
from speechgru.export.web.runtime import RUNTIME_FILES
from speechgru.modelfile.onnx import parse_onnx, read_bytes
from speechgru.recognition.recognizer import complete_settings

#: What lies beside this file and is written as it is.
PAGE_FILES = (
    *("index.html", "speechgru.js", "speechgru.d.ts"),
    *("detector.js", "resampler.js", "microphone-worklet.js"),
)
MODEL, HEADER, RUNTIME = "model.onnx", "model.json", "onnxruntime"
#: Tells an earlier page from other files.
_MARK = "speechgru.js"


@dataclass(frozen=True)
class Site:
    """A page that was written."""

    folder: Path
    size_bytes: int
    labels: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "size_bytes": self.size_bytes,
            "labels": list(self.labels),
        }


def write_site(model: Path, folder: Path, runtime: Path) -> Site:
    """Write the page of an exported model (.onnx); the files of an earlier page are replaced.

    Args:
        runtime: holds onnxruntime-web's files.

    Raises:
        DataError: no exported model, or its own settings are invalid.
        UsageError: it has no classify head, which the page's detector needs, or the folder has such
            files that are of no page.
        SpeechGRUError: the folder cannot be written.
    """
    content = read_bytes(model)
    header = page_header(parse_onnx(content).header)
    if folder / MODEL != model:
        check_site(folder)
    write_atomic(folder / MODEL, content)
    write_atomic(folder / HEADER, json.dumps(header, indent=1, ensure_ascii=False) + "\n")
    page = files("speechgru.export.web") / "page"
    for name in PAGE_FILES:
        write_atomic(folder / name, (page / name).read_bytes())
    for name in RUNTIME_FILES:
        place = folder / RUNTIME / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() or place.stat().st_size != (runtime / name).stat().st_size:
            with atomic_path(place) as temporary:
                shutil.copyfile(runtime / name, temporary)
    written = (MODEL, HEADER, *PAGE_FILES, *(f"{RUNTIME}/{name}" for name in RUNTIME_FILES))
    size_bytes = sum((folder / name).stat().st_size for name in written)
    return Site(folder, size_bytes, tuple(header["labels"]))


def check_site(folder: Path) -> None:
    """Check that a folder without an earlier page has none of its files.

    Raises:
        UsageError: it has one.
    """
    if (folder / _MARK).exists():
        return
    for name in (*PAGE_FILES, MODEL, HEADER):
        if (folder / name).exists():
            raise UsageError(
                f"--web {folder}: {name} is there already, and not of an earlier page; choose "
                "another folder"
            )


def page_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """What the page has to know of a model, each setting of the detector with its value.

    Raises:
        DataError: the model's own settings are invalid.
        UsageError: it has no classify head.
    """
    if "classify" not in header["outputs"]:
        raise UsageError("--web: the page has a detector, which needs a model with a classify head")
    return dict(header) | {"metadata": complete_settings(header["metadata"], header["outputs"])}
