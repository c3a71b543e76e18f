"""An engine: one thread that runs all streams of a model together."""

import threading
from collections.abc import Callable, Sequence
from time import monotonic

import numpy as np

from speechgru.audio.samples import Samples
from speechgru.decoding.factory import DecoderConfig, head_of
from speechgru.errors import SpeechGRUError
from speechgru.labels import columns
from speechgru.serve.models import ServedModel
from speechgru.serve.rows import Rows, rows_of
from speechgru.serve.stream import Answer, Extras, OnAnswer, Stream

#: A round starts this long per open stream after the one before, at most a step: many streams are
#: gathered into few calls, and few streams are answered at once.
GATHER_S = 0.001

Answers = list[tuple[Stream, Answer]]


def hand_over(answers: Answers) -> None:
    """Deliver each answer to its stream, in the thread that calls this."""
    for stream, answer in answers:
        stream.on_answer(answer)


class Engine:
    """Runs the streams of a model in its own thread, one step of all waiting streams per round.

    Args:
        rows: the streams' states; by default those for the model's backend.
        dispatch: called with all answers of a round.
        observe: called with the seconds from each chunk's arrival to its answer.
    """

    def __init__(
        self,
        model: ServedModel,
        rows: Rows | None = None,
        dispatch: Callable[[Answers], None] = hand_over,
        observe: Callable[[Sequence[float]], None] | None = None,
    ) -> None:
        self.model = model
        self._rows = rows or rows_of(model.backend)
        self._dispatch, self._observe = dispatch, observe
        self._ready: list[Stream] = []
        self._streams: set[Stream] = set()
        self._condition = threading.Condition()
        self._closing = False
        self._columns = (
            columns(model.backend.outputs, head_of(model.config))
            if len(model.backend.outputs) > 1
            else slice(None)
        )
        self._thread = threading.Thread(target=self._run, name=f"engine {model.name}", daemon=True)
        self._thread.start()

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    def open(
        self, on_answer: OnAnswer, extras: Extras | None = None, config: DecoderConfig | None = None
    ) -> Stream:
        """Open a stream; `on_answer` is called with its answers.

        Raises:
            UsageError: a threshold is for a word that the model does not have.
        """
        with self._condition:
            stream = Stream(self.model, self._rows.add(), on_answer, self._wake, extras, config)
            self._streams.add(stream)
        return stream

    def close_stream(self, stream: Stream) -> None:
        """End a stream at once: its waiting samples are dropped, and it gets no more answers."""
        with self._condition:
            if stream not in self._streams:
                return
            self._streams.discard(stream)
            stream.closed = True
            if stream not in self._ready:
                self._ready.append(stream)  # only the engine's thread frees rows
            self._condition.notify()

    def close(self) -> None:
        """End the engine's thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _wake(self, stream: Stream) -> None:
        if stream.queued:
            return
        with self._condition:
            # The client's thread and the engine's may both have come this far.
            if not stream.closed and not stream.queued:
                stream.queued = True
                self._ready.append(stream)
                self._condition.notify()

    def _run(self) -> None:
        started = 0.0
        step_s = self.model.step_s
        behind = False
        while True:
            with self._condition:
                while not self._ready and not self._closing:
                    self._condition.wait()
                gather_s = min(step_s, GATHER_S * len(self._streams))
                rest_s = started + gather_s - monotonic()
            if self._closing:
                return
            if not behind and rest_s > 0:
                threading.Event().wait(rest_s)
            started = monotonic()
            with self._condition:
                streams, self._ready = self._ready, []
                for stream in streams:
                    stream.queued = False
                    if stream.closed and stream.row >= 0:
                        self._rows.free(stream.row)
                        stream.row = -1
            answers = self._round([stream for stream in streams if stream.row >= 0])
            if answers:
                self._dispatch(answers)
            behind = self._requeue(streams)

    def _requeue(self, streams: Sequence[Stream]) -> bool:
        """Queue the streams that still have a whole step; whether there are any."""
        more = [stream for stream in streams if stream.has_more and not stream.ended]
        for stream in more:
            self._wake(stream)
        return bool(more)

    def _round(self, streams: list[Stream]) -> Answers:
        """Run one step of each stream that has one."""
        answers: Answers = []
        stepping: list[Stream] = []
        chunks: list[Samples] = []
        for stream in streams:
            chunk = stream.take(self.model.backend.step_samples)
            if stream.reset_wanted:
                self._rows.reset(stream.row)
                stream.reset_wanted = False
            if stream.ended:
                answers.append((stream, stream.flush()))
            elif chunk is not None:
                stepping.append(stream)
                chunks.append(chunk)
        if stepping:
            self._run_model(stepping, chunks, answers)
        return answers

    def _run_model(self, streams: list[Stream], chunks: list[Samples], answers: Answers) -> None:
        try:
            rows = [stream.row for stream in streams]
            outputs = self._rows.step(rows, np.stack(chunks))[:, self._columns]
        except Exception as error:  # onnxruntime's errors have no common class
            reason = f"the model cannot be run: {str(error).splitlines()[0]:.200}"
            answers += [(s, Answer(s.time_s, error=reason)) for s in streams]
            return
        for stream, chunk, output in zip(streams, chunks, outputs, strict=True):
            try:
                answer = stream.decode(chunk, output)
            except SpeechGRUError as error:
                answer = Answer(stream.time_s, error=str(error))
            if answer is not None:
                answers.append((stream, answer))
            if stream.resets is not None:
                events = answer.events if answer is not None else []
                if stream.resets.update(chunk, events):
                    self._rows.reset_layers(stream.row)
        if self._observe is not None:
            now = monotonic()
            self._observe([now - stream.arrived_s for stream in streams])
