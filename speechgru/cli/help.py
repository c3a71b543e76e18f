"""The layout of help: options under headings, examples last, and no line cut off."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

Verb = TypeVar("Verb", bound=Callable[..., Any])

#: Where an option is listed that names no panel.
OPTIONS, COMMANDS = "Options", "Commands"


def examples(*lines: str) -> Callable[[Verb], Verb]:
    """Give a verb the examples that its help ends with."""

    def give(verb: Verb) -> Verb:
        verb.examples = lines  # type: ignore[attr-defined]
        return verb

    return give


def add_verb(app: typer.Typer, verb: Callable[..., Any], panel: str, name: str = "") -> None:
    """Register a function as a command, its help with its examples."""
    lines = getattr(verb, "examples", ())
    app.command(name or None, cls=Command, rich_help_panel=panel, epilog="\n".join(lines))(verb)


class _Page:
    """What commands and groups of commands have in common."""

    def get_help_option_names(self, ctx: typer.Context) -> list[str]:
        """Short name first; typer itself gives them in random order."""
        return sorted(ctx.help_option_names, key=len)

    def get_help_option(self, ctx: typer.Context) -> Any:
        """False where it is not given: typer loads pydantic to convert a None."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.default = False
            option.help = "Show this help."
        return option

    def collect_usage_pieces(self: Any, ctx: typer.Context) -> list[str]:
        """OPTIONS and the arguments, in brackets where they may be left out."""
        found = [self.options_metavar]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = _argument_name(param)
                found.append(name if param.required else f"[{name}]")
        return [*found, self.subcommand_metavar] if hasattr(self, "subcommand_metavar") else found

    def format_options(self: Any, ctx: typer.Context, formatter: Any) -> None:
        """Arguments, then the options by panel, in the order in which they are declared."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                panel, record = "Arguments", (_argument_name(param), record[1])
            else:
                panel = getattr(param, "rich_help_panel", None) or OPTIONS
            panels.setdefault(panel, []).append(record)
        # What has no panel, such as --help, is last.
        for panel in sorted(panels, key=lambda name: name == OPTIONS):
            _write_section(formatter, panel, panels[panel])
        if hasattr(self, "format_commands"):
            self.format_commands(ctx, formatter)

    def format_epilog(self: Any, ctx: typer.Context, formatter: Any) -> None:
        """The examples, each on a line of its own."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(typer.style("Examples:", bold=True) + "\n")
            for line in self.epilog.splitlines():
                formatter.write(f"  {line}\n")


class Command(_Page, TyperCommand):  # type: ignore[misc]
    """A verb."""


class Group(_Page, TyperGroup):  # type: ignore[misc]
    """Verbs by panel, each with the whole first sentence of its help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for param in self.params:
            if param.name in ("install_completion", "show_completion") and param.default is None:
                param.default = False  # as in `get_help_option`

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:
        """A section for each panel; sentences are wrapped rather than cut."""
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


def _argument_name(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return name if param.nargs == 1 or "..." in name else f"{name}..."
