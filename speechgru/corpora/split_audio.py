"""One split of a corpus under a protocol, its recordings decoded."""

from dataclasses import dataclass, replace
from pathlib import Path

from speechgru.common.progress import Progress
from speechgru.corpora.corpus import Corpus, Task
from speechgru.corpora.layouts import open_corpus
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.protocols import make_task
from speechgru.labels import COMMANDS


@dataclass(frozen=True)
class SplitAudio:
    """A task, one of its splits, and the samples of that split and of all background noise."""

    corpus: Corpus
    task: Task
    split: str
    packed: PackedAudio


def open_split_audio(
    data: str | Path,
    protocol: str,
    split: str,
    rate: int,
    progress: Progress | None = None,
    channel: int | None = None,
) -> SplitAudio:
    """Open a directory, a CSV manifest or the embedded corpus, and decode one split of it.

    Without a protocol it is `commands-12` for a corpus with all of its commands, else `folder`.
    All channels are averaged, unless one is chosen, from 1.

    Raises:
        UsageError: there is no such protocol.
        DataError: the corpus cannot be read, or the split has no clips.
    """
    corpus = open_corpus(data)
    task = make_task(protocol or _default_protocol(corpus), corpus)
    # Raises for an empty split before anything is decoded.
    used = {example.path for example in task.split(split)}
    clips = tuple(c for c in corpus.clips if c.split == split or c.path in used)
    only = replace(corpus, clips=clips)
    return SplitAudio(corpus, task, split, pack(only, rate, progress=progress, channel=channel))


def _default_protocol(corpus: Corpus) -> str:
    return "commands-12" if {clip.word for clip in corpus.clips}.issuperset(COMMANDS) else "folder"
