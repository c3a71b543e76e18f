"""`speechgru bench`: what training and listening cost."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.bench_cells import bench_cells
from speechgru.cli.bench_listen import bench_listen
from speechgru.cli.terminal import err, out, print_json, progress_bar

if TYPE_CHECKING:
    from speechgru.analysis.training_cost import TrainingCost

bench = typer.Typer(
    help="Measure what training and listening cost.", no_args_is_help=True, rich_markup_mode=None
)

bench.command("cells")(bench_cells)
bench.command("listen")(bench_listen)


@bench.command("train")
def bench_train(
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="A recipe's name or TOML file.")
    ] = "gsc-open-12",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: model.hidden=64.", metavar="KEY=VALUE"),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Made clips to draw from.")] = 4096,
    batches: Annotated[int, typer.Option(min=1, help="Batches to measure.")] = 20,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    compare_dataloader: Annotated[
        bool,
        typer.Option(
            "--compare-dataloader",
            help="Then in turns with the usual pipeline: worker processes read a file at a time.",
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Its processes; 0 is one for each core.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Clips a second of the whole training loop, and of the bare network on ready features."""
    from speechgru.analysis.training_cost import measure_training
    from speechgru.backends.torch_device import select_device, usable_cores
    from speechgru.training.recipe import load_recipe

    chosen = select_device(device)
    settings = load_recipe(recipe, overrides or [])
    load, cores = os.getloadavg()[0], usable_cores()
    if load > cores / 2:
        err.line(f"load average {load:.1f} on {cores} cores: other programs slow this down")
    dataloader_workers = (workers or cores) if compare_dataloader else 0
    with progress_bar("batches") as progress:
        cost = measure_training(settings, chosen, clips, batches, progress, dataloader_workers)
    if json:
        print_json({"recipe": recipe, "device": str(chosen), "load": load, **cost.as_dict()})
    else:
        _print(recipe, str(chosen), cost)


def _print(recipe: str, device: str, cost: "TrainingCost") -> None:
    low, high = cost.loop_over_bare_quartiles
    out.line(
        f"{recipe} on {device}, {cost.threads} thread(s): {cost.parameters:,} parameters, "
        f"{cost.batches} batches of {cost.batch_size} in {cost.precision}"
    )
    out.line(f"training loop       {cost.clips_per_second:.0f} clips/s")
    out.line(f"forward, backward   {cost.bare_clips_per_second:.0f} clips/s, on ready features")
    out.line(f"loop over bare      {cost.loop_over_bare:.3f} (quartiles {low:.3f} to {high:.3f})")
    for stage, share in cost.stages.items():
        rate = cost.stages_clips_per_second[stage]
        out.line(f"  {stage:<18}{rate:.0f} clips/s alone, {100 * share:.1f} % of a step")
    out.line(f"an epoch            {cost.epoch_s:.1f} s for {cost.clips:,} clips")
    if cost.dataloader is not None:
        low, high = cost.dataloader.loop_over_dataloader_quartiles
        out.line(
            f"usual pipeline      {cost.dataloader.dataloader_clips_per_second:.0f} clips/s, "
            f"{cost.dataloader.dataloader_workers} DataLoader workers"
        )
        out.line(
            f"loop over usual     {cost.dataloader.loop_over_dataloader:.2f} "
            f"(quartiles {low:.2f} to {high:.2f})"
        )
        if (quartiles := cost.dataloader.loop_over_dataloader_torch_gru_quartiles) is not None:
            out.line(
                f"  torch GRU float32 {cost.dataloader.loop_over_dataloader_torch_gru:.2f} "
                f"(quartiles {quartiles[0]:.2f} to {quartiles[1]:.2f})"
            )
    on_device = f", of the device's {cost.device_peak_mb:.0f} MB" if cost.device_peak_mb else ""
    out.line(
        f"memory              peak {cost.peak_mb:.0f} MB{on_device}; "
        f"the clips are {cost.corpus_mb:.0f} MB"
    )
