"""Training that begins with the weights of a model that was trained before."""

from dataclasses import dataclass
from typing import Any

from speechgru.errors import UsageError
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import load_model

#: Settings that the weights do not depend on.
_FREE = {"dropout", "dropout_mask", "keep_bias"}
#: Settings of what comes after the encoder, and where its weights are.
_OF_HEADS = {"heads", "ctc_units", "attention_decoder", "pooling"}
_HEADS = ("head.", "speller.", "pooling.")
#: How often each label is asked for is the recipe's own.
_SHARES = "log_prior"


@dataclass(frozen=True)
class Beginning:
    """What a network was given before its first step."""

    #: Where the weights came from, in a line for the user.
    told: str
    #: How the model that they are of was made.
    provenance: dict[str, Any]


def take_over(model: SpeechGRU, name: str) -> Beginning:
    """Give a network the weights and the normalisation of a model, by file or by name.

    Where the words or the heads are not the same, the heads keep the weights that they have: the
    encoder alone is taken over (Yosinski et al., "How transferable are features in deep neural
    networks?", 2014).

    Raises:
        DataError: the file is no model.
        UsageError: its network or features are not the same, or no model has this name.
    """
    path = trained_model(name)
    before = load_model(path, model.device)
    for what, own, other in (
        ("model", model.config, before.config),
        ("features", model.features.config, before.features.config),
    ):
        mine, theirs = own.model_dump(mode="json"), other.model_dump(mode="json")
        for key in mine:
            if key not in _FREE | _OF_HEADS and mine[key] != theirs[key]:
                raise UsageError(
                    f"training.begin_with {name}: has {what}.{key} = {theirs[key]!r}, the recipe "
                    f"{mine[key]!r}; only the weights of the same network can be gone on with (and "
                    'none with training.begin_with = "")'
                )
    whole = _answers(model) == _answers(before)
    left = _SHARES if whole else (_SHARES, *_HEADS)
    weights = {k: v for k, v in before.state_dict().items() if not k.startswith(left)}
    model.load_state_dict(model.state_dict() | weights)
    what = "the weights" if whole else "the encoder (other words or heads: the heads are new)"
    return Beginning(f"begins with {what} of {path.name}", before.metadata.get("provenance", {}))


def _answers(model: SpeechGRU) -> tuple[object, ...]:
    heads = model.config.model_dump(mode="json", include=_OF_HEADS)
    return model.labels, model.unknown_words, heads
