"""`speechgru demo`: train, evaluate and recognize on the embedded corpus."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.interrupts import stop_on_signals
from speechgru.cli.terminal import err, out, padded, print_json
from speechgru.cli.views.training import live_run

if TYPE_CHECKING:
    from speechgru.corpora.corpus import Example
    from speechgru.recognition.clips import Recognition

RECIPE = "quickstart"


@examples("speechgru demo", "speechgru demo --out runs/first --device cpu")
def demo(
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="New run directory. [default: runs/demo]"),
    ] = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Train, evaluate and recognize on the embedded corpus (1 minute)."""
    err.line("loading torch ...")
    from speechgru.backends.pytorch import TorchBackend
    from speechgru.backends.torch_device import select_device
    from speechgru.cli.tables.clips import print_carried, print_clips
    from speechgru.corpora import open_corpus
    from speechgru.corpora.packed import pack
    from speechgru.corpora.protocols import make_task
    from speechgru.evaluation.clips import evaluate_carried, evaluate_clips
    from speechgru.labels import Vocabulary
    from speechgru.modelfile.safetensors import load_model
    from speechgru.recognition.clips import recognize
    from speechgru.training.loop import train
    from speechgru.training.recipe import load_recipe
    from speechgru.training.run_directory import free_name

    chosen = select_device(device)
    run = out_dir or free_name(Path("runs") / "demo")
    recipe = load_recipe(RECIPE)
    err.line(f"1. Training: {recipe.description}")
    err.line(f"   on {chosen}, into {run}; Ctrl-C saves and stops")
    with stop_on_signals() as stop, live_run() as (report, decoding):
        result = train(recipe, run, chosen, False, report, stop, progress=decoding)

    err.line("2. Evaluating on voices that were not in the training data")
    model = TorchBackend(load_model(result.model, chosen))
    corpus = open_corpus(recipe.data.directory)
    task = make_task(recipe.data.protocol, corpus)
    packed = pack(corpus, model.sample_rate)
    clips = evaluate_clips(model, task, "testing", packed)
    carried = evaluate_carried(model, task, "testing", packed)
    if not json:
        print_clips(clips)
        print_carried(carried, clips)

    err.line("3. Recognizing recordings of the testing split")
    recordings = _one_of_each_word(task.split("testing"), Vocabulary(model.labels).words)
    answers = [(clip, recognize(model, clip.path)) for clip in recordings if clip.path]
    if json:
        print_json(
            {
                "model": str(result.model),
                "seconds": round(result.seconds, 1),
                "evaluation": clips.as_dict() | carried.as_dict(clips),
                "recognized": [
                    answer.as_dict() | {"truth": clip.label} for clip, answer in answers
                ],
            }
        )
        return
    names = ["/".join(clip.path.parts[-2:]) if clip.path else "" for clip, _ in answers]
    width = max(map(len, names), default=0)
    for name, (clip, answer) in zip(names, answers, strict=True):
        _print_answer(padded(name, width), clip, answer)
    _print_next_steps(result.model)


def _one_of_each_word(examples: "tuple[Example, ...]", words: tuple[str, ...]) -> "list[Example]":
    """The last example of each word."""
    last = {example.label: example for example in examples}
    return [last[word] for word in words if word in last]


def _print_answer(name: str, clip: "Example", answer: "Recognition") -> None:
    mark = "[green]right[/]" if answer.word == clip.label else "[red]wrong[/]"
    out.styled(f"   {{}}  {{}} {answer.score:5.2f}  {mark}", name, padded(answer.word, 10))


def _print_next_steps(model: Path) -> None:
    out.line()
    out.styled("[bold green]Done.[/] The model is {}. What to do next:", model)
    for command, what in (
        (f"speechgru recognize {quote(str(model))} FILE.wav", "a recording of your own"),
        (f"speechgru listen {quote(str(model))}", "a microphone"),
        ("speechgru train my-words --data DIR", "your words: DIR/WORD/FILE.wav"),
        ("speechgru data download speech-commands-v2", "105,829 real recordings"),
        ("speechgru train --data speech-commands-v2", "the standard task"),
    ):
        out.line(f"  {command:52} {what}")
