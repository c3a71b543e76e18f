"""The engine: every stream's events are those of `listen`, whatever runs beside it."""

import asyncio
import time

import numpy as np
import pytest
from servers import own_events, without_latency, words_in_noise

from speechgru.audio.pcm import to_floats
from speechgru.recognition.state_policy import StatePolicy
from speechgru.serve.engine import Engine
from speechgru.serve.models import open_models
from speechgru.serve.service import Service
from speechgru.serve.stream import Extras

LARGE, SMALL = "commands-12", "commands-12-small"


def heard(sizes, company=0, model=None):
    """Push the words in chunks of these sizes, beside other streams; the events, in order."""
    samples = to_floats(words_in_noise())

    async def run():
        engine = Engine(model or open_models()["commands-12"])
        events, ended = [], asyncio.Event()

        def on_answer(answer):
            assert answer.error is None
            events.extend(without_latency(event.as_dict()) for event in answer.events)
            if answer.ended:
                ended.set()

        stream = engine.open(on_answer)
        others = [engine.open(lambda answer: None) for _ in range(company)]
        rng, place = np.random.default_rng(0), 0
        while place < len(samples):
            size = int(rng.choice(sizes))
            stream.push(samples[place : place + size])
            place += size
            for other in others:
                other.push(rng.normal(0, 0.1, int(rng.choice(sizes))).astype(np.float32))
            if others and rng.random() < 0.2:  # they come and go
                engine.close_stream(others.pop(0))
                others.append(engine.open(lambda answer: None))
            await asyncio.sleep(0)
        stream.finish()
        await asyncio.wait_for(ended.wait(), 60)
        await engine.close()
        return events

    return asyncio.run(run())


def test_an_answer_that_cannot_be_delivered_ends_its_own_stream_only(caplog):
    samples = to_floats(words_in_noise())

    async def run():
        engine = Engine(open_models()["commands-12"])
        failed, events, ended = [], [], asyncio.Event()

        def fail(answer):
            failed.append(answer.error)
            raise ValueError("cannot be delivered")

        def on_answer(answer):
            events.extend(without_latency(event.as_dict()) for event in answer.events)
            if answer.ended:
                ended.set()

        for stream in (engine.open(fail), engine.open(on_answer)):
            stream.push(samples)
            stream.finish()
        await asyncio.wait_for(ended.wait(), 60)
        remaining = engine.streams
        await engine.close()
        return failed, events, remaining

    failed, events, remaining = asyncio.run(run())
    assert events == own_events()
    assert failed == [None, "an answer could not be delivered"]
    assert remaining == 1
    assert [record.message for record in caplog.records] == ["an answer could not be delivered"]


@pytest.mark.parametrize(("sizes", "company"), [([160, 320, 500], 0), ([320, 1_600], 20)])
def test_events_are_those_of_listen_alone_and_in_company(sizes, company):
    assert heard(sizes, company) == own_events()


def test_the_state_is_reset_where_listen_resets_it(monkeypatch):
    """With the policy "silence", whose places do not depend on how many steps run together."""
    from speechgru.recognition.recognizer import open_recognizer

    model = open_models()["commands-12"]
    policy = StatePolicy(mode="silence")
    recognizer = open_recognizer(model.backend, policy=policy)
    expected = recognizer.push(to_floats(words_in_noise())) + recognizer.flush()
    object.__setattr__(model, "policy", policy)
    found = heard([320, 1_600, 4_000], company=3, model=model)
    assert found == [without_latency(event.as_dict()) for event in expected]


def test_the_delay_is_that_of_the_samples_not_of_those_that_came_later():
    """While a call runs, more chunks arrive; whose wait is not counted from the last of them."""

    class Slow:
        def add(self):
            return 0

        def free(self, row):
            pass

        def step(self, rows, samples):
            time.sleep(0.1)
            return np.full((len(samples), samples.shape[1] // 320, 12), -3.0, np.float32)

    async def run():
        delays, observed = [], []

        def observe(waits_s, steps):
            observed.extend(waits_s)

        engine = Engine(open_models()["commands-12"], Slow(), observe)
        stream = engine.open(lambda a: delays.append(a.delay_s), Extras(posterior_steps=1))
        for _ in range(60):
            stream.push(np.zeros(320 * 20, np.float32))
            await asyncio.sleep(0.005)
        await engine.close()
        return delays, observed

    delays, observed = asyncio.run(run())
    assert len(delays) > 2
    assert min(delays) > 0.095
    assert min(observed) > 0.095


def test_empty_chunks_leave_nothing_behind():
    async def run():
        engine = Engine(open_models()["commands-12"])
        stream = engine.open(lambda answer: None)
        for _ in range(100):
            stream.push(np.empty(0, np.float32))
        waiting = len(stream._arrivals)
        await engine.close()
        return waiting

    assert asyncio.run(run()) == 0


def test_a_replaced_model_answers_new_streams_only():
    first, second = (open_models([f"own={name}"])["own"] for name in (LARGE, SMALL))

    async def run():
        service = Service({"own": first})
        service.start()
        before = service.open(first, lambda answer: None)
        service.configure(second)
        after = service.open(service.model("own"), lambda answer: None)
        assert (before.model, after.model) == (first, second)
        assert (service.model_of(before), service.model_of(after)) == (first, second)
        assert service.streams(second) == 2
        service.close(before)
        service.close(after)
        assert service.streams(second) == 0
        await service.stop()

    asyncio.run(run())


def test_a_model_that_cannot_be_run_says_so():
    class Broken:
        def add(self):
            return 0

        def free(self, row):
            pass

        def step(self, rows, samples):
            raise RuntimeError("no such node")

    async def run():
        engine = Engine(open_models()["commands-12"], rows=Broken())
        answered = asyncio.get_running_loop().create_future()
        engine.open(answered.set_result).push(np.zeros(320, np.float32))
        answer = await asyncio.wait_for(answered, 60)
        await engine.close()
        return answer

    assert "no such node" in asyncio.run(run()).error
