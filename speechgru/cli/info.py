"""`speechgru info`: shows what a model file holds."""

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.terminal import print_json
from speechgru.modelfile.bundled import bundled_model, find_model


@examples("speechgru info", "speechgru info runs/mine", "speechgru info mine.onnx --json")
def info(model: options.OptionalModel = None, json: options.Json = False) -> None:
    """Show a model's labels, accuracy, thresholds and provenance.

    The weights are read too: a damaged file is reported.
    """
    from speechgru.backends.loader import describe_model

    told = describe_model(find_model(model) if model is not None else bundled_model())
    if json:
        print_json(told)
        return
    from speechgru.cli.tables.models import print_info

    print_info(told)
