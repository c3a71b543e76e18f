"""Train a recipe once without each speaker, and report the word error rate of that speaker.

    python recipes/leave_one_out.py digits-ctc --data fsdd --out runs/digits-ctc

With `--also DIR` each training split also has the training split of DIR, for the same words, and
its noise. Recordings at a higher rate than the corpus are resampled to its rate; otherwise a
network could recognize words by frequencies that the left-out speaker's recordings lack. The folder
of --out gets a manifest, a run and its figures for each speaker. A tenth of the other speakers'
files is for validation. Finished runs are not repeated, and stopped ones are resumed.
"""

import argparse
import csv
import io
import json
import os
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile

from speechgru.audio.files import probe, read
from speechgru.backends.loader import open_backend
from speechgru.backends.torch_device import select_device
from speechgru.cli.inputs import with_data
from speechgru.cli.interrupts import stop_on_signals
from speechgru.cli.progress import progress_bar
from speechgru.cli.views.training import live_run
from speechgru.common.files import write_atomic
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.listing import BACKGROUND_NOISE
from speechgru.corpora.sequences import SequencePlan, Sequences
from speechgru.corpora.speakers import hash_split
from speechgru.corpora.split_audio import open_split_audio
from speechgru.decoding.factory import decoder_settings
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.evaluation.clips import evaluate_clips
from speechgru.evaluation.sequences import evaluate_sequences
from speechgru.recognition.recognizer import stream_settings
from speechgru.training.loop import train
from speechgru.training.recipe import Recipe, load_recipe
from speechgru.training.run_directory import RunDirectory


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--also", metavar="DIR", help="the same words by other people")
    parser.add_argument("--out", required=True, type=Path, metavar="RUNS")
    parser.add_argument("--speakers", metavar="A,B", help="leave out only these, in turn")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    try:
        corpus = open_corpus(options.data)
        known = sorted({clip.speaker for clip in corpus.clips} - {""})
        chosen = options.speakers.split(",") if options.speakers else known
        if unknown := [speaker for speaker in chosen if speaker not in known]:
            raise UsageError(f"--speakers {unknown[0]}: must be among {', '.join(known)}")
        recipe = load_recipe(options.recipe, options.set)
        also = open_corpus(options.also) if options.also else None
        if also is not None:
            also = matching_clips(corpus, also, options.out / "also")
        figures = {
            speaker: without(speaker, corpus, also, recipe, options.out, options.device)
            for speaker in chosen
        }
    except SpeechGRUError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print_table(figures)
    return 0


def matching_clips(corpus: Corpus, also: Corpus, folder: Path) -> Corpus:
    """The training clips of `also` with words of the corpus, at no higher rate than its first clip.

    Resampled recordings are written to `folder`, unless they are there already.
    """
    rate, words = probe(corpus.clips[0].path).rate, set(corpus.words)
    clips = [clip for clip in also.split("training") if clip.word in words]
    matching = []
    with progress_bar(f"recordings at {rate} Hz") as progress:
        for number, clip in enumerate(clips, 1):
            matching.append(at_most(rate, clip, folder))
            if progress is not None:
                progress(number, len(clips))
    return replace(also, clips=tuple(matching))


def at_most(rate: int, clip: Clip, folder: Path) -> Clip:
    """The clip, or if its rate is higher one with a resampled copy in `folder`."""
    if probe(clip.path).rate <= rate:
        return clip
    # Files of several folders may have the same name.
    name = f"{clip.path.stem}-{zlib.crc32(bytes(clip.path)):08x}.flac"
    path = folder / clip.word / name
    if not path.exists():
        file = io.BytesIO()
        soundfile.write(file, read(clip.path, rate), rate, "PCM_16", format="FLAC")
        write_atomic(path, file.getvalue())
    return replace(clip, path=path.absolute())


def without(
    speaker: str, corpus: Corpus, also: Corpus | None, recipe: Recipe, out: Path, device: str
) -> dict[str, Any]:
    """Train without a speaker, unless that is done, and evaluate on that speaker."""
    manifest, run = out / f"without-{speaker}.csv", out / f"without-{speaker}"
    write_atomic(manifest, manifest_without(speaker, corpus, also, manifest.parent))
    started = (run / "recipe.toml").exists()
    settings = RunDirectory(run).read_recipe() if started else with_data(recipe, str(manifest))
    print(f"without {speaker}", file=sys.stderr)
    with stop_on_signals() as stop, live_run() as (report, decoding):
        result = train(settings, run, select_device(device), started, report, stop, decoding)
    backend = open_backend(result.model, device)
    audio = open_split_audio(manifest, settings.data.protocol, "testing", backend.sample_rate)
    clips = evaluate_clips(backend, audio.task, "testing", audio.packed)
    _, policy = stream_settings(backend.metadata)
    sequences = Sequences(audio, SequencePlan())
    errors = evaluate_sequences(backend, sequences, decoder_settings(backend.info), policy)
    figures = {"clips": clips.as_dict(confusions=0), "sequences": errors.as_dict()}
    write_atomic(out / f"without-{speaker}.json", json.dumps(figures))
    return figures


def manifest_without(speaker: str, corpus: Corpus, also: Corpus | None, folder: Path) -> str:
    """The speaker is for testing, a tenth of the others' files for validation.

    All clips of `also` are for training; its speakers get names of their own.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("file", "word", "speaker", "split"))
    for clip in corpus.clips:
        is_tenth = hash_split(f"{clip.word}/{clip.path.name}") == "validation"
        split = "testing" if clip.speaker == speaker else "validation" if is_tenth else "training"
        lines.writerow((os.path.relpath(clip.path, folder), clip.word, clip.speaker, split))
    for clip in also.clips if also else ():
        path = os.path.relpath(clip.path, folder)
        lines.writerow((path, clip.word, f"also {clip.speaker}", "training"))
    for path in corpus.noises + (also.noises if also else ()):
        lines.writerow((os.path.relpath(path, folder), BACKGROUND_NOISE, "", "training"))
    return text.getvalue()


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """Print a table of the speakers, and the mean of their word error rates."""
    print("| left out | clips right | words | sub. | del. | ins. | word errors | 95 % interval |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for speaker, found in figures.items():
        errors, clips = found["sequences"], found["clips"]
        low, high = errors["ci95"]
        print(
            f"| {speaker} | {100 * clips['accuracy']:.1f} % | {errors['words']} | "
            f"{errors['substitutions']} | {errors['deletions']} | {errors['insertions']} | "
            f"{100 * errors['word_error_rate']:.1f} % | {100 * low:.1f} to {100 * high:.1f} |"
        )
    rates = [found["sequences"]["word_error_rate"] for found in figures.values()]
    print(f"\nmean of {len(rates)}: {100 * sum(rates) / len(rates):.2f} %")


if __name__ == "__main__":
    sys.exit(main())
