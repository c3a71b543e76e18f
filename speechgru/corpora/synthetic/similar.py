"""Words that sound similar to a word: what a recognizer should not take for it.

They are made up by changing, dropping or adding letters, so that they exist for every word and
language; the engine's own pronunciation tells which of them sound nearly, but not quite, alike.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence

from speechgru.errors import DataError

_VOWEL_LETTERS = "aeiou"
_CONSONANT_LETTERS = "bdfgklmnprstvwz"
_VOWELS = frozenset("aeiouyæœøɐɑɒɔəɚɛɜɝɪɨɯɤɵʉʊʌʏᵻ")
#: Stress, length, ties and spaces, which do not tell words apart.
_MARKS = frozenset("ˈˌːˑ.‿͜͡ ‖|-_\u0303\u0329\u032f")
#: Sounds that accents and espeak-ng's voices exchange.
_NEARLY_SAME = [set(pair) for pair in ("pb", "td", "kɡ", "kg", "fv", "sz", "ʃʒ", "θð", "ɹr", "ɾt")]
_NEAR_COST = 0.5
#: Two of them are less than a phoneme: voices and accents differ most in vowels.
_VOWEL_COST = 0.4
#: Phonemes that a similar word differs in: from one, up to this share of the word's.
_LEAST, _MOST_SHARE = 1.0, 0.5
#: Candidates that are pronounced, for each one that is wanted.
_TRIED = 12


def similar_words(
    word: str,
    count: int,
    pronounce: Callable[[Sequence[str]], list[str]],
    others: Collection[str] = (),
    seed: int = 0,
) -> list[str]:
    """Up to `count` made-up words that sound similar to a word or phrase, the nearest first.

    Parts of a phrase come first: "hey lumos" gives "hey" and "lumos".

    Args:
        pronounce: gives the IPA of texts.
        others: words that must be recognized as well; what sounds like them is left out.

    Raises:
        DataError: the word has no pronunciation.
    """
    rng = random.Random(f"{seed}/{word}")
    wanted = [text.lower() for text in (word, *others)]
    parts = [part for part in _parts(word.lower()) if part not in wanted]
    candidates = sorted(set(_changed(word.lower())) - set(wanted) - set(parts))
    candidates = rng.sample(candidates, min(len(candidates), _TRIED * count))
    spoken = [phones(ipa) for ipa in pronounce([*wanted, *parts, *candidates])]
    if not spoken[0]:
        raise DataError(f"{word!r:.60}: the speech engine does not pronounce it")
    # A word that sounds like another wanted one is no part either ("hey you", "hey" and "you").
    sounds = dict(zip([*parts, *candidates], spoken[len(wanted) :], strict=True))

    def distinct(text: str) -> bool:
        return bool(sounds[text]) and all(
            distance(sounds[text], sound) >= _LEAST for sound in spoken[: len(wanted)]
        )

    kept = [part for part in parts if distinct(part)]
    heard = {sounds[part] for part in kept}
    # Of those as near, changed letters are likelier words than added ones.
    for text in sorted(candidates, key=lambda t: (distance(sounds[t], spoken[0]), len(t))):
        near = distance(sounds[text], spoken[0]) <= max(_LEAST, _MOST_SHARE * len(spoken[0]))
        if near and distinct(text) and sounds[text] not in heard:
            kept.append(text)
            heard.add(sounds[text])
    return kept[:count]


def phones(ipa: str) -> str:
    """The sounds of a pronunciation, without stress and length; of a diphthong its first vowel.

    >>> phones("mˈɑːɹvɪn"), phones("zˈiəɹoʊ")
    ('mɑɹvɪn', 'ziɹo')
    """
    sounds = ""
    for sound in ipa:
        is_glide = sounds[-1:] in _VOWELS and sound in _VOWELS
        if sound not in _MARKS and not is_glide:
            sounds += sound
    return sounds


def distance(one: str, other: str) -> float:
    """Edit distance of sounds; two vowels, or two nearly the same sounds, differ by less than one.

    >>> distance("mɑɹvɪn", "mɑɹvən"), distance("mɑɹvɪn", "bɑɹvɪn"), distance("ziɹo", "hiɹos")
    (0.4, 1.0, 2.0)
    """
    row = [float(place) for place in range(len(other) + 1)]
    for above, sound in enumerate(one, 1):
        corner, row[0] = row[0], float(above)
        for place, heard in enumerate(other, 1):
            changed = corner + _cost(sound, heard)
            corner = row[place]
            row[place] = min(changed, row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _cost(one: str, other: str) -> float:
    if one == other:
        return 0.0
    if one in _VOWELS and other in _VOWELS:
        return _VOWEL_COST
    return _NEAR_COST if {one, other} in _NEARLY_SAME else 1.0


def _parts(phrase: str) -> Iterator[str]:
    """The beginnings and ends of a phrase, without the whole: "a b c" gives a, b c, a b, c."""
    words = phrase.split()
    for end in range(1, len(words)):
        yield " ".join(words[:end])
        yield " ".join(words[end:])


def _changed(word: str) -> Iterator[str]:
    """A word with one letter changed, left out or added, and its halves; in a phrase, too."""
    for place, letter in enumerate(word):
        if not letter.isalpha():
            continue
        before, after = word[:place], word[place + 1 :]
        letters = _VOWEL_LETTERS if letter in _VOWEL_LETTERS else _CONSONANT_LETTERS
        yield from (before + other + after for other in letters if other != letter)
        yield before + after
        yield from (before + other + letter + after for other in _CONSONANT_LETTERS)
    if len(word) >= 4 and " " not in word:
        middle = len(word) // 2
        yield from (word[:middle], word[: middle + 1], word[middle - 1 :], word[middle:])
