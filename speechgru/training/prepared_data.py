"""What a recipe trains on, opened and decoded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from speechgru.common.progress import Progress
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Corpus, Task
from speechgru.corpora.fingerprint import corpus_fingerprint
from speechgru.corpora.other_sounds import OtherSounds, other_sounds
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.protocols import make_task
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import UsageError
from speechgru.labels import NOT_WORDS
from speechgru.training.recipe import Recipe

#: Speech that is longer than a clip by no more than this loses nothing that matters.
_HARDLY_S = 0.1


@dataclass(frozen=True)
class PreparedData:
    """A recipe's corpus, its task, and its samples; the fingerprint tells it from any other."""

    corpus: Corpus
    task: Task
    packed: PackedAudio
    fingerprint: str
    #: The other speech and noise that ship, if the recipe takes them.
    other: OtherSounds | None = None
    #: What the user should know of the recordings before hours of training, in a line each.
    notes: tuple[str, ...] = ()


def prepare(recipe: Recipe, progress: Progress | None = None) -> PreparedData:
    """Open and decode what a recipe trains on; `progress` hears of the decoding.

    Raises:
        UsageError: the recipe names no data.
        DataError: the data is not there, damaged, or lacks what the protocol needs.
    """
    name = recipe.data.directory
    if not name:
        raise UsageError("no data: --data DIR (or data.directory in the recipe) is needed")
    corpus = open_corpus(name)
    task = make_task(recipe.data.protocol, corpus)
    if recipe.data.clip_s:
        task = replace(task, clip_s=recipe.data.clip_s)
    # A split without clips must be told before minutes of decoding.
    task.split("training"), task.split("validation")
    packed = pack(corpus, recipe.features.sample_rate, progress=progress)
    other = other_sounds() if recipe.data.other_sounds else None
    notes = tuple(_cut_phrases(task, packed))
    return PreparedData(corpus, task, packed, corpus_fingerprint(corpus), other, notes)


def _cut_phrases(task: Task, packed: PackedAudio) -> Iterator[str]:
    """A line if recordings hold more speech than a clip does."""
    if task.protocol != "folder":
        return
    longest = round((task.clip_s + _HARDLY_S) * packed.rate)
    paths = {e.path for e in task.split("training") if e.path and e.label not in NOT_WORDS}
    spans_s = []
    for path in paths:
        samples = packed.samples(path)
        if len(samples) > longest:
            start_s, end_s = word_bounds_s(samples, packed.rate)
            spans_s.append(end_s - start_s)
    cut = [span_s for span_s in spans_s if span_s > task.clip_s + _HARDLY_S]
    if cut:
        yield (
            f"{len(cut)} of {len(paths)} recordings are longer than a clip: they hold up to "
            f"{max(cut):.1f} s of speech, and are cut to {task.clip_s:g} s; "
            f"--set data.clip_s={min(10.0, max(cut) + 0.5):.1f} takes it all"
        )
