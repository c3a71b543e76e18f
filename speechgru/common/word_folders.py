"""The folder that holds a word's recordings, when its name cannot be the word itself."""

import json
import re
from pathlib import Path

from speechgru.common.files import write_atomic

#: Holds the word of its folder, as {"word": ...}.
WORD_FILE = "word.json"

#: What some file system refuses in a name: characters, a dot or space at its end, whole names. A
#: dot or underscore at the start would hide the folder, or give it another meaning.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|[. ]$|^[._ ]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_BYTES = 200


def folder_name(word: str) -> str:
    """A name for a word's folder: the word itself wherever every file system allows it.

    >>> folder_name("turn on"), folder_name("größe"), folder_name("and/or"), folder_name("..")
    ('turn on', 'größe', 'and-or', '--')
    """
    word = word.encode(errors="replace")[:_LONGEST_BYTES].decode(errors="ignore")
    name = _UNSAFE.sub("-", word) or "-"
    return f"{name}-" if _RESERVED.fullmatch(name) else name


def folder_word(folder: Path) -> str:
    """The word of a folder: what its `word.json` says, otherwise its name."""
    try:
        content = json.loads((folder / WORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return folder.name
    word = content.get("word") if isinstance(content, dict) else None
    return word if isinstance(word, str) and word else folder.name


def make_word_folder(parent: Path, word: str) -> Path:
    """The folder of a word below `parent`, with a `word.json` where its name is not the word.

    Of two words with the same name for it, the second one's has a number. One that is there is
    returned as it is.

    Raises:
        SpeechGRUError: it cannot be written.
    """
    safe = folder_name(word)
    path, number = parent / safe, 1
    while path.exists() and folder_word(path) != word:
        number += 1
        path = parent / f"{safe} {number}"
    if path.name != word:
        write_atomic(path / WORD_FILE, json.dumps({"word": word}, ensure_ascii=False))
    return path
