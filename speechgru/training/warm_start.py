"""Training that starts with the weights of a trained model (fine-tuning)."""

from dataclasses import dataclass
from typing import Any

import torch

from speechgru.errors import UsageError
from speechgru.labels import NOT_WORDS, Head
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import load_model

#: Settings that the weights do not depend on.
_IRRELEVANT = {"dropout", "dropout_mask", "keep_bias"}
#: Settings of what follows the encoder, and the prefixes of its weights.
OF_HEADS = {"heads", "ctc_units", "attention_decoder", "pooling"}
_HEADS = ("head.", "speller.", "pooling.")
#: The frequencies of the labels; each recipe has its own.
_PRIOR = "log_prior"


@dataclass(frozen=True)
class WarmStart:
    """What a network was initialized with.

    Args:
        message: for the user, in a line.
        provenance: how the model that the weights are from was made.
        decoder: its detector's settings.
        state_policy: when it resets its state.
    """

    message: str
    provenance: dict[str, Any]
    decoder: dict[str, Any]
    state_policy: dict[str, Any]


def initialize_from(model: SpeechGRU, name: str, with_prior: bool = False) -> WarmStart:
    """Give a network the weights and normalization of a model, named by file or as bundled.

    If the words or heads differ, only the encoder is initialized (Yosinski et al., "How
    transferable are features in deep neural networks?", 2014); where there is a CTC head,
    also the columns of words that the model tells apart, unknown ones too. A classify head alone
    learns them as well by itself. The heads stay as they are otherwise.

    Args:
        with_prior: also the frequencies of the labels in the model's training, which its detector
            is chosen with, instead of those in the recipe's; where words and heads are the same.

    Raises:
        DataError: the file is not a model.
        UsageError: its network or features differ, or no model has this name.
    """
    path = trained_model(name)
    trained = load_model(path, model.device)
    for what, config, trained_config in (
        ("model", model.config, trained.config),
        ("features", model.features.config, trained.features.config),
    ):
        own, other = config.model_dump(mode="json"), trained_config.model_dump(mode="json")
        for key in own:
            if key not in _IRRELEVANT | OF_HEADS and own[key] != other[key]:
                raise UsageError(
                    f"training.begin_with {name}: has {what}.{key} = {other[key]!r}, the recipe "
                    f'{own[key]!r}; they must be the same network (training.begin_with = "" '
                    "starts with random weights)"
                )
    whole = _outputs(model) == _outputs(trained)
    skipped = (() if whole else _HEADS) + (() if whole and with_prior else (_PRIOR,))
    weights = {k: v for k, v in trained.state_dict().items() if not k.startswith(skipped)}
    model.load_state_dict(model.state_dict() | weights)
    message = f"starts with the weights of {path.name}"
    if not whole:
        known = _copy_columns(model, trained) if "ctc" in model.config.heads else []
        of = f" and its columns of {', '.join(known)}" if known else ""
        rest = "the rest of the heads is new" if known else "the heads are new"
        message = (
            f"starts with the encoder of {path.name}{of}; {rest}, as the words or heads differ"
        )
    provenance = trained.metadata.get("provenance", {})
    settings = (trained.metadata.get(name, {}) for name in ("decoder", "state_policy"))
    return WarmStart(message, provenance, *settings)


def _copy_columns(model: SpeechGRU, trained: SpeechGRU) -> list[str]:
    """Give the columns of words that a trained model tells apart its weights; which words."""
    known = _word_columns(trained)
    found = []
    with torch.no_grad():
        for (head, word), column in _word_columns(model).items():
            source = known.get((head, word), known.get(("classify", word)))
            if source is not None:
                model.head.weight[column] = trained.head.weight[source]
                model.head.bias[column] = trained.head.bias[source]
                found.append(word)
    return list(dict.fromkeys(found))


def _word_columns(model: SpeechGRU) -> dict[tuple[Head, str], int]:
    """The column of each word that has one, of each head."""
    names = [(head, name) for head, names in model.column_names.items() for name in names]
    return {
        (head, name): column
        for column, (head, name) in enumerate(names)
        if name not in NOT_WORDS and not (head == "ctc" and model.spelling.in_characters)
    }


def _outputs(model: SpeechGRU) -> tuple[object, ...]:
    heads = model.config.model_dump(mode="json", include=OF_HEADS)
    return model.labels, model.unknown_words, heads
