"""The project's documents: their sections, shell lines, code, links and figures."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from places import PROJECT

#: Everything that is checked, by name from the project's folder.
PAGES = sorted(
    path.relative_to(PROJECT).as_posix()
    for path in (
        PROJECT / "README.md",
        *(PROJECT / "recipes").rglob("*.md"),
        *(PROJECT / ".github").glob("*.md"),
        *(PROJECT / "speechgru").rglob("*.md"),
    )
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """What stands between two headings of a page; `blocks` are its fenced ones with languages."""

    page: str
    title: str
    text: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        return _FENCE.findall(self.text)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, in order; those of a table's cells too."""
        lines = "".join(code for language, code in self.blocks if language == "sh")
        cells = re.findall(r"^\|.*$", self.text, re.MULTILINE)
        if self.page == "recipes/README.md":
            lines += "\n".join(re.findall(r"\| `(speechgru [^`]+)`", "\n".join(cells)))
        return list(_commands(lines))

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def read(page: str) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def sections(page: str) -> list[Section]:
    """Its sections; a # in a block of code is no heading."""
    text = read(page)
    prose = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    headings = list(_HEADING.finditer(prose))
    starts = [("", 0), *((heading[1], heading.end()) for heading in headings)]
    ends = [*(heading.start() for heading in headings), len(text)]
    return [
        Section(page, title, text[start:end])
        for (title, start), end in zip(starts, ends, strict=True)
    ]


def _commands(lines: str) -> Iterator[list[str]]:
    """Without comments; what goes on over lines is joined, what `&&` or a pipe joins is parted."""
    for line in lines.replace("\\\n", " ").splitlines():
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in ("&&", "|"):
                command.append(word)
            elif command:
                yield command
                command = []


def links(page: str) -> list[str]:
    """Where its links lead, but for those to other places."""
    targets = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", read(page)))
    return [target for target in targets if "://" not in target]


def anchors(path: Path) -> set[str]:
    """The names under which a page's headings are linked to."""
    plain = (
        re.sub(r"[^\w\- ]", "", heading.lower())
        for heading in _HEADING.findall(path.read_text(encoding="utf-8"))
    )
    return {heading.strip().replace(" ", "-") for heading in plain}


def figures(text: str) -> set[str]:
    """The percentages in a text, and the intervals in brackets after them."""
    found = re.findall(r"(\d+(?:\.\d+)?) %", text)
    intervals = re.findall(r"\((-?\d+\.\d+) to (-?\d+\.\d+)", text)
    return {*found, *(bound for interval in intervals for bound in interval)}


def is_rounded(figure: str, of: set[str]) -> bool:
    """Whether one of the figures gives this one with as many digits or more."""
    digits = len(figure.partition(".")[2])
    return any(f"{float(other):.{digits}f}" == figure for other in of if len(other) >= len(figure))
