"""The layout of help pages: options under headings, examples last, long lines wrapped."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from speechgru.errors import InterruptedRunError, UsageError

#: Stands for a space at which a line must not be broken.
_SPACE, _HYPHEN = "\u00a0", "\u2011"
#: typer's form of a range, and ours.
_RANGES = (
    (r"([^[ ]+)<=x<=([^];]+)", r"\1 to \2"),
    (r"; x>=[^];]+|  \[x>=[^];]+\]", ""),
    (r"(\d)\.0(?=[]; ])", r"\1"),
)

Verb = TypeVar("Verb", bound=Callable[..., Any])

#: Headings of arguments, and of options and commands without a panel.
ARGUMENTS, OPTIONS, COMMANDS = "Arguments", "Options", "Commands"


def examples(*lines: str) -> Callable[[Verb], Verb]:
    """Set the examples at the end of a verb's help."""

    def give(verb: Verb) -> Verb:
        verb.examples = lines  # type: ignore[attr-defined]
        return verb

    return give


def add_verbs(app: typer.Typer, panel: str | None, *verbs: Callable[..., Any]) -> None:
    """Register functions as commands under a panel, with their examples.

    A command is named after its function, without the name of its group (`bench_train`: train).
    """
    for verb in verbs:
        name = verb.__name__.removeprefix(f"{app.info.name}_")
        lines = getattr(verb, "examples", ())
        app.command(name, cls=Command, rich_help_panel=panel, epilog="\n".join(lines))(verb)


class _Page:
    """The help page of commands and groups."""

    def get_help_option_names(self, ctx: Any) -> list[str]:
        """The short name first; typer's own order is random."""
        return sorted(ctx.help_option_names, key=len)

    def get_help_option(self, ctx: Any) -> Any:
        """The option with default False, as typer would load pydantic to convert None."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.default = False
            option.help = "Show this help."
        return option

    def collect_usage_pieces(self: Any, ctx: Any) -> list[str]:
        """OPTIONS and the arguments, in brackets if optional."""
        found = [self.options_metavar]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = _argument_name(param)
                found.append(name if param.required else f"[{name}]")
        return [*found, self.subcommand_metavar] if hasattr(self, "subcommand_metavar") else found

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by panel in order of declaration."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            name, text = record[0], _help_text(record[1])
            if param.param_type_name == "argument":
                panel, name = ARGUMENTS, _argument_name(param)
            else:
                panel = getattr(param, "rich_help_panel", None) or OPTIONS
            panels.setdefault(panel, []).append((name, text))
        if hasattr(self, "format_commands"):
            self.format_commands(ctx, formatter)
        rest = panels.pop(OPTIONS)  # --help is one of them
        for panel, records in panels.items():
            _write_section(formatter, panel, records)
        _write_section(formatter, "Other options" if panels.keys() - {ARGUMENTS} else OPTIONS, rest)

    def format_epilog(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the examples, one per line."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(typer.style("Examples:", bold=True) + "\n")
            for line in self.epilog.splitlines():
                formatter.write(f"  {line}\n")


class Command(_Page, TyperCommand):
    """A verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in typer, but --input is refused twice, as people expect that each one is heard."""
        if not ctx.resilient_parsing:  # as for completion
            _, _, given = self.make_parser(ctx).parse_args(args=list(args))
            if sum("--input" in param.opts for param in given) > 1:
                raise UsageError("--input: is given more than once; only one is used")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As in typer, but with a message on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted") from None


class Group(_Page, TyperGroup):
    """A group that lists its verbs by panel, each with the whole first sentence of its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in typer, but flags default to False, as in `get_help_option`."""
        for param in self.params:
            if getattr(param, "is_flag", False) and param.default is None:
                param.default = False
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel; sentences are wrapped, not cut."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                first = " ".join((command.help or "").partition("\n\n")[0].split())
                panel = getattr(command, "rich_help_panel", None) or COMMANDS
                panels.setdefault(panel, []).append((name, first))
        width = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            _write_section(formatter, panel, [(f"{name:{width}}", text) for name, text in rows])


def _write_section(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:
    formatter.write_paragraph()
    formatter.write(typer.style(f"{heading}:", bold=True) + "\n")
    with formatter.indentation():
        formatter.write_dl(rows)
    joined = {ord(_SPACE): " ", ord(_HYPHEN): "-"}
    formatter.buffer[:] = [text.translate(joined) for text in formatter.buffer]


def _help_text(text: str) -> str:
    """An option's help with its range in words and its default on one line."""
    for pattern, words in _RANGES:
        text = re.sub(pattern, words, text)
    whole = {ord(" "): _SPACE, ord("-"): _HYPHEN}
    text = re.sub(r"\[[^]]{1,40}\]$", lambda found: found[0].translate(whole), text)
    return text.replace(f"{_SPACE}[", " [").replace("  [", " [").strip()


def _argument_name(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return name if param.nargs == 1 or "..." in name else f"{name}..."
