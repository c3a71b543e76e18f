"""Provenance of a model: recipe, data, code and library versions."""

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
    teachers: list[dict[str, Any]],
) -> dict[str, Any]:
    """What is needed to train the same model again; of paths only the names.

    Args:
        precision: of products, as the recipe's setting was resolved on this machine.
        counts: number of clips by split.
        begun_with: provenance of the model whose weights training started with; empty without.
        teachers: provenance of each model whose answers it learned.
    """
    training = recipe["training"]
    without_paths = {
        "data": recipe["data"] | {"directory": corpus.root.name},
        "training": training
        | {
            "begin_with": Path(training["begin_with"]).name,
            "teachers": [Path(name).name for name in training["teachers"]],
        },
    }
    others = {"begun_with": begun_with, "teachers": teachers}
    return {name: origin for name, origin in others.items() if origin} | {
        "recipe": recipe | without_paths,
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
    """The git commit of the running source tree; "" for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
