"""Exported files: damaged, foreign and hostile ones are refused in a sentence before they run."""

import base64
import json
import os
import zlib
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from refusals import refused

from speechgru.backends.onnx import OnnxBackend, load_onnx
from speechgru.cli import main
from speechgru.errors import DataError
from speechgru.labels import BLANK
from speechgru.modelfile.onnx import parse_onnx, with_header
from speechgru.modelfile.safetensors import read_header
from speechgru.recognition.recognizer import Recognizer, open_recognizer


def test_an_exported_file_is_valid_with_one_metadata_entry(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (entry,) = model.metadata_props
    assert entry.key == "speechgru"
    assert json.loads(entry.value)["labels"] == ["low", "mid", "high"]
    assert model.opset_import[0].version == 17


def test_a_header_replaces_the_earlier_one(exported):
    header = parse_onnx(exported).header
    other = with_header(exported, dict(header) | {"metadata": {"note": "größer, 大"}})
    assert parse_onnx(other).header["metadata"] == {"note": "größer, 大"}
    assert with_header(other, header) == exported
    assert len(onnx.load_from_string(other).metadata_props) == 1


RUNS = {"commit": "bbb", "begun_with": {"commit": "aaa", "recipe": {"model": {"layers": 2}}}}


def test_the_provenance_is_compressed_and_read_as_it_was(exported):
    header = parse_onnx(exported).header
    header = dict(header) | {"metadata": {"provenance": RUNS}}
    content = with_header(exported, header)
    (entry,) = onnx.load_from_string(content).metadata_props
    assert isinstance(json.loads(entry.value)["metadata"]["provenance"], str)
    assert parse_onnx(content).header["metadata"] == header["metadata"]


@pytest.mark.parametrize(
    "damaged",
    [
        "not base64",
        base64.b64encode(b"not compressed").decode(),
        base64.b64encode(zlib.compress(b" " * 2**25)).decode(),
        base64.b64encode(zlib.compress(b"[" * 100 + b"]" * 100)).decode(),
        base64.b64encode(zlib.compress(b"\xff")).decode(),
    ],
)
def test_a_damaged_provenance_is_refused(exported, damaged):
    header = parse_onnx(exported).header
    header = dict(header) | {"metadata": {"provenance": damaged}}
    with pytest.raises(DataError, match=r"provenance in the header|not plain JSON"):
        parse_onnx(with_header(exported, header))


def test_metadata_of_other_programs_is_kept(exported):
    model = onnx.load_from_string(exported)
    model.metadata_props.add(key="author", value="someone")
    found = parse_onnx(model.SerializeToString())
    assert found.header == parse_onnx(exported).header
    kept = onnx.load_from_string(with_header(found.content, found.header))
    assert {entry.key for entry in kept.metadata_props} == {"speechgru", "author"}


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.05, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(path, capsys, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a complete ONNX file" in refused(path, capsys)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"RIFF" * 30, b"\x80\x04\x95pickle", b"\xff" * 5_000, b"I am a text.\n" * 9],
)
def test_other_files_are_refused(tmp_path, capsys, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert "not a complete ONNX file" in refused(path, capsys)


def identity_model(**metadata: str) -> bytes:
    """A graph of one node, as if from another program."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


@pytest.mark.parametrize("metadata", [{}, {"author": "someone"}, {"speechgru": "[1, 2]"}])
def test_onnx_files_of_other_programs_are_refused(tmp_path, capsys, metadata):
    path = tmp_path / "m.onnx"
    path.write_bytes(identity_model(**metadata))
    assert refused(path, capsys) == "an ONNX file, but not a speechgru model"


@pytest.mark.parametrize(
    "value",
    ["{'labels': ", '{"format_version": NaN}', "[" * 100_000, "9" * 5_000, "[" * 90 + "]" * 90],
)
def test_a_header_that_is_not_json_is_refused(tmp_path, capsys, value):
    path = tmp_path / "m.onnx"
    path.write_bytes(identity_model(speechgru=value))
    assert "the header is not plain JSON" in refused(path, capsys)


def test_a_changed_weight_is_noticed(path, capsys):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert "the file is damaged" in refused(path, capsys)


def test_a_missing_file_is_named(tmp_path, capsys):
    assert "no such file; a model (.onnx) is needed" in refused(tmp_path / "none.onnx", capsys)


@pytest.mark.parametrize("load", [load_onnx, read_header])
def test_a_device_is_not_called_missing(load):
    with pytest.raises(DataError, match="null: is a pipe or a device; a model"):
        load(os.devnull)


def test_a_directory_is_named(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(DataError, match=r"folder\.onnx: is a directory"):
        load_onnx(tmp_path / "folder.onnx")


HOSTILE = {
    "a newer format": (lambda h: h.update(format_version=2), "model format 2 is newer"),
    "a huge format": (lambda h: h.update(format_version=10**30), "is newer"),
    "format is true": (lambda h: h.update(format_version=True), "not a speechgru model"),
    "format 0": (lambda h: h.update(format_version=0), "not a speechgru model"),
    "no format": (lambda h: h.pop("format_version"), "not a speechgru model"),
    "no labels": (lambda h: h.pop("labels"), "'labels' is missing"),
    "labels are a number": (lambda h: h.update(labels=10**9), "labels is 1000000000, not a list"),
    "labels are numbers": (
        lambda h: h.update(labels=[1, 2, 3]),
        "labels and unknown words are not strings",
    ),
    "a label twice": (lambda h: h.update(labels=["a", "a", "b"]), "not all different"),
    "another number of labels": (
        lambda h: h.update(labels=["a"], outputs={"classify": ["a"]}),
        "where its header names 1",
    ),
    "a hundred thousand labels": (
        lambda h: h.update(outputs={"ctc": [BLANK, *map(str, range(10**5 - 1))]}),
        "where its header names 100000",
    ),
    "outputs are a list": (lambda h: h.update(outputs=[]), "outputs are not the labels"),
    "outputs of numbers": (lambda h: h.update(outputs={"classify": [1]}), "outputs are not"),
    "an unknown head": (lambda h: h.update(outputs={"x": ["a", "b", "c"]}), "outputs are not"),
    "other outputs than labels": (
        lambda h: h.update(outputs={"classify": ["a", "b", "c"]}),
        "outputs are not",
    ),
    "no metadata": (lambda h: h.pop("metadata"), "'metadata' is missing"),
    "metadata is a list": (lambda h: h.update(metadata=[1]), "metadata is [1], not a dict"),
    "no rate": (lambda h: h["graph"].pop("sample_rate"), "sample_rate is None"),
    "rate 0": (lambda h: h["graph"].update(sample_rate=0), "sample_rate is 0"),
    "a huge rate": (lambda h: h["graph"].update(sample_rate=10**12), "8000 to 48000 is needed"),
    "a step of no samples": (lambda h: h["graph"].update(step_samples=0), "step_samples is 0"),
    "a negative step": (lambda h: h["graph"].update(step_samples=-320), "step_samples is -320"),
    "a huge step": (lambda h: h["graph"].update(step_samples=10**12), "step_samples is"),
    "another step": (lambda h: h["graph"].update(step_samples=321), "the graph"),
    "two steps": (lambda h: h["graph"].update(step_samples=640), "the graph gives [2, 3]"),
    "a step that is a word": (lambda h: h["graph"].update(step_samples="x" * 10**6), "is 'xxx"),
    "parameters are a list": (lambda h: h["graph"].update(parameters=[]), "parameters is []"),
}


@cache
def header_json(content: bytes) -> str:
    return json.dumps(dict(parse_onnx(content).header))


def with_changed_header(content: bytes, change) -> bytes:
    """The model with another header and the right hash."""
    header = json.loads(header_json(content))
    change(header)
    return with_header(content, header)


@pytest.mark.parametrize(("change", "sentence"), HOSTILE.values(), ids=HOSTILE.keys())
def test_an_inconsistent_header_is_refused(path, capsys, change, sentence):
    path.write_bytes(with_changed_header(path.read_bytes(), change))
    message = refused(path, capsys)
    assert sentence in message
    assert len(message) < 300


def test_a_header_without_a_graph_is_refused(path, capsys):
    model = onnx.load(path)
    header = json.loads(model.metadata_props[0].value)
    for graph in ([], None, "x"):
        model.metadata_props[0].value = json.dumps(header | {"graph": graph})
        path.write_bytes(model.SerializeToString())
        assert "does not describe the graph" in refused(path, capsys)


def test_two_headers_are_refused(path, capsys):
    model = onnx.load(path)
    model.metadata_props.append(model.metadata_props[0])
    path.write_bytes(model.SerializeToString())
    assert "not what speechgru writes" in refused(path, capsys)


SETTINGS = {
    "decoder is a list": {"decoder": [1]},
    "decoder is a number": {"decoder": 3},
    "an unknown setting": {"decoder": {"colour": "red"}},
    "a threshold out of range": {"decoder": {"threshold": 7}},
    "a threshold for no word": {"decoder": {"thresholds": {"nonsense": 0.5}}},
    "a word's threshold out of range": {"decoder": {"thresholds": {"low": 7}}},
    "a huge smoothing": {"decoder": {"smoothing_s": 1e300}},
    "policy is a word": {"state_policy": "silence"},
    "an unknown policy": {"state_policy": {"mode": "sometimes"}},
}


@pytest.mark.parametrize("metadata", SETTINGS.values(), ids=SETTINGS.keys())
def test_invalid_stream_settings_are_refused(path, tmp_path, capsys, metadata):
    import soundfile

    path.write_bytes(with_changed_header(path.read_bytes(), lambda h: h.update(metadata=metadata)))
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert main(["listen", str(path), "--input", str(tmp_path / "a.wav")]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")


# Fuzzing: a DataError in one line, or the model that was exported.


def opened(content: bytes) -> tuple[Recognizer | None, str]:
    """A recognizer, or the error message."""
    try:
        return open_recognizer(OnnxBackend(parse_onnx(content))), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(exported, data):
    content = bytearray(exported)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "remove"]))
        # Where the structure is: near the beginning and the end.
        place = data.draw(
            st.one_of(
                st.integers(0, min(400, len(content) - 1)),
                st.integers(max(0, len(content) - 3_000), len(content) - 1),
                st.integers(0, len(content) - 1),
            )
        )
        if kind == "change":
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[max(1, place) :]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            del content[place : min(len(content) - 1, place + data.draw(st.integers(1, 40)))]
    recognizer, message = opened(bytes(content))
    if recognizer is None:
        assert "\n" not in message
        return
    silence = np.zeros(640, np.float32)
    same = (r.backend for r in (recognizer, opened(exported)[0]))
    found, expected = (backend(silence, backend.initial_state())[0] for backend in same)
    assert (found == expected).all()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_value_in_the_header_is_refused_or_harmless(exported, data):
    def change(header):
        for _ in range(data.draw(st.integers(1, 3))):
            table = header
            inner = data.draw(st.sampled_from([None, "graph", "metadata", "outputs"]))
            if isinstance(header.get(inner), dict):
                table = header[inner]
            known = sorted(table) + (["decoder", "state_policy", "clip_s"] * (inner == "metadata"))
            if known:
                table[data.draw(st.sampled_from(known))] = data.draw(json_values)

    content = exported
    try:
        content = with_changed_header(exported, change)
    except (TypeError, AttributeError):  # the graph's description is no table any more
        return
    recognizer, message = opened(content)
    if recognizer is None:
        assert "\n" not in message
    else:
        recognizer.push(np.zeros(3_200, np.float32))


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(content):
    with pytest.raises(DataError):
        parse_onnx(content)
