"""Numbers as C: definitions, tables, strings."""

import json
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 100


def defines(values: Mapping[str, int | float]) -> str:
    """A line for each value: `#define SG_NAME value`."""
    return "".join(f"#define SG_{name} {_number(value)}\n" for name, value in values.items())


def table(kind: str, name: str, values: NDArray | Iterable[int]) -> str:
    """A constant array: `static const float name[3] = {...};`; `kind` may begin with `static`.

    A name that has brackets of its own is taken as it is.
    """
    numbers = np.asarray(values).ravel()
    size = "" if "[" in name else f"[{len(numbers)}]"
    return f"{kind} {name}{size} = {{\n{wrapped(map(_number, numbers.tolist()))}}};\n"


def fours(kind: str, name: str, values: NDArray) -> str:
    """A constant array whose size is a multiple of four, in groups that the sources may reorder."""
    rows = values.reshape(-1, 4).tolist()
    groups = (f"SG_FOUR({', '.join(map(str, row))})" for row in rows)
    return f"{kind} {name}[{values.size}] = {{\n{wrapped(groups)}}};\n"


def structs(kind: str, name: str, rows: Iterable[str]) -> str:
    """A constant array of structs, one a line."""
    body = "".join(f"    {{{row}}},\n" for row in rows)
    return f"{kind} {name} = {{\n{body}}};\n"


def strings(name: str, values: Iterable[str]) -> str:
    """A constant array of strings, in UTF-8."""
    body = "".join(f"    {literal(value)},\n" for value in values)
    return f"const char *const {name} = {{\n{body}}};\n"


def literal(text: str) -> str:
    r"""A C string: `literal("für")` is "f\303\274r", in escapes of three digits."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{escaped}"'


def comment(text: str) -> str:
    """Text that cannot end the comment that it is in."""
    return json.dumps(text, ensure_ascii=True).replace("*/", "* /").strip('"')


def wrapped(items: Iterable[str]) -> str:
    """Items with commas, in indented lines."""
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > _COLUMNS:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*lines, line, ""])


def _number(value: int | float) -> str:
    if isinstance(value, int):
        return f"{value}u" if value > 2**31 - 1 else str(value)
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
