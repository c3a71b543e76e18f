"""Where a model comes from: recipe, data, code and library versions."""

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchaudio

from speechgru.corpora.corpus import Corpus
from speechgru.version import __version__


def provenance(
    recipe: dict[str, Any],
    precision: str,
    corpus: Corpus,
    fingerprint: str,
    counts: dict[str, int],
    begun_with: dict[str, Any],
) -> dict[str, Any]:
    """What someone needs to make the same model again; no path outside the data's own name.

    `precision` is what the recipe's meant on that machine; `begun_with` the provenance of the
    model that training began with, if it did with one.
    """
    training = recipe["training"]
    named = {
        "data": recipe["data"] | {"directory": corpus.root.name},
        "training": training | {"begin_with": Path(training["begin_with"]).name},
    }
    return ({"begun_with": begun_with} if begun_with else {}) | {
        "recipe": recipe | named,
        "precision": precision,
        "data": {
            "name": corpus.root.name,
            "layout": corpus.layout,
            "fingerprint": fingerprint,
            "clips": counts,
        },
        "speechgru": __version__,
        "commit": source_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchaudio": torchaudio.__version__,
    }


@cache
def source_commit() -> str:
    """The git commit of the source tree that runs; "" for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
