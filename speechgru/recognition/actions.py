"""Hooks: programs that run in the background when a word is recognized, without a shell."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from speechgru.common.files import in_home
from speechgru.decoding.events import Event
from speechgru.errors import UsageError

TIMEOUT_S = 10.0
MOST_AT_ONCE = 4

#: A shell's script in quotes, which is its own.
_SCRIPT = re.compile(r"""\b(?:ba|da|k|z|fi)?sh\s(?:.*?\s)??-\w*c\s+("(?:[^"\\]|\\.)*"|'[^']*')""")

#: Bytes kept from the end of a program's output, for the report if it fails.
_OUTPUT_BYTES = 2_000
#: How long to wait for the rest of a program's output; a child process may keep the pipe open.
_OUTPUT_S = 0.2


@dataclass(frozen=True)
class Hook:
    """A word and the program that it starts, with its arguments."""

    word: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word}={shlex.join(self.arguments)}"


def parse_hook(text: str) -> Hook:
    """Parse `WORD=COMMAND`; the command is split as a shell does, but runs without one.

    Arguments that begin with `~/` are in the home directory.

    Raises:
        UsageError: the word or the command is missing, a quote is open, or there is no such
            program.
    """
    word, separator, command = _split_hook(text)
    word = unicodedata.normalize("NFC", word)
    try:
        arguments = tuple(map(in_home, shlex.split(command)))
    except ValueError as error:
        raise UsageError(f"--on {text}: {str(error).lower()} in the command") from error
    if not separator or not word or not arguments:
        raise UsageError(f"--on {text}: WORD=COMMAND is needed, for example go='notify-send go'")
    if shutil.which(arguments[0]) is None:
        raise UsageError(
            f"--on {text}: {arguments[0]} is not an executable program; for commands of "
            f"a shell, {word}=\"sh -c '...'\""
        )
    return Hook(word, arguments)


def _split_hook(text: str) -> tuple[str, str, str]:
    """A word, `=` and a command: at the first `=` that a program follows, as words may have some.

    Where none follows any, at the first one.
    """
    places = [place for place, character in enumerate(text) if character == "="]
    for place in places:
        first = text[place + 1 :].split(maxsplit=1)[:1]
        if first and shutil.which(in_home(first[0].strip("'\""))) is not None:
            return text[:place], "=", text[place + 1 :]
    return text.partition("=")


def shell_syntax(text: str) -> str | None:
    """The first part of a `WORD=COMMAND` that only a shell understands, or None.

    >>> shell_syntax("go=echo go > log"), shell_syntax("go=play $HOME/go.wav")
    ('>', '$HOME')
    >>> shell_syntax("go=sh -c 'echo go > log'"), shell_syntax("go=grep '$' file")
    (None, None)
    """
    _, _, command = _split_hook(text)
    if found := _SCRIPT.search(command):
        command = command[: found.start(1)] + command[found.end(1) :]
    # Not in POSIX mode, so that quotes stay: quoted text is an ordinary argument.
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
    """A warning for a `WORD=COMMAND` that seems to be meant for a shell."""
    syntax = shell_syntax(text)
    if syntax is None:
        return None
    word, _, _ = _split_hook(text)
    return (
        f"--on {word}: the command runs without a shell, so {syntax} is passed on as it is; "
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
    (seconds since the start of the stream). Its stdin is empty, and the last line of its output is
    reported.

    Args:
        report: called, from any thread, with a sentence about each failure, and with output.
        timeout_s: a program that runs longer is killed, with everything it started.
        most: programs at once; further events start none, which is reported.
        waits: further programs wait for their turn instead.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        report: Callable[[str], None] = lambda sentence: None,
        timeout_s: float = TIMEOUT_S,
        most: int = MOST_AT_ONCE,
        waits: bool = False,
    ) -> None:
        self._hooks, self._report = tuple(hooks), report
        self._timeout_s, self._most, self._waits = timeout_s, most, waits
        self._running: dict[threading.Thread, subprocess.Popen[bytes]] = {}
        self._queue: deque[tuple[Hook, Event]] = deque()
        self._lock = threading.RLock()
        self._closing = False
        #: Programs started; programs that failed, were killed, or could not be started.
        self.started = self.failed = 0

    def push(self, event: Event) -> None:
        """Start the hooks of the event's word; returns at once."""
        for hook in self._hooks:
            if hook.word == event.word:
                self._start(hook, event)

    def close(self, wait: bool = True) -> None:
        """Wait for all programs, or kill those that run; Ctrl-C during the wait kills them too."""
        try:
            while wait and (running := self._threads()):
                for thread in running:
                    thread.join()
        finally:
            with self._lock:
                self._closing = True
                self._queue.clear()
                processes = list(self._running.values())
            for process in processes:
                _kill(process)
            for thread in self._threads():
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

    def _threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._running)

    def _start(self, hook: Hook, event: Event) -> None:
        with self._lock:
            if len(self._running) < self._most:
                self._launch(hook, event)
            elif self._waits:
                self._queue.append((hook, event))
            else:
                self._fail(hook, f"not started: {self._most} programs are still running")

    def _launch(self, hook: Hook, event: Event) -> None:
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
        """Follow a program until it ends, and start the next; runs in its own thread."""
        try:
            self._follow(hook, process)
        finally:
            with self._lock:
                del self._running[threading.current_thread()]
                while self._queue and len(self._running) < self._most:
                    self._launch(*self._queue.popleft())

    def _follow(self, hook: Hook, process: subprocess.Popen[bytes]) -> None:
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
                self._fail(hook, "killed when listening ended")
            elif code:
                ended = f"signal {-code}" if code < 0 else f"exit code {code}"
                last = output.last_line()
                self._fail(hook, f"{ended}: {last}" if last else ended)
            elif last := output.last_line():
                self._report(f"--on {hook.word}: {last}")

    def _fail(self, hook: Hook, reason: str) -> None:
        self.failed += 1
        self._report(f"--on {hook}: {reason}")


class _Tail:
    """Keeps the end of a program's output; reads all of it, so that the program never blocks."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._end = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while content := os.read(self._pipe.fileno(), 65_536):
                self._end = (self._end + content)[-_OUTPUT_BYTES:]

    def last_line(self) -> str:
        """The last line so far, or an empty string."""
        self._thread.join(_OUTPUT_S)
        lines = self._end.decode(errors="replace").strip().splitlines()
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
    """Kill a program and everything in its session; it may have ended just now."""
    if process.poll() is not None:
        return
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
