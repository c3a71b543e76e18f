"""Output: results on stdout, everything else on stderr, and nothing raw.

Labels, file names, manifests, HTTP answers and the output of hooks come from elsewhere. Only this
module makes them safe to print: no control character, newline, markup or bidirectional override
reaches a terminal.
"""

import errno
import json
import os
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

#: Longer messages are cut in the middle.
LONGEST_MESSAGE = 400
#: Columns that tables fit into, and how many COLUMNS must say at least to be taken at its word.
DEFAULT_COLUMNS, LEAST_COLUMNS = 80, 20
#: Joiners that some scripts need inside words.
_JOINERS = "\u200c\u200d"
#: JSON leaves these as they are, but a terminal obeys them: C1 controls, overrides of direction.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")


def printable(text: object) -> str:
    r"""A text on one line, with escapes for everything that is not printable.

    >>> printable("turn\x1b[2J left\n")
    'turn\\x1b[2J left\\n'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in _JOINERS else _escape(letter) for letter in text
    )


def shortened(text: str, most: int = LONGEST_MESSAGE) -> str:
    """A text of at most `most` characters; a longer one is cut in the middle.

    >>> shortened("abcdefghijkl", 9)
    'abc...jkl'
    """
    if len(text) <= most:
        return text
    end = (most - 3) // 2
    return f"{text[: most - 3 - end]}...{text[len(text) - end :]}"


def plain(text: object, style: str = "") -> "Text":
    """A text for a table or a line: made safe, and printed without markup."""
    from rich.text import Text

    return Text(printable(text), style)


def padded(text: object, width: int) -> str:
    """A text, made safe and padded to a number of columns; a wide letter takes two."""
    from rich.cells import cell_len

    safe = printable(text)
    return safe + " " * (width - cell_len(safe))


class Terminal:
    """A rich console, created when first used, as `--help` needs none."""

    def __init__(self, stderr: bool) -> None:
        self._stderr = stderr

    @cached_property
    def console(self) -> "Console":
        """The rich console."""
        from rich.console import Console

        columns = os.environ.get("COLUMNS", "")
        is_useless = columns.isdecimal() and int(columns) < LEAST_COLUMNS  # 0 is usual for none
        width = DEFAULT_COLUMNS if is_useless else None
        return Console(stderr=self._stderr, width=width, highlight=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the output is a terminal rather than a file or a pipe."""
        return self.console.is_terminal

    def show(self, renderable: "RenderableType") -> None:
        """Print a table or other renderable whose strings were made with `plain`.

        No figure is cut where a terminal is too narrow: it continues long lines on the next one.
        """
        from rich.segment import Segments
        from rich.table import Table

        has_figures = isinstance(renderable, Table) and any(c.no_wrap for c in renderable.columns)
        if has_figures and self.console.width < DEFAULT_COLUMNS:
            wide = self.console.options.update_width(DEFAULT_COLUMNS)
            renderable = Segments(self.console.render(renderable, wide))
        self.console.print(renderable, crop=not has_figures)

    def text(self, text: "Text") -> None:
        """Print a styled text, made with `plain`, as one line."""
        self.console.print(text, soft_wrap=True)

    def styled(self, markup: str, *values: object) -> None:
        """Print a line of our own markup, each `{}` replaced by a value made safe."""
        from rich.markup import escape

        safe = (escape(printable(value)) for value in values)
        self.console.print(markup.format(*safe), soft_wrap=True)

    def line(self, text: str = "") -> None:
        """Print a text as one line, however wide it is.

        A message on stderr that a full disk does not take is lost; the work goes on.
        """
        try:
            self.console.print(printable(text), markup=False, soft_wrap=True)
        except OSError as error:
            if not self._stderr or error.errno != errno.ENOSPC:
                raise


#: Results go to stdout, everything else to stderr.
out = Terminal(stderr=False)
err = Terminal(stderr=True)


def print_error(message: str) -> None:
    """Print one sentence on stderr, marked as an error.

    Where nobody can read it, on a full disk or a closed pipe, the exit code still tells.
    """
    from rich.text import Text

    text = shortened(printable(message.strip().replace("\n", " ")))
    try:
        err.console.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)
    except SystemExit:  # rich's answer to a closed pipe
        return
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, on one line.

    Escaped are characters that stdout cannot encode and those that a terminal would obey. A file
    name that is not Unicode keeps the surrogates with which Python reads it.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(value, allow_nan=False, ensure_ascii=encoding != "utf8")
    text = _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    text = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def never_fail_to_encode(stream: Any) -> None:
    """Let a stream escape characters that it cannot encode, instead of raising."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _escape(letter: str) -> str:
    return repr(letter)[1:-1]
