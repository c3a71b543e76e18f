"""`speechgru evaluate`: how good a model is on a split of recordings."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.terminal import print_json, progress_bar
from speechgru.errors import GateError, UsageError

if TYPE_CHECKING:
    from speechgru.corpora import Task
    from speechgru.corpora.packed import PackedAudio
    from speechgru.model import SpeechGRU


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's file.")],
    data: Annotated[
        str,
        typer.Option(metavar="DIR", help="Directory of recordings, CSV manifest, or 'embedded'."),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(metavar="P", help="Which clips and labels. [default: the model's own]"),
    ] = None,
    split: Annotated[str, typer.Option(help="training, validation or testing.")] = "testing",
    carry_state: Annotated[
        bool,
        typer.Option("--carry-state", help="Also as one stream whose state is never reset."),
    ] = False,
    orders: Annotated[int, typer.Option(min=1, max=1000, help="Random orders of that stream.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides those orders.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the confusion matrix into this file."),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(metavar="X", min=0.0, max=1.0, help="Exit 5 below this share of clips."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Recognize every clip of a split: accuracy, confusions, and the files to listen to."""
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"--picture {picture}: pictures are PNG; a name ending in .png is needed")
    from speechgru.device import select_device
    from speechgru.evaluation.carried import evaluate_carried
    from speechgru.evaluation.clips import evaluate_clips
    from speechgru.modelfile import load_model

    network = load_model(model, select_device(device))
    task, packed = open_split(network, data, protocol, split)
    with progress_bar("recognizing") as progress:
        report = evaluate_clips(network, task, split, packed, progress=progress)
    carried = None
    if carry_state:
        with progress_bar("carrying the state") as progress:
            carried = evaluate_carried(
                network, task, split, packed, orders, seed, progress=progress
            )
    if json:
        print_json(report.as_dict() | (carried.as_dict(report) if carried else {}))
    else:
        from speechgru.cli.clip_tables import print_carried, print_clips

        print_clips(report)
        if carried:
            print_carried(carried, report)
    if picture is not None:
        from speechgru.evaluation.pictures import save_confusion_picture

        save_confusion_picture(report, picture)
    if min_accuracy is not None and report.accuracy < min_accuracy:
        raise GateError(
            f"accuracy {report.accuracy:.4f} on {report.n} clips is below "
            f"--min-accuracy {min_accuracy:g}"
        )


def open_split(
    network: "SpeechGRU", data: str, protocol: str | None, split: str
) -> tuple["Task", "PackedAudio"]:
    """The task, by the model's own protocol unless another is named, and its decoded split.

    Raises:
        UsageError: no protocol is named and the model knows none, or there is no such one.
        DataError: the corpus cannot be read, or the split has no clips.
    """
    from speechgru.corpora import open_corpus
    from speechgru.corpora.embedded import embedded_corpus
    from speechgru.corpora.packed import pack
    from speechgru.corpora.protocols import make_task

    protocol = protocol or str(network.metadata.get("protocol") or "")
    if not protocol:
        raise UsageError("--protocol: the model was saved without one, so one must be named")
    corpus = open_corpus(embedded_corpus() if data == "embedded" else data)
    task = make_task(protocol, corpus)
    task.split(split)  # tells of an empty split before anything is decoded
    with progress_bar("decoding") as progress:
        only = replace(corpus, clips=corpus.split(split))
        return task, pack(only, network.sample_rate, progress=progress)
