"""The header of a model's file: the same JSON in a .safetensors and in an .onnx file."""

import json
from typing import Any, get_args

from speechgru.common.wording import shown
from speechgru.errors import DataError
from speechgru.labels import BLANK, Head

FORMAT_VERSION = 1
#: The key of the header in the metadata of either format.
KEY = "speechgru"
MOST_HEADER_BYTES = 2**24
#: Lists and tables in one another, far more than any header has.
_DEEPEST = 40

_TYPES = {"labels": list, "unknown_words": list, "features": dict, "model": dict, "metadata": dict}


def parse_header(raw: str | None, kind: str) -> dict[str, Any]:
    """Parse and check the JSON of a header.

    Args:
        raw: None if the file has no header.
        kind: the file's format, for messages.

    Raises:
        DataError: not the header of a speechgru model, of a newer format, or inconsistent. The
            message lacks the file's name, which the caller knows.
    """
    header = plain_json(raw) if raw is not None else None
    header = header if isinstance(header, dict) else {}
    version = header.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"{kind} file, but not a speechgru model")
    if version > FORMAT_VERSION:
        raise DataError(
            f"model format {shown(version)} is newer than this speechgru reads ({FORMAT_VERSION}); "
            "install a newer speechgru"
        )
    for name, expected in _TYPES.items():
        if name not in header:
            raise DataError(f"the model is inconsistent: {name!r} is missing in its header")
        if not isinstance(header[name], expected):
            raise DataError(
                f"the model is inconsistent: {name} is {shown(header[name])}, "
                f"not a {expected.__name__}"
            )
    labels = header["labels"]
    if not _are_strings(labels) or not _are_strings(header["unknown_words"]):
        raise DataError("the model is inconsistent: its labels and unknown words are not strings")
    if not labels or len(set(labels)) != len(labels):
        raise DataError("the model is inconsistent: its labels are missing or not all different")
    # Models older than heads have no outputs.
    outputs = header.setdefault("outputs", {"classify": labels})
    if not _are_outputs(outputs, labels):
        raise DataError("the model is inconsistent: its outputs are not the labels of heads")
    return header


def plain_json(raw: str) -> Any:
    """Parse JSON that is neither large, deep nor has numbers that JSON does not know.

    Raises:
        DataError: it is. The message lacks the file's name.
    """
    if len(raw) > MOST_HEADER_BYTES:
        raise DataError(f"the header has more than {MOST_HEADER_BYTES} bytes")
    try:
        header = json.loads(raw)
        json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"the header is not plain JSON: {str(error)[:200]}") from error
    level = [header]
    for _ in range(_DEEPEST):
        level = [
            value
            for part in level
            if isinstance(part, dict | list)
            for value in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return header
    raise DataError(f"the header is not plain JSON: nested deeper than {_DEEPEST}")


def _are_outputs(outputs: Any, labels: list[str]) -> bool:
    if not isinstance(outputs, dict) or not outputs or not set(outputs) <= set(get_args(Head)):
        return False
    if not all(_are_strings(names) for names in outputs.values()):
        return False
    tokens = outputs.get("ctc", [BLANK])
    has_blank = tokens[:1] == [BLANK] and len(set(tokens)) == len(tokens)
    return has_blank and outputs.get("classify", labels) == labels


def _are_strings(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
