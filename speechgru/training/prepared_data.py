"""What a recipe trains on, opened and decoded."""

from dataclasses import dataclass, replace

from speechgru.common.progress import Progress
from speechgru.corpora import open_corpus
from speechgru.corpora.corpus import Corpus, Task
from speechgru.corpora.fingerprint import corpus_fingerprint
from speechgru.corpora.other_sounds import OtherSounds, other_sounds
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.protocols import make_task
from speechgru.errors import UsageError
from speechgru.training.recipe import Recipe


@dataclass(frozen=True)
class PreparedData:
    """A recipe's corpus, its task, and its samples; the fingerprint tells it from any other."""

    corpus: Corpus
    task: Task
    packed: PackedAudio
    fingerprint: str
    #: The other speech and noise that ship, if the recipe takes them.
    other: OtherSounds | None = None


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
    return PreparedData(corpus, task, packed, corpus_fingerprint(corpus), other)
