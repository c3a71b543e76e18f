"""Opens what several verbs need: a recipe with its data, a split of recordings."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import err
from speechgru.common.wording import first_of
from speechgru.errors import DataError, UsageError

if TYPE_CHECKING:
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.evaluation.ambient import AmbientSound
    from speechgru.recognition.backend import Backend
    from speechgru.training.recipe import Recipe


def open_recipe(name: str, overrides: Sequence[str], data: str | None) -> "Recipe":
    """Open a recipe by name or file, with the settings and data of the command line.

    Raises:
        UsageError: there is no such recipe, or a setting does not exist or is out of range.
    """
    from speechgru.training.recipe import load_recipe

    return with_data(load_recipe(name, overrides), data)


def with_data(recipe: "Recipe", data: str | None) -> "Recipe":
    """The recipe with another data directory, if one is given.

    Its paths, and those of models that it begins with or learns from, become absolute, so that the
    run may be resumed from anywhere.
    """
    from speechgru.modelfile.bundled import is_bundled_name
    from speechgru.training.recipe import parse_recipe

    def absolute(model: str) -> str:
        is_path = bool(model) and not is_bundled_name(model) and Path(model).exists()
        return str(Path(model).absolute()) if is_path else model

    directory = data or recipe.data.directory
    if directory and directory != "embedded":
        directory = str(Path(directory).expanduser().absolute())
    table = recipe.model_dump(mode="json")
    table["data"]["directory"] = directory
    training = table["training"]
    training["begin_with"] = absolute(training["begin_with"])
    training["teachers"] = [absolute(teacher) for teacher in training["teachers"]]
    return parse_recipe(table, "recipe")


def start_from(model: str | None) -> list[str]:
    """The override that starts a run from a model's weights; none if no model is given.

    Raises:
        UsageError: there is no such file, and no bundled model of this name.
    """
    from speechgru.modelfile.bundled import is_bundled_name, trained_model

    if model is None:
        return []
    name = model if is_bundled_name(model) else str(trained_model(model).absolute())
    # A literal string in TOML, in which backslashes have no meaning; or one as in JSON.
    quoted = json.dumps(name, ensure_ascii=False) if "'" in name else f"'{name}'"
    return [f"training.begin_with={quoted}"]


def report_unheard(path: Path, channel: int | None) -> None:
    """Say what of a recording is not heard: as it is not whole, or its channels cancel."""
    from speechgru.audio.containers import incomplete_ogg
    from speechgru.audio.files import CANCELLED_DB, lost_in_average

    if path.is_file() and (problem := incomplete_ogg(path)):
        err.line(f"{path}: {problem}")
    if channel is not None:
        return
    try:
        loss_db, loudest = lost_in_average(path)
    except DataError:  # whoever reads the recording reports it, after what comes before
        return
    if loss_db >= CANCELLED_DB:
        err.line(
            f"{path}: the average of its channels is {loss_db:.0f} dB quieter than channel "
            f"{loudest} alone; --channel {loudest} uses that one"
        )


def report_channel(backend: "Backend", channel: int | None, path: Path) -> None:
    """Say which channel the model was trained on, if all those of a recording are averaged."""
    from speechgru.audio.files import probe

    table: Any = backend.metadata
    for key in ("provenance", "recipe", "data"):
        table = table.get(key) if isinstance(table, Mapping) else None
    trained = table.get("channel") if isinstance(table, Mapping) else None
    if channel is not None or not isinstance(trained, int) or trained < 1:
        return
    with suppress(DataError):
        if probe(path).channels < 2:
            return
        err.line(
            f"the model was trained on channel {trained} of its recordings, and here all channels "
            f"are averaged; --channel {trained} takes the same one"
        )


def report_words_in(ambient: Path, backend: "Backend") -> None:
    """Say that ambient recordings lie in folders named like the model's words."""
    names = {path.name for path in ambient.iterdir()} if ambient.is_dir() else set()
    if words := [word for word in backend.info.words if word in names]:
        err.line(
            f"{ambient}: has folders named like the model's words ({', '.join(words)}); every "
            "event in them counts as a false alarm"
        )


def open_split(
    backend: "Backend", data: str, protocol: str | None, split: str, channel: int | None = None
) -> "SplitAudio":
    """Open a split under the model's own protocol, unless another is given.

    Says which words have no clip in it, as no figure counts them.

    Raises:
        UsageError: neither the caller nor the model names a protocol, or it does not exist.
        DataError: the corpus cannot be read, the split has no clips, or the model lacks a label.
    """
    from speechgru.corpora.split_audio import open_split_audio
    from speechgru.evaluation.clips import check_labels
    from speechgru.labels import NOT_WORDS

    protocol = protocol or str(backend.metadata.get("protocol") or "")
    if not protocol:
        raise UsageError("--protocol is needed: the model does not say which one it was trained on")
    with progress_bar("decoding") as progress:
        rate = backend.sample_rate
        opened = open_split_audio(data, protocol, split, rate, progress, channel)
    examples = opened.task.split(split)
    check_labels(backend, opened.task, examples)
    missing = sorted({*opened.task.labels} - {*NOT_WORDS} - {e.label for e in examples})
    if missing:
        have, are = ("has", "is") if len(missing) == 1 else ("have", "are")
        err.line(f"{first_of(missing)} {have} no clip in the {split} split and {are} not scored")
    return opened


def report_silent(sound: "AmbientSound") -> None:
    """Say which of the ambient recordings are silent, now that they have been read."""
    if sound.silent:
        are = "is" if len(sound.silent) == 1 else "are"
        names = first_of([path.name for path in sound.silent], most=3)
        err.line(
            f"{len(sound.silent)} of {len(sound.paths)} ambient recordings {are} silent and "
            f"should be left out, as nothing could be a false alarm there: {names}"
        )
