"""`speechgru bench loss`: how many more words are missed when packets are lost."""

from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_split
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json
from speechgru.modelfile.bundled import bundled_model, find_model

if TYPE_CHECKING:
    from speechgru.evaluation.packet_loss import LossReport


@examples(
    "speechgru bench loss --data recordings/",
    "speechgru bench loss mine.onnx --data recordings/ --loss 0.1 --packet-ms 40",
)
def bench_loss(
    data: Annotated[str, options.data_in(None)],
    model: options.OptionalModel = None,
    loss: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of packets that are lost, 0 to 1.")
    ] = 0.05,
    packet_ms: Annotated[
        float, typer.Option(metavar="MS", help="Milliseconds of sound in a packet.")
    ] = 20.0,
    draws: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Draws of which packets are lost.")
    ] = 4,
    split: options.Split = "validation",
    protocol: options.Protocol = None,
    minutes: Annotated[
        float, typer.Option(metavar="M", help="Length of the stream, in minutes.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the stream.")] = 0,
    json: options.Json = False,
) -> None:
    """Words missed in a stream with lost packets, and without."""
    path = find_model(model) if model is not None else bundled_model()
    options.check_split(split)
    from speechgru.backends.loader import open_backend
    from speechgru.corpora.streams import StreamPlan
    from speechgru.decoding.factory import decoder_settings
    from speechgru.evaluation.packet_loss import PacketLoss, measure_loss
    from speechgru.evaluation.streams import split_case
    from speechgru.recognition.recognizer import stream_settings

    packets = PacketLoss(loss, packet_ms, seed)
    plan = StreamPlan(minutes=minutes, seed=seed)
    backend = open_backend(path)
    config = decoder_settings(backend.info)
    _, policy = stream_settings(backend.metadata, config=config)
    case = split_case(open_split(backend, data, protocol, split), plan)
    with progress_bar("listening, in runs of the stream") as progress:
        report = measure_loss(backend, case, packets, config, policy, draws, progress)
    if json:
        print_json(report.as_dict())
        return
    _print(report)


def _print(report: "LossReport") -> None:
    loss, whole = report.loss, report.whole
    interval = report.points_ci95
    shown = f" (95 % interval {interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    alarms = report.as_dict()["false_alarms_per_hour_with_loss"]
    out.line(
        f"{whole.n} words in {60 * whole.hours:.0f} minutes; {100 * loss.share:g} % of packets of "
        f"{loss.packet_ms:g} ms lost, {len(report.lossy)} draws"
    )
    out.line(f"words missed          {100 * report.missed_rate:.2f} %")
    out.line(f"words missed, lossy   {100 * report.lossy_missed_rate:.2f} %")
    out.styled(f"difference            [bold]{report.points:+.2f} points[/]{shown}")
    out.line(
        f"false alarms          {whole.false_alarms_per_hour:.1f} an hour, {alarms:.1f} with losses"
    )
