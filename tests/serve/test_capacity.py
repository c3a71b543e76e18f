"""How many streams a server takes: the search for it, and a small load on a real one."""

import json

import pytest

from speechgru.cli import main
from speechgru.serve.capacity import Load, best, search


def load_of(streams, p99=10.0, closed=0):
    quantiles = {"p50": p99 / 3, "p95": p99 / 2, "p99": p99}
    return Load(streams, 20.0, 8.0, quantiles, 0.5, 0.01, 100.0, closed)


@pytest.mark.parametrize("most", [3, 40, 100, 333, 1_000])
def test_the_most_that_pass_are_found_to_within_an_eighth(most):
    loads = search(lambda n: load_of(n, 10.0 if n <= most else 80.0), limit_ms=60.0)
    found = best(loads, 60.0)
    streams = found.streams if found else 0
    assert streams <= most
    assert most - streams <= max(4, most // 8)
    assert len(loads) < 15


def test_a_load_passes_if_no_stream_is_closed():
    assert load_of(10).passes(60.0)
    assert not load_of(10, closed=1).passes(60.0)
    assert not load_of(10, p99=60.0).passes(60.0)
    assert best([load_of(10, closed=1)], 60.0) is None


def test_a_model_that_cannot_be_served_is_refused_at_once(capsys):
    assert main(["bench", "serve", "nothing.onnx", "--streams", "1"]) == 4
    assert "error: nothing.onnx: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_serve(capsys):
    arguments = ["--streams", "4", "--seconds", "2", "--chunk-ms", "40", "--limit-ms", "100000"]
    assert main(["bench", "serve", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (load,) = found["loads"]
    assert found["streams"] == load["streams"] == 4
    assert 0 < load["answer_ms"]["p50"] <= load["answer_ms"]["p99"]
    assert 0 < load["cpu_per_stream"] < 0.5
    assert load["closed"] == 0
