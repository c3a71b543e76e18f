"""An exported model, which tests damage."""

from pathlib import Path

import pytest
from tones import untrained_model

from speechgru.export.exporter import export_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    metadata = {"protocol": "folder", "clip_s": 0.5, "decoder": {"threshold": 0.6}}
    export_model(untrained_model(front="conv", **metadata), path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, exported) -> Path:
    (tmp_path / "m.onnx").write_bytes(exported)
    return tmp_path / "m.onnx"
