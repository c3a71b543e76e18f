"""Write the mean of several models' weights, as one model.

    python recipes/average_weights.py runs/a runs/b commands-12 --out mean.safetensors

The models must have begun with the same weights (`--from`, `training.begin_with`): only then does
their mean lie between them, and mostly makes fewer errors than each. It has the settings of the
first. Compare on a validation split.

Source: M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time", ICML 2022.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from speechgru.errors import SpeechGRUError, UsageError
from speechgru.model.network import SpeechGRU
from speechgru.modelfile.bundled import trained_model
from speechgru.modelfile.safetensors import header_of, load_model, save_model

#: What models must have in common, and what to say of one that differs.
_COMMON = {
    "labels": "other labels",
    "unknown_words": "other unknown words",
    "outputs": "other heads",
    "features": "other features",
    "model": "another network",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a run, a file, or a name")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors")
    options = parser.parse_args(arguments)
    try:
        save_model(mean_model(options.models), options.out)
    except SpeechGRUError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: the mean of {len(options.models)} models")
    return 0


def mean_model(names: list[str]) -> SpeechGRU:
    """The first of these models with the mean of all weights; its provenance names the others.

    Raises:
        DataError: a file is not a model.
        UsageError: there is only one, or two have other labels or another network.
    """
    if len(names) < 2:
        raise UsageError("one model is its own mean: name two or more")
    models = [load_model(trained_model(name)) for name in names]
    first, *others = models
    for name, model in zip(names[1:], others, strict=True):
        for part, difference in _COMMON.items():
            if header_of(model)[part] != header_of(first)[part]:
                raise UsageError(f"{name}: has {difference} than {names[0]}")
    states = [model.state_dict() for model in models]
    first.load_state_dict({name: _mean([s[name] for s in states]) for name in states[0]})
    origins = [model.metadata.get("provenance", {}) for model in models]
    first.metadata["provenance"] = origins[0] | {"averaged_with": origins[1:]}
    for measured in ("metrics", "decoder_chosen_on", "calibration"):
        first.metadata.pop(measured, None)
    return first


def _mean(tensors: list[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]  # how many batches a normalization has seen
    return torch.stack([tensor.double() for tensor in tensors]).mean(dim=0).to(tensors[0].dtype)


if __name__ == "__main__":
    sys.exit(main())
