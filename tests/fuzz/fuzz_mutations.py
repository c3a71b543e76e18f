"""Hostile variants of good inputs; the same generator gives the same ones."""

import json
import random
import struct
from collections.abc import Callable

#: What programs hope that nobody writes.
NUMBERS = (
    *(0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF),
)
LITERALS = (
    *("0", "-1", "1e308", "-1e308", "1e-320", "nan", "inf", "-inf", "NaN", "Infinity", "null"),
    *("9" * 20, "9" * 5_000, "1" + "0" * 400, "0x10", "1_000", "true", "''", '""', "[]", "{}"),
    *("[[" * 50 + "]]" * 50, '"\\u0000"', '"\\ud800"', "1979-05-27T07:32:00Z"),
)
LETTERS = (
    *("\x00", "\x1b[2J", "\x1b]0;title\x07", "\r", "\n", "\t", "\x7f", "\x9b31m", "\u202e"),
    *("\ufeff", "日本語", "é", "🎤", "[bold]", "[/]", "{0}", "%s", "\\", "'", '"', "../", "~/"),
    *("\u2028", "a" * 10_000, "con", "CON.wav", "$HOME", "`id`", "|", ";", "#", "--help"),
)


def mutated_bytes(rng: random.Random, content: bytes, other: bytes = b"") -> bytes:
    """One to four changes of a file."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        content = rng.choice(_CHANGES)(rng, content, other)
    return content


def mutated_text(rng: random.Random, text: str) -> bytes:
    """One to three changes of a text file, in its words, lines or bytes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = rng.choice(_TEXT_CHANGES)(rng, text)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.15:
        content = mutated_bytes(rng, content)
    if rng.random() < 0.05:
        content = content.decode("utf-8", "replace").encode(
            rng.choice(("utf-16", "latin-1")), "replace"
        )
    return content


def mutated_json(rng: random.Random, text: str) -> bytes:
    """JSON with another value at some place, or the text changed."""
    if rng.random() < 0.4:
        return mutated_text(rng, text)
    value = json.loads(text)
    holder, key = _some_place(rng, value)
    if holder is None:
        return mutated_text(rng, text)
    holder[key] = rng.choice(_VALUES)
    if rng.random() < 0.2 and isinstance(holder, dict):
        holder[rng.choice(LETTERS)] = holder.pop(key)
    return json.dumps(value).encode()


_VALUES = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**200, 1e308, 0.5, -0.5, float("nan"), float("inf")),
    *("", "x" * 10_000, [], {}, [[]], [None], ["a", "a"], {"a": {}}, [1, "x"], "\x1b[2J\n"),
    *([0] * 1_000, {"": ""}, [1e18], "日本", ["_silence_"], ["low"] * 3),
)


def _some_place(rng: random.Random, value: object) -> tuple[object, object]:
    """A container somewhere in a value, and a key of it."""
    places: list[tuple[object, object]] = []

    def visit(node: object) -> None:
        pairs = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node if isinstance(node, list) else ())
        )
        for key, below in pairs:
            places.append((node, key))
            visit(below)

    visit(value)
    return rng.choice(places) if places else (None, None)


def _flip(rng: random.Random, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[_place(rng, changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _number(rng: random.Random, content: bytes, other: bytes) -> bytes:
    changed = bytearray(content)
    form = rng.choice(("<I", ">I", "<H", ">H", "<Q", "B"))
    size = struct.calcsize(form)
    if len(changed) >= size:
        start = min(_place(rng, changed), len(changed) - size)
        number = rng.choice(NUMBERS) & (256**size - 1)
        changed[start : start + size] = struct.pack(form, number)
    return bytes(changed)


def _cut(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: rng.choice((0, 1, 4, 12, 44, rng.randint(0, len(content)), len(content) - 1))]


def _insert(rng: random.Random, content: bytes, other: bytes) -> bytes:
    place = _place(rng, content)
    return content[:place] + rng.randbytes(rng.choice((1, 4, 100, 5_000))) + content[place:]


def _delete(rng: random.Random, content: bytes, other: bytes) -> bytes:
    place = _place(rng, content)
    return content[:place] + content[place + rng.choice((1, 4, 100, 5_000)) :]


def _repeat(rng: random.Random, content: bytes, other: bytes) -> bytes:
    place = _place(rng, content)
    piece = content[place : place + rng.choice((4, 64, 1_000))]
    return content[:place] + piece * rng.choice((2, 20)) + content[place:]


def _splice(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: _place(rng, content)] + other[_place(rng, other) :]


def _noise(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return rng.randbytes(rng.choice((1, 100, 10_000)))


def _place(rng: random.Random, content: bytes | bytearray) -> int:
    """Most of what can go wrong is in the first bytes."""
    if not content:
        return 0
    end = min(len(content), rng.choice((16, 64, 256, 1 << 62)))
    return rng.randrange(end)


_CHANGES: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    *(_flip, _number, _number, _number, _cut, _insert, _delete, _repeat, _splice, _noise),
)


def _other_literal(rng: random.Random, text: str) -> str:
    """A word of the text becomes another one."""
    words = text.split(" ")
    words[rng.randrange(len(words))] = rng.choice(LITERALS + LETTERS)
    return " ".join(words)


def _other_value(rng: random.Random, text: str) -> str:
    """What stands behind = : or , becomes another value."""
    places = [i for i, letter in enumerate(text) if letter in "=:,"]
    if not places:
        return text
    place = rng.choice(places) + 1
    end = min(
        (text.find(mark, place) for mark in "\n,}" if text.find(mark, place) >= 0), default=-1
    )
    rest = text[end:] if end >= 0 else ""
    return f"{text[:place]} {rng.choice(LITERALS + LETTERS)}{rest}"


def _insert_letter(rng: random.Random, text: str) -> str:
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice(LETTERS) + text[place:]


def _drop_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def _repeat_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    line = rng.choice(lines)
    return "\n".join([*lines, *[line] * rng.choice((1, 2, 1_000))])


def _swap_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    rng.shuffle(lines)
    return "\n".join(lines)


def _cut_text(rng: random.Random, text: str) -> str:
    return text[: rng.randint(0, len(text))]


def _nest(rng: random.Random, text: str) -> str:
    depth = rng.choice((10, 200, 5_000, 50_000))
    opening, closing = rng.choice(
        (("[", "]"), ("(", ")"), ("{", "}"), ('{"a":', "}"), ("[a.", "]"))
    )
    nested = (
        opening * depth + rng.choice(("", "1", "low")) + closing * rng.choice((depth, depth - 1))
    )
    return rng.choice((nested, f"{text}\n{nested}\n", f"{text} = {nested}"))


_TEXT_CHANGES: tuple[Callable[[random.Random, str], str], ...] = (
    *(_other_literal, _other_value, _other_value, _other_value, _insert_letter, _drop_line),
    *(_repeat_line, _swap_lines, _cut_text, _nest),
)
