"""Recordings with their words: directories, manifests, protocols, packed samples."""

from speechgru.corpora.corpus import SPLIT_RULES, SPLITS, Clip, Corpus, Example, Task
from speechgru.corpora.reading import open_corpus

__all__ = ["SPLITS", "SPLIT_RULES", "Clip", "Corpus", "Example", "Task", "open_corpus"]
