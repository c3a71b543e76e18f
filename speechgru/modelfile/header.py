"""What a model's file says of itself: the same JSON in a .safetensors and in an .onnx file."""

import json
from typing import Any, get_args

from speechgru.common.wording import shown
from speechgru.errors import DataError
from speechgru.labels import Head

FORMAT_VERSION = 1
#: The header's name among the metadata of either format.
KEY = "speechgru"

_TYPES = {"labels": list, "unknown_words": list, "features": dict, "model": dict, "metadata": dict}


def parse_header(raw: str | None, kind: str) -> dict[str, Any]:
    """The header from its JSON; `kind` is the file's format, for messages.

    Raises:
        DataError: not one of a speechgru model, of a newer format, or of the wrong types. The
            message has no file's name; the caller knows it.
    """
    try:
        header = json.loads(raw) if raw is not None else None
        json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"the header is not plain JSON: {error}") from error
    header = header if isinstance(header, dict) else {}
    version = header.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"{kind} file, but no speechgru model")
    if version > FORMAT_VERSION:
        raise DataError(
            f"model format {version} is newer than this speechgru reads ({FORMAT_VERSION}); "
            "install a newer speechgru"
        )
    for name, kind_of_value in _TYPES.items():
        if name not in header:
            raise DataError(f"the model is inconsistent: {name!r} is missing in its header")
        if not isinstance(header[name], kind_of_value):
            raise DataError(
                f"the model is inconsistent: {name} is {shown(header[name])}, "
                f"not a {kind_of_value.__name__}"
            )
    for name in ("labels", "unknown_words"):
        if not _strings(header[name]):
            raise DataError(f"the model is inconsistent: {name} are not all strings")
    if len(set(header["labels"])) != len(header["labels"]):
        raise DataError("the model is inconsistent: its labels are not all different")
    outputs = header.setdefault(
        "outputs", {"classify": header["labels"]}
    )  # before there were heads
    if (
        not isinstance(outputs, dict)
        or not all(_strings(names) for names in outputs.values())
        or not outputs
        or not set(outputs) <= set(get_args(Head))
        or outputs.get("classify", header["labels"]) != header["labels"]
    ):
        raise DataError("the model is inconsistent: its outputs are not labels of heads")
    return header


def _strings(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
