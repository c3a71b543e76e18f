"""Training on the page: `speechgru train` as a child process, one at a time."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Literal

from speechgru.common.parents import PARENT_VARIABLE
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError, UsageError
from speechgru.serve.own_words.places import Places

State = Literal["idle", "running", "stopping", "done", "stopped", "failed"]

_NEEDED = ("torch", "torchaudio", "librosa")
#: What `train` writes of its progress where it is not on a terminal.
_STEP = re.compile(r"step (\d+)/(\d+)  (.*)  (\d+) s left")
_MOST_LINES, _MOST_CHARACTERS = 40, 500
#: Seconds that a run has for saving itself when it is to stop.
_SAVE_S = 20.0


class Trainer:
    """Runs one training at a time, which ends with this process.

    What a run writes goes to a temporary file, not a pipe: it can still save itself after this
    process was killed.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._process: subprocess.Popen[bytes] | None = None
        #: The last run; at first that of an earlier server, or of `train`, and how it ended.
        self._run, self._ended = _last_run(places)
        #: The last run before that which has a model.
        self._earlier: Path | None = None
        self._output: IO[bytes] | None = None
        self._stopping = False
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._step: tuple[int, int, str, int] | None = None
        self._turn = threading.Lock()

    @property
    def model(self) -> Path | None:
        """The file of the best model of the last run that has one."""
        paths = [run / "model.safetensors" for run in (self._run, self._earlier) if run]
        return next((path for path in paths if path.is_file()), None)

    @property
    def state(self) -> State:
        """What the last run does, or how it ended."""
        if self._process is None:
            return self._ended
        code = self._process.poll()
        if code is None:
            return "stopping" if self._stopping else "running"
        if code == 0:
            return "done"
        stopped = self._stopping or code == InterruptedRunError.exit_code
        return "stopped" if stopped else "failed"

    @staticmethod
    def obstacle() -> str | None:
        """Why nothing can be trained here, in a sentence; None if something can."""
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if not missing:
            return None
        return (
            f"Training needs {', '.join(missing)}, which the server's Python does not have: "
            "pip install speechgru brings all of it."
        )

    def start(self, begin_with: Path | None = None) -> None:
        """Start a run in a new directory; with a model, the run refines that.

        Raises:
            UsageError: a run is going on, or the packages for training are missing.
            SpeechGRUError: the process cannot be started.
        """
        with self._turn:
            self._check_free()
            from speechgru.training.run_directory import free_name

            run = free_name(self._places.runs / Path(self._places.recipe).stem)
            command = [self._places.recipe, "--data", str(self._places.data), "--out", str(run)]
            command += ["--from", str(begin_with)] if begin_with is not None else []
            earlier = self.model.parent if self.model else None
            self._start(command)
            self._run, self._earlier = run, earlier

    def resume(self) -> None:
        """Go on with the last run, which was stopped.

        Raises:
            UsageError: a run is going on, or none was stopped after it began.
            SpeechGRUError: the process cannot be started.
        """
        with self._turn:
            self._check_free()
            if self.state not in ("stopped", "failed") or not self._is_resumable:
                raise UsageError("no training was stopped that could go on")
            self._start(["--resume", str(self._run)])

    def _check_free(self) -> None:
        if self.state in ("running", "stopping"):
            raise UsageError("a training is running; one at a time")
        if why := self.obstacle():
            raise UsageError(why)

    @property
    def _is_resumable(self) -> bool:
        return self._run is not None and (self._run / "recipe.toml").is_file()

    def stop(self) -> None:
        """Ask the run to save and stop, if there is one."""
        with self._turn:
            if self._process is not None and self.state == "running":
                self._stopping = True
                self._process.terminate()

    def close(self) -> None:
        """Stop the run, and wait for its end; kill it if it does not end."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(_SAVE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._output is not None:
            self._output.close()

    def status(self) -> dict[str, Any]:
        """The state of the run, its progress and its last lines, for JSON."""
        with self._turn:
            state = self.state  # before the last lines are read
            self._read()
            step, steps, figures, seconds_left = self._step or (0, 0, "", 0)
            return {
                "state": state,
                "obstacle": self.obstacle(),
                "run": str(self._run) if self._run else None,
                "model": str(self.model) if self.model else None,
                "resumable": self._is_resumable,
                "step": step,
                "steps": steps,
                "figures": figures,
                "seconds_left": seconds_left,
                "lines": list(self._lines),
            }

    def _start(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "speechgru", "train", *arguments]
        try:
            handle, name = tempfile.mkstemp(prefix="speechgru-train-", suffix=".log")
        except OSError as error:
            where, reason = tempfile.gettempdir(), error.strerror or error
            raise SpeechGRUError(f"{where}: cannot be written: {reason}") from error
        if self._output is not None:
            self._output.close()
        self._output = os.fdopen(os.open(name, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONUTF8": "1"},
                start_new_session=True,  # Ctrl-C in the server's terminal is the server's
            )
        except OSError as error:
            raise SpeechGRUError(f"train cannot be started: {error.strerror}") from error
        finally:
            os.close(handle)
            with suppress(PermissionError):  # Windows deletes no open file
                Path(name).unlink()
        self._lines.clear()
        self._step, self._stopping = None, False

    def _read(self) -> None:
        """Read the whole lines that the run has written since the last time."""
        if self._output is None or self._output.closed:
            return
        while (content := self._output.readline()).endswith(b"\n"):
            line = content.decode(errors="replace").rstrip()
            self._lines.append(line[:_MOST_CHARACTERS])
            if match := _STEP.search(line):
                step, steps, figures, seconds_left = match.groups()
                self._step = int(step), int(steps), figures, int(seconds_left)
        self._output.seek(-len(content), os.SEEK_CUR)


def _last_run(places: Places) -> tuple[Path | None, State]:
    """The last of the runs that have the names of this trainer's, and how it ended.

    None where nothing can be trained: nor can trained models be served there.
    """
    if Trainer.obstacle():
        return None, "idle"
    from speechgru.training.run_progress import CHECKPOINT, read_progress

    name = Path(places.recipe).stem
    checkpoints = []
    for run in places.runs.glob("*"):
        number = run.name.removeprefix(f"{name}-")
        if run.name == name or (number.isdecimal() and number != run.name):
            with suppress(OSError):  # it has none
                checkpoints.append(((run / CHECKPOINT).stat().st_mtime, run))
    for _, run in sorted(checkpoints, reverse=True):
        with suppress(DataError):  # damaged
            return run, "done" if read_progress(run / CHECKPOINT).finished else "stopped"
    return None, "idle"
