"""Training that begins with the weights of a model that was trained before."""

from pathlib import Path
from typing import Any

from speechgru.errors import UsageError
from speechgru.model import SpeechGRU
from speechgru.modelfile import load_model


def take_over(model: SpeechGRU, path: Path) -> dict[str, Any]:
    """Give a network the weights and the normalisation of a model's file; gives its provenance.

    Raises:
        DataError: the file is no model.
        UsageError: its network, features or labels are not the same.
    """
    before = load_model(path, model.device)
    for what, own, other in (
        ("model", model.config, before.config),
        ("features", model.features.config, before.features.config),
    ):
        mine, theirs = own.model_dump(mode="json"), other.model_dump(mode="json")
        for key in mine:
            if mine[key] != theirs[key]:
                raise UsageError(
                    f"{path}: has {what}.{key} = {theirs[key]!r}, the recipe {mine[key]!r}; only "
                    "the weights of the same network can be gone on with"
                )
    if (model.labels, model.unknown_words) != (before.labels, before.unknown_words):
        raise UsageError(
            f"{path}: was trained on other words; only the weights of a network with the same "
            "words in all splits can be gone on with"
        )
    model.load_state_dict(before.state_dict())
    provenance: dict[str, Any] = before.metadata.get("provenance", {})
    return provenance
