"""`speechgru demo`: train, evaluate and recognize on the corpus in the package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.terminal import err, out, print_json
from speechgru.cli.train import live_run, stop_on_signals

if TYPE_CHECKING:
    from speechgru.corpora.corpus import Example
    from speechgru.recognition.clips import Recognition

RECIPE = "quickstart"


def demo(
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run directory. [default: runs/demo]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train on the corpus in the package, evaluate, recognize a recording: about a minute."""
    err.print("loading torch ...")
    from speechgru.backends.pytorch import TorchBackend
    from speechgru.backends.torch_device import select_device
    from speechgru.cli.tables.clips import print_carried, print_clips
    from speechgru.corpora import open_corpus
    from speechgru.corpora.packed import pack
    from speechgru.corpora.protocols import make_task
    from speechgru.evaluation.carried import evaluate_carried
    from speechgru.evaluation.clips import evaluate_clips
    from speechgru.labels import Vocabulary
    from speechgru.modelfile.safetensors import load_model
    from speechgru.recognition.clips import recognize
    from speechgru.training.loop import train
    from speechgru.training.recipe import load_recipe
    from speechgru.training.rundir import free_name

    chosen = select_device(device)
    run = out_dir or free_name(Path("runs") / "demo")
    recipe = load_recipe(RECIPE)
    err.print(
        f"1. training: {recipe.description}\n   on {chosen}, into {run}; Ctrl-C saves and stops",
        soft_wrap=True,
    )
    with stop_on_signals() as stop, live_run() as (report, decoding):
        result = train(recipe, run, chosen, False, report, stop, progress=decoding)

    err.print("2. evaluating on voices it never heard")
    model = TorchBackend(load_model(result.model, chosen))
    corpus = open_corpus(recipe.data.directory)
    task = make_task(recipe.data.protocol, corpus)
    packed = pack(corpus, model.sample_rate)
    clips = evaluate_clips(model, task, "testing", packed)
    carried = evaluate_carried(model, task, "testing", packed)
    if not json:
        print_clips(clips)
        print_carried(carried, clips)

    err.print("3. recognizing recordings of the testing split")
    chosen_clips = one_of_each_word(task.split("testing"), Vocabulary(model.labels).words)
    heard = [(clip, recognize(model, clip.path)) for clip in chosen_clips if clip.path]
    if json:
        recognized = [answer.as_dict() | {"truth": clip.label} for clip, answer in heard]
        print_json(
            {"model": str(result.model), "seconds": round(result.seconds, 1)}
            | {
                "evaluation": clips.as_dict() | carried.as_dict(clips),
                "recognized": recognized,
            }
        )
        return
    for clip, answer in heard:
        print_answer(clip, answer)
    out.print(
        f"\n[bold green]Done.[/] The model is {result.model}. What to do next:\n"
        f"  speechgru recognize {result.model} FILE.wav       a recording of your own\n"
        f"  speechgru listen {result.model}                   a microphone\n"
        "  speechgru train my-words --data FOLDER            your words, FOLDER/word/file.wav\n"
        "  speechgru data download speech-commands-v2        105,829 real recordings\n"
        "  speechgru train --data speech-commands-v2         the standard task",
        soft_wrap=True,
    )


def one_of_each_word(examples: "tuple[Example, ...]", words: tuple[str, ...]) -> "list[Example]":
    """The last example of each word."""
    last = {example.label: example for example in examples}
    return [last[word] for word in words if word in last]


def print_answer(clip: "Example", answer: "Recognition") -> None:
    """What was said and what was recognized, on a line."""
    mark = "[green]right[/]" if answer.word == clip.label else "[red]wrong[/]"
    name = "/".join(clip.path.parts[-2:]) if clip.path else ""
    out.print(f"   {name:34} {answer.word:10} {answer.score:5.2f}  {mark}", soft_wrap=True)
