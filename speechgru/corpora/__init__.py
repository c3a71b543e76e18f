"""Recordings with words, speakers and splits: directories, manifests, protocols, the cache."""

from speechgru.corpora.corpus import SPLIT_RULES, SPLITS, Clip, Corpus, Example, Task
from speechgru.corpora.fingerprint import corpus_fingerprint
from speechgru.corpora.layouts import open_corpus
from speechgru.corpora.packed import PackedAudio, pack
from speechgru.corpora.protocols import PROTOCOLS, make_task

__all__ = [
    "PROTOCOLS",
    "SPLITS",
    "SPLIT_RULES",
    "Clip",
    "Corpus",
    "Example",
    "PackedAudio",
    "Task",
    "corpus_fingerprint",
    "make_task",
    "open_corpus",
    "pack",
]
