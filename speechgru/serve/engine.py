"""An engine: runs all streams of a model together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.samples import Samples
from speechgru.decoding.detector import Detector
from speechgru.decoding.detector_rows import DetectorRows
from speechgru.decoding.events import Event
from speechgru.decoding.factory import DecoderConfig, head_of
from speechgru.labels import columns
from speechgru.serve.models import ServedModel
from speechgru.serve.rows import Rows, rows_of
from speechgru.serve.stream import Answer, Extras, OnAnswer, Stream

#: A round starts this long per open stream after the one before, at most a step: many streams are
#: gathered into few calls, and few streams are answered at once.
GATHER_S = 0.001
#: Most steps of a stream in a round. Several at once take half the time that they take one by one.
MOST_STEPS = 10
#: Up to so many steps, over all streams, are run in the event loop: handing them to a thread and
#: back takes longer. Larger calls run in a thread, while the loop goes on receiving.
INLINE_STEPS = 8


class Engine:
    """Runs the streams of a model in rounds: all waiting steps of all waiting streams.

    Everything but the network's larger calls runs in the event loop in which it was created.

    Args:
        rows: the streams' states; by default those for the model's backend.
        observe: called with the seconds from the arrival of each stream's last samples in a call to
            their answer, and the number of steps in that call.
    """

    def __init__(
        self,
        model: ServedModel,
        rows: Rows | None = None,
        observe: Callable[[Sequence[float], int], None] | None = None,
    ) -> None:
        self.model = model
        self._loop = asyncio.get_running_loop()
        self._rows = rows or rows_of(model.backend)
        self._observe = observe
        self._detectors: DetectorRows | None = None
        self._ready: list[Stream] = []
        self._streams: set[Stream] = set()
        self._started_s = 0.0
        #: The next round, if one is scheduled; the one that is running.
        self._next: asyncio.Handle | None = None
        self._round: asyncio.Task[None] | None = None
        self._closing = False
        self._executor = ThreadPoolExecutor(1, f"engine {model.name}")
        self._columns = (
            columns(model.backend.outputs, head_of(model.config))
            if len(model.backend.outputs) > 1
            else slice(None)
        )

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
        stream = Stream(self.model, -1, on_answer, self._wake, extras, config)
        stream.row = self._rows.add()
        self._streams.add(stream)
        return stream

    def configure(self, config: DecoderConfig) -> None:
        """Use other settings in the streams that have the model's."""
        for stream in self._streams:
            if stream.has_model_settings:
                stream.configure(config)

    def close_stream(self, stream: Stream) -> None:
        """End a stream at once: its waiting samples are dropped, and it gets no more answers."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        stream.closed = True
        if self._round is None:
            self._free(stream)
        else:  # its row may be in use
            self._wake(stream)

    async def close(self) -> None:
        """End the round that is running, and run no more."""
        self._closing = True
        if self._next is not None:
            self._next.cancel()
        if self._round is not None:
            await asyncio.wait([self._round])
        self._executor.shutdown()

    def _free(self, stream: Stream) -> None:
        if stream.row >= 0:
            self._rows.free(stream.row)
            if self._detectors is not None:
                self._detectors.free(stream.row)
            stream.row = -1

    def _wake(self, stream: Stream) -> None:
        if not stream.queued:
            stream.queued = True
            self._ready.append(stream)
            self._schedule()

    def _schedule(self, at_once: bool = False) -> None:
        """Start a round when one is due, unless one is running."""
        if self._next is not None or self._round is not None or self._closing or not self._ready:
            return
        gather_s = min(self.model.step_s, GATHER_S * len(self._streams))
        rest_s = self._started_s + gather_s - monotonic()
        if at_once or rest_s <= 0:
            self._next = self._loop.call_soon(self._start)
        else:
            self._next = self._loop.call_later(rest_s, self._start)

    def _start(self) -> None:
        """Start a round: take the waiting steps, and run them here or in the thread."""
        self._next = None
        self._started_s = monotonic()
        streams, self._ready = self._ready, []
        groups: dict[int, tuple[list[Stream], list[Samples]]] = {}
        total = 0
        for stream in streams:
            stream.queued = False
            if stream.closed:
                self._free(stream)
                continue
            samples = stream.take(MOST_STEPS)
            if stream.reset_wanted:
                self._rows.reset(stream.row)
                stream.reset_wanted = False
            if stream.ended:
                self._deliver(stream, stream.flush())
            elif samples is not None:
                stepping, chunks = groups.setdefault(len(samples), ([], []))
                stepping.append(stream)
                chunks.append(samples)
                total += len(samples)
            elif stream.has_more:  # after a reset
                self._wake(stream)
        if not groups:
            self._schedule(at_once=True)
        elif total <= INLINE_STEPS * self.model.backend.step_samples:
            for stepping, chunks in groups.values():
                self._finish(stepping, chunks, *self._run(stepping, chunks))
            self._schedule(at_once=self._requeue(streams))
        else:
            self._round = self._loop.create_task(self._in_thread(streams, list(groups.values())))

    async def _in_thread(
        self, streams: list[Stream], groups: list[tuple[list[Stream], list[Samples]]]
    ) -> None:
        more = False
        try:
            for stepping, chunks in groups:
                results = await self._loop.run_in_executor(
                    self._executor, self._run, stepping, chunks
                )
                self._finish(stepping, chunks, *results)
            more = self._requeue(streams)
        finally:
            self._round = None
            self._schedule(at_once=more)

    def _requeue(self, streams: Sequence[Stream]) -> bool:
        """Queue the streams that still have a whole step; whether there are any."""
        more = [s for s in streams if s.has_more and not s.ended and not s.closed]
        for stream in more:
            if not stream.queued:
                stream.queued = True
                self._ready.append(stream)
        return bool(more)

    def _run(
        self, streams: list[Stream], chunks: list[Samples]
    ) -> tuple[NDArray[np.float32], str | None]:
        """Run the network; returns log-posteriors, (N, T, V), or a reason why there are none."""
        try:
            rows = [stream.row for stream in streams]
            return self._rows.step(rows, np.stack(chunks))[:, :, self._columns], None
        except Exception as error:  # onnxruntime's errors have no common class
            reason = f"the model cannot be run: {str(error).splitlines()[0]:.200}"
            return np.empty((0, 0, 0), np.float32), reason

    def _finish(
        self,
        streams: list[Stream],
        chunks: list[Samples],
        log_posteriors: NDArray[np.float32],
        reason: str | None,
    ) -> None:
        """Decode the results of a call, and deliver the answers."""
        if reason is not None:
            for stream in streams:
                self._deliver(stream, Answer(stream.time_s, error=reason))
            return
        is_nan = np.isnan(log_posteriors[:, :, 0]).any(axis=1)
        if is_nan.any():
            reason = "the model's output is not a number (NaN); its weights are unusable"
            for n in np.flatnonzero(is_nan).tolist():
                self._deliver(streams[n], Answer(streams[n].time_s, error=reason))
            good = np.flatnonzero(~is_nan).tolist()
            streams, chunks = [streams[n] for n in good], [chunks[n] for n in good]
            log_posteriors = log_posteriors[good]
        events = self._decode(streams, log_posteriors)
        for n, stream in enumerate(streams):
            if stream.closed:
                continue
            own_events = events.get(n, [])
            answer = stream.advance(log_posteriors[n], own_events)
            if answer is not None:
                self._deliver(stream, answer)
            if stream.closed or stream.resets is None:
                continue
            if stream.resets.update(chunks[n], own_events):
                self._rows.reset_layers(stream.row)
        if self._observe is not None:
            now = monotonic()
            waits_s = [now - stream.arrived_s for stream in streams]
            self._observe(waits_s, log_posteriors.shape[1])

    def _deliver(self, stream: Stream, answer: Answer) -> None:
        """Deliver an answer; if that fails its stream ends, and the others go on."""
        try:
            stream.on_answer(answer)
        except Exception as error:
            message = "an answer could not be delivered"
            self._loop.call_exception_handler({"message": message, "exception": error})
            with suppress(Exception):
                stream.on_answer(Answer(answer.t, error=message))
            self.close_stream(stream)

    def _decode(
        self, streams: list[Stream], log_posteriors: NDArray[np.float32]
    ) -> dict[int, list[Event]]:
        """The events of streams that have some, by their place."""
        events: dict[int, list[Event]] = {}
        together: list[int] = []
        for n, stream in enumerate(streams):
            if stream.decoder_changed:
                self._place(stream)
            elif stream.thresholds_changed:
                stream.thresholds_changed = False
                if stream.decoded_together and self._detectors is not None:
                    self._detectors.set_limits(stream.row)
            if stream.decoded_together:
                together.append(n)
            elif found := stream.decoder.push(log_posteriors[n]):
                events[n] = found
        if together:
            assert self._detectors is not None
            rows = np.array([streams[n].row for n in together])
            everyone = len(together) == len(streams)
            own = log_posteriors if everyone else log_posteriors[together]
            found_by_place = self._detectors.push(rows, own)
            events |= {together[place]: found for place, found in found_by_place.items()}
        return events

    def _place(self, stream: Stream) -> None:
        """Give a stream's new decoder a row among the others, if it can have one."""
        stream.decoder_changed = False
        decoder = stream.decoder
        if isinstance(decoder, Detector):
            if self._detectors is None:
                self._detectors = DetectorRows(decoder)
            if self._detectors.fits(decoder):
                self._detectors.put(stream.row, decoder)
                stream.decoded_together = True
                return
        stream.decoded_together = False
