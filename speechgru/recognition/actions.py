"""Programs that run when a word is heard: by no shell, and without keeping the sound waiting."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from speechgru.decoding.events import Event
from speechgru.errors import UsageError

TIMEOUT_S = 10.0
MOST_AT_ONCE = 4

#: What is kept of a program's output, to be told when it fails.
_OUTPUT_BYTES = 2_000
#: For the rest of the output of a program that has ended; one in its background may hold it open.
_OUTPUT_S = 0.2


@dataclass(frozen=True)
class Hook:
    """A word and the program, with its arguments, that it starts."""

    word: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word}={shlex.join(self.arguments)}"


def parse_hook(text: str) -> Hook:
    """`WORD=COMMAND`, the command split as a shell would, but run by none.

    Raises:
        UsageError: there is no word, no command or an open quote, or no such program.
    """
    word, separator, command = text.partition("=")
    try:
        arguments = tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(f"--on {text}: {str(error).lower()} in the command") from error
    if not separator or not word or not arguments:
        raise UsageError(f"--on {text}: WORD=COMMAND is needed, as go='notify-send go'")
    if shutil.which(arguments[0]) is None:
        raise UsageError(
            f"--on {text}: {arguments[0]} is no program that can be run; for a shell's own "
            f"commands, {word}=\"sh -c '...'\""
        )
    return Hook(word, arguments)


def shell_syntax(text: str) -> str | None:
    """What in a `WORD=COMMAND` only a shell understands, and none will see; None if nothing.

    >>> shell_syntax("go=echo go > log"), shell_syntax("go=play $HOME/go.wav")
    ('>', '$HOME')
    >>> shell_syntax("go=sh -c 'echo go > log'"), shell_syntax("go=grep '$' file")
    (None, None)
    """
    command = text.partition("=")[2]
    # Not as POSIX has it, the quotes stay: what is quoted is an argument like any other.
    parts = shlex.shlex(command, posix=False, punctuation_chars="|&;<>")
    parts.whitespace_split = True
    parts.commenters = ""
    for part in parts:
        if set(part) <= set("|&;<>"):
            return part
        unquoted = re.sub(r"'[^']*'", "", part)
        if variable := re.search(r"\$(\w+|[{(])", unquoted):
            return variable[0]
        if "`" in unquoted:
            return "`"
    return None


def shell_warning(text: str) -> str | None:
    """A sentence for a `WORD=COMMAND` that seems to be meant for a shell, which none will see."""
    syntax = shell_syntax(text)
    if syntax is None:
        return None
    word = text.partition("=")[0]
    return (
        f"--on {word}: no shell runs the command, so {syntax} is passed on as it is; "
        f"for a shell, {word}=\"sh -c '...'\""
    )


def check_words(hooks: Iterable[Hook], words: Sequence[str]) -> None:
    """Raise UsageError for a hook on a word that is never recognized."""
    for hook in hooks:
        if hook.word not in words:
            raise UsageError(
                f"--on {hook}: the model has no word {hook.word}; it has {', '.join(words)}"
            )


class Actions:
    """Starts the hooks of events, each in the background and for a limited time.

    The event is in the program's environment: SPEECHGRU_WORD, _SCORE, _START, _END and _T
    (seconds since the stream's start). Its stdin is empty; the last line that it prints is told.

    Args:
        hooks: what to run on which word.
        tell: hears, from any thread, of each failure, and what programs print.
        timeout_s: a program that runs longer is killed, with all that it started.
        most: programs at once; an event beyond them starts none, and that is told.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        tell: Callable[[str], None] = lambda sentence: None,
        timeout_s: float = TIMEOUT_S,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self._hooks, self._tell = tuple(hooks), tell
        self._timeout_s, self._most = timeout_s, most
        self._running: dict[threading.Thread, subprocess.Popen[bytes]] = {}
        self._closing = False
        #: Programs started, and those of them that failed, were killed, or not even started.
        self.started = self.failed = 0

    def push(self, event: Event) -> None:
        """Start what the event's word asks for; returns at once."""
        for hook in self._hooks:
            if hook.word == event.word:
                self._start(hook, event)

    def close(self, wait: bool = True) -> None:
        """Wait for the programs that still run, or kill them; the wait can be interrupted too."""
        running = list(self._running.items())
        try:
            for thread, _ in running if wait else ():
                thread.join()
        finally:
            self._closing = True
            for thread, process in running:
                _kill(process)
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)

    def _start(self, hook: Hook, event: Event) -> None:
        if len(self._running) >= self._most:
            self._fail(hook, f"left out: {self._most} programs are still running")
            return
        try:
            process = subprocess.Popen(
                hook.arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | _environment(event),
                start_new_session=True,
            )
        except OSError as error:
            self._fail(hook, f"cannot be started: {error.strerror or error}")
            return
        self.started += 1
        thread = threading.Thread(target=self._watch, args=(hook, process), daemon=True)
        self._running[thread] = process
        thread.start()

    def _watch(self, hook: Hook, process: subprocess.Popen[bytes]) -> None:
        """In a thread of its own: a program to its end."""
        assert process.stdout is not None
        output = _Tail(process.stdout)
        try:
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            self._fail(hook, f"killed after {self._timeout_s:g} s")
        else:
            if self._closing:
                self._fail(hook, "killed at the end")
            elif code:
                ended = f"signal {-code}" if code < 0 else f"exit code {code}"
                last = output.last_line()
                self._fail(hook, f"{ended}: {last}" if last else ended)
            elif last := output.last_line():
                self._tell(f"--on {hook.word}: {last}")
        del self._running[threading.current_thread()]

    def _fail(self, hook: Hook, reason: str) -> None:
        self.failed += 1
        self._tell(f"--on {hook}: {reason}")


class _Tail:
    """The last of what a program prints; all of it is read, so that it never has to wait."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while content := os.read(self._pipe.fileno(), 65_536):
                self._kept = (self._kept + content)[-_OUTPUT_BYTES:]

    def last_line(self) -> str:
        """The last line so far; empty if there is none."""
        self._thread.join(_OUTPUT_S)
        lines = self._kept.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def _environment(event: Event) -> dict[str, str]:
    return {
        "SPEECHGRU_WORD": event.word,
        "SPEECHGRU_SCORE": f"{event.score:.4f}",
        "SPEECHGRU_START": f"{event.start_s:.3f}",
        "SPEECHGRU_END": f"{event.end_s:.3f}",
        "SPEECHGRU_T": f"{event.t:.3f}",
    }


def _kill(process: subprocess.Popen[bytes]) -> None:
    """A program and what it started, which is in its session; it may have ended just now."""
    if process.poll() is not None:
        return
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
