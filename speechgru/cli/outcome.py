"""How a command ends: the exit code and the message for each kind of error."""

import errno
import os
import sys
import traceback

from speechgru.cli.terminal import err, never_fail_to_encode, print_error, printable, shortened
from speechgru.errors import InterruptedRunError, SpeechGRUError, UsageError

INTERRUPTED = InterruptedRunError.exit_code

#: Which packages are those of an extra of this one.
_EXTRAS = {
    "serve": ("cryptography", "starlette", "uvicorn", "websockets", "wyoming", "zeroconf"),
    "av": ("av",),
    "tensorboard": ("tensorboard",),
}


def run(arguments: list[str]) -> int:
    """Run a command; returns its exit code if it ends without an exception."""
    for stream in (sys.stdout, sys.stderr):
        never_fail_to_encode(stream)
    _check_none_is_empty(arguments)
    from speechgru.cli.app import command_line

    typed = [_with_home(argument) for argument in arguments]
    code = command_line()(args=typed, standalone_mode=False)
    return code if isinstance(code, int) else 0


def _check_none_is_empty(arguments: list[str]) -> None:
    """Refuse what a shell makes of `--out "$RUN"` without RUN; as a path it is the current folder.

    Raises:
        UsageError: an argument, or an option's value, is empty.
    """
    before = "speechgru"
    for argument in arguments:
        option, is_value, value = argument.partition("=")
        if not argument or (option.startswith("--") and is_value and not value):
            raise UsageError(
                f"{option or f'the argument after {before}'} is empty; is a shell variable unset?"
            )
        before = argument


def _with_home(argument: str) -> str:
    """An argument with `~/` as the home directory, also in `--out=~/runs`.

    Shells leave the latter as it is, and service files have no shell: a directory named ~ would be
    created.
    """
    from speechgru.common.files import in_home

    option, is_value, value = argument.partition("=")
    if is_value and option.startswith("--"):
        return f"{option}={in_home(value)}"
    return in_home(argument)


def exit_code_of(error: BaseException, interrupted: bool, debug: bool) -> int:
    """Report an exception in one sentence on stderr; returns the exit code."""
    try:
        return _report(error, interrupted)
    except (BrokenPipeError, KeyboardInterrupt):
        return SpeechGRUError.exit_code  # nobody reads stderr any more
    finally:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exception(error)


def _report(error: BaseException, interrupted: bool) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, SpeechGRUError):
        print_error(str(error))
        return error.exit_code
    if _is_gone_reader(error):
        # Nobody reads stdout any more; the interpreter must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SpeechGRUError.exit_code
    # An import interrupted by Ctrl-C may raise any exception.
    if interrupted or isinstance(error, KeyboardInterrupt):
        print_error("interrupted")
        return INTERRUPTED
    if _is_of_the_parser(error):
        return _report_usage(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in ("", "speechgru"):
            extra = next((name for name, of in _EXTRAS.items() if package in of), None)
            it = f"speechgru[{extra}]" if extra else "a complete installation of speechgru"
            print_error(f"this needs the package {package}, which is not installed; {it} has it")
            return SpeechGRUError.exit_code
    if isinstance(error, OSError):
        # What is not found without a name is the current directory: another process deleted it.
        is_here = error.errno == errno.ENOENT and not error.filename
        is_output = error.errno == errno.ENOSPC and not error.filename
        name = "the current directory" if is_here else "the output" if is_output else error.filename
        print_error(f"{f'{name}: ' if name else ''}{error.strerror or error}")
        # What no file system takes as a name was typed.
        is_name = error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
        return UsageError.exit_code if is_name else SpeechGRUError.exit_code
    if isinstance(error, MemoryError):
        print_error(f"out of memory{f': {error}' if str(error) else ''}")
        return SpeechGRUError.exit_code
    what = " ".join(str(error).split())
    print_error(
        f"unexpected {type(error).__name__}{f': {shortened(what, 250)}' if what else ''}; "
        "add --debug for the traceback"
    )
    return SpeechGRUError.exit_code


def _report_usage(error: BaseException) -> int:
    """Report a parser error; without any argument, show the help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        import typer

        typer.echo(context.get_help(), err=True)  # without bold letters in a file or a pipe
        return UsageError.exit_code
    print_error(error.format_message())  # type: ignore[attr-defined]
    if context is not None:
        err.line(f"Usage: {shortened(printable(context.get_usage()[7:]))}")
        err.line(f"`{context.command_path} -h` explains the options")
    return int(error.exit_code)  # type: ignore[attr-defined]


def _is_of_the_parser(error: BaseException) -> bool:
    """Whether the parser raised it; typer does not export the base class of its errors."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _is_gone_reader(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE
