"""How a directory was read, where it could have been meant in another way."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath

from speechgru.common.wording import counted, shown
from speechgru.corpora.corpus import Corpus
from speechgru.corpora.fingerprint import name_in
from speechgru.corpora.folders import SPLIT_FOLDERS
from speechgru.corpora.speaker_names import is_false_alarm

_EXAMPLES = 3
#: Speakers that are all named.
_SPEAKERS = 12
#: Folders that hold recordings rather than those of a word.
_HOLDERS = frozenset(
    (
        *("audio", "audios", "clips", "data", "files", "recordings", "samples", "sounds"),
        *("utterances", "wav", "wavs"),
    )
)
#: Words that are probably not meant as words, as `_plain` writes them.
_NOT_MEANT_AS_WORDS = {
    **dict.fromkeys(("backgroundnoise", "background", "noise"), "_background_noise_"),
    "silence": "_silence_",
    **dict.fromkeys(("unknown", "unknownwords", "other", "otherwords"), "_unknown_"),
    **dict.fromkeys(("negative", "negatives", "notwakeword", "nonwakeword"), "_unknown_"),
}
#: What a file manager adds to the name of a folder that is there already.
_COPY = re.compile(r"(?:\(\d+\)|copy)$")


def layout_guesses(corpus: Corpus) -> tuple[str, ...]:
    """A sentence for each choice between two readings of a corpus, and how to say the other."""
    if corpus.layout == "manifest":
        return (*corpus.notes, *_misnamed_words(corpus))
    if corpus.layout == "speech-commands":
        return (*corpus.notes, *_nested_folders(corpus), *_misnamed_words(corpus))
    return (*_nested_folders(corpus), *_misnamed_words(corpus), *_without_speaker(corpus))


def speaker_guess(speakers: Collection[str]) -> str:
    """That speakers were read off file names, and which."""
    return (
        f"{len(speakers):,} speakers, by the file names: {_some(speakers, _SPEAKERS)} (if that is "
        "wrong, use folders word/speaker/ or a manifest)"
    )


def _nested_folders(corpus: Corpus) -> Iterator[str]:
    """Folders in folders: word/speaker, if they are not speaker/word or split/word."""
    if corpus.split_by == "folders":
        yield from _only_split(corpus)
        return
    inner: dict[str, set[str]] = defaultdict(set)
    for clip in corpus.clips:
        parts = PurePath(name_in(corpus.root, clip.path)).parts
        if len(parts) > 2:
            inner[parts[0]].add(parts[1])
    speakers = set().union(*inner.values())
    splits = [name for name in inner if name.lower() in SPLIT_FOLDERS]
    if not inner:
        yield from _only_holder(corpus)
        return
    if corpus.layout == "speech-commands":
        yield from _below_lists(corpus, inner)
        return
    others = [word for word in corpus.words if word not in splits]
    if splits and others:
        yield (
            f"the folders {_some(splits)} are read as words, not as splits, because of "
            f"{_some(others)} beside them; the folders in them ({_some(speakers)}) are read as "
            "speakers; if they are splits, no other folders may lie beside them"
        )
    elif len(corpus.words) == 1:
        (word,) = corpus.words
        yield (
            f"{word} is read as the only word, and the folders in it ({_some(speakers)}) as "
            f"speakers; if they are words, name {corpus.root / next(iter(inner))} instead"
        )
    else:
        yield (
            f"folders in the words' folders are read as speakers: {_some(speakers)}; if they are "
            "the words, use folders word/speaker/ or a manifest"
        )


def _only_holder(corpus: Corpus) -> Iterator[str]:
    """A single folder whose name says that it holds recordings, of which words nobody knows."""
    if len(corpus.words) == 1 and corpus.words[0].casefold() in _HOLDERS:
        yield (
            f"{corpus.words[0]} is read as the only word; if the file names hold the words, use a "
            "folder for each word, or a manifest"
        )


def _below_lists(corpus: Corpus, inner: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Folders in the folders of a directory that has lists."""
    folders = _some(set().union(*inner.values()))
    if len(corpus.words) == 1:
        folder = next(iter(inner))
        yield (
            f"{folder} is read as the only word; if the folders in it ({folders}) are words, move "
            f"the lists into {corpus.root / folder} and name that instead"
        )
    else:
        yield (
            f"folders in the words' folders are read neither as words nor as speakers: {folders}; "
            "if they are either, use a manifest"
        )


def _only_split(corpus: Corpus) -> Iterator[str]:
    """A single folder that is called like a split, as a word may be."""
    folders = {PurePath(name_in(corpus.root, clip.path)).parts[0] for clip in corpus.clips}
    if len(folders) == 1:
        (folder,) = folders
        yield (
            f"{folder} is read as the only split, and the folders in it ({_some(corpus.words)}) as "
            f"words; if they are speakers of the word {folder}, use a manifest"
        )


def _misnamed_words(corpus: Corpus) -> Iterator[str]:
    """Words that are spelled nearly alike, and names that are nearly those of noise and silence."""
    spellings: dict[str, list[str]] = defaultdict(list)
    where = "it" if corpus.layout == "manifest" else "its folder"
    for word in corpus.words:
        spellings[_plain(_COPY.sub("", word.casefold()))].append(word)
        if meant := _NOT_MEANT_AS_WORDS.get(_plain(word)):
            yield f"{word} is read as a word; if it is not one, call {where} {meant}"
    for same in spellings.values():
        if len(same) > 1:
            # An invisible character is written as \u200b is.
            names = [word if word.isprintable() else shown(word) for word in same]
            yield f"{' and '.join(names)} are read as different words"


def _plain(word: str) -> str:
    """A word without case, spaces, punctuation and what is invisible.

    >>> _plain("Turn_on") == _plain("turn\xa0on") == _plain("turn on\u200b") == "turnon"
    True
    """
    folded = unicodedata.normalize("NFKC", word).casefold()
    kept = (letter for letter in folded if unicodedata.category(letter)[0] not in "CPZ")
    return "".join(kept) or word


def _without_speaker(corpus: Corpus) -> Iterator[str]:
    """Recordings of nobody in particular among those of speakers."""
    names = [name_in(corpus.root, clip.path) for clip in corpus.clips if not clip.speaker]
    names = [name for name in names if not is_false_alarm(name)]
    if corpus.split_by == "speaker" and names:
        yield (
            f"no speaker in the names of {counted(len(names), 'recording')} ({names[0]}), which "
            "are split one by one; if a known speaker's are among them, begin their names with it"
        )


def _some(names: Collection[str], most: int = _EXAMPLES) -> str:
    shown = sorted(names)[:most]
    return ", ".join(shown) + (", ..." if len(names) > most else "")
