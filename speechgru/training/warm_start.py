"""Training that starts with the weights of a trained model (fine-tuning)."""

from dataclasses import dataclass
from typing import Any

from speechgru.errors import UsageError
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import load_model

#: Settings that the weights do not depend on.
_IRRELEVANT = {"dropout", "dropout_mask", "keep_bias"}
#: Settings of what follows the encoder, and the prefixes of its weights.
_OF_HEADS = {"heads", "ctc_units", "attention_decoder", "pooling"}
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
    """

    message: str
    provenance: dict[str, Any]
    decoder: dict[str, Any]


def initialize_from(model: SpeechGRU, name: str, with_prior: bool = False) -> WarmStart:
    """Give a network the weights and normalization of a model, named by file or as bundled.

    If the words or heads differ, only the encoder is initialized, and the heads stay as they are
    (Yosinski et al., "How transferable are features in deep neural networks?", 2014).

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
            if key not in _IRRELEVANT | _OF_HEADS and own[key] != other[key]:
                raise UsageError(
                    f"training.begin_with {name}: has {what}.{key} = {other[key]!r}, the recipe "
                    f'{own[key]!r}; they must be the same network (training.begin_with = "" '
                    "starts with random weights)"
                )
    whole = _outputs(model) == _outputs(trained)
    skipped = (() if whole else _HEADS) + (() if whole and with_prior else (_PRIOR,))
    weights = {k: v for k, v in trained.state_dict().items() if not k.startswith(skipped)}
    model.load_state_dict(model.state_dict() | weights)
    what = "the weights" if whole else "the encoder"
    new = "" if whole else "; the heads are new, as the words or heads differ"
    provenance = trained.metadata.get("provenance", {})
    decoder = trained.metadata.get("decoder", {})
    return WarmStart(f"starts with {what} of {path.name}{new}", provenance, decoder)


def _outputs(model: SpeechGRU) -> tuple[object, ...]:
    heads = model.config.model_dump(mode="json", include=_OF_HEADS)
    return model.labels, model.unknown_words, heads
