"""Runs JavaScript in Node.js."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def run_node(code: str, folder: Path) -> Any:
    """What a module in a folder prints, from JSON; the test is skipped without Node.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    (folder / "test.mjs").write_text(code)
    done = subprocess.run([node, "test.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
