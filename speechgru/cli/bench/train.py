"""`speechgru bench train`: what the training loop costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.bench.load import note_load
from speechgru.cli.completion import complete_recipe
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json

if TYPE_CHECKING:
    from speechgru.analysis.training_cost import TrainingCost


@examples(
    "speechgru bench train",
    "speechgru bench train --recipe my-words --device cuda --compare-dataloader",
)
def bench_train(
    recipe: Annotated[
        str,
        typer.Option(
            metavar="RECIPE",
            help="Name of a recipe or a TOML file.",
            autocompletion=complete_recipe,
        ),
    ] = "gsc-open-12",
    overrides: options.Overrides = None,
    clips: Annotated[
        int, typer.Option(min=35, metavar="N", help="Synthetic clips to draw from, of 35 words.")
    ] = 4096,
    batches: Annotated[int, typer.Option(min=1, metavar="N", help="Batches to measure.")] = 20,
    device: options.Device = "auto",
    compare_dataloader: Annotated[
        bool,
        typer.Option(
            "--compare-dataloader",
            help="Also measure a DataLoader whose workers read one file at a time.",
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=256, metavar="N", help="Workers of the DataLoader; 0 is one per core."
        ),
    ] = 0,
    json: options.Json = False,
) -> None:
    """Clips per second of the training loop and of the network alone."""
    from speechgru.analysis.training_cost import measure_training
    from speechgru.backends.torch_device import select_device, usable_cores
    from speechgru.training.recipe import load_recipe

    chosen = select_device(device)
    settings = load_recipe(recipe, overrides or [])
    cores = usable_cores()
    load = note_load(cores)
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
    out.line(f"network alone       {cost.bare_clips_per_second:.0f} clips/s, features given")
    out.line(f"loop over network   {cost.loop_over_bare:.3f} (quartiles {low:.3f} to {high:.3f})")
    for stage, share in cost.stages.items():
        rate = cost.stages_clips_per_second[stage]
        out.line(f"  {stage:<18}{rate:.0f} clips/s alone, {100 * share:.1f} % of a step")
    out.line(f"an epoch            {cost.epoch_s:.1f} s for {cost.clips:,} clips")
    if cost.dataloader is not None:
        low, high = cost.dataloader.loop_over_dataloader_quartiles
        out.line(
            f"DataLoader          {cost.dataloader.dataloader_clips_per_second:.0f} clips/s, "
            f"{cost.dataloader.dataloader_workers} workers"
        )
        out.line(
            f"loop over it        {cost.dataloader.loop_over_dataloader:.2f} "
            f"(quartiles {low:.2f} to {high:.2f})"
        )
        if (quartiles := cost.dataloader.loop_over_dataloader_torch_gru_quartiles) is not None:
            out.line(
                f"  torch GRU float32 {cost.dataloader.loop_over_dataloader_torch_gru:.2f} "
                f"(quartiles {quartiles[0]:.2f} to {quartiles[1]:.2f})"
            )
    on_device = f", {cost.device_peak_mb:.0f} MB on the device" if cost.device_peak_mb else ""
    out.line(
        f"memory              peak {cost.peak_mb:.0f} MB{on_device}; "
        f"the clips are {cost.corpus_mb:.0f} MB"
    )
