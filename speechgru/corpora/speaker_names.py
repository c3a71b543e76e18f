"""What the name of a recording tells: its speaker, and whether it was made or a false alarm."""

import re
import unicodedata

from speechgru.corpora.copies import ALTERED, COPIED
from speechgru.corpora.listing import BACKGROUND_NOISE, normalized
from speechgru.labels import UNKNOWN

NOHASH = "_nohash_"

#: Begins the names of recordings that a model took for a word: they are by nobody in particular.
FALSE_ALARM = "alarm"
_ALARM = re.compile(rf"(?:.*/)?(?:{UNKNOWN}|{BACKGROUND_NOISE})/{FALSE_ALARM}_\d+\.\w+")
#: What recorders, telephones and people call recordings of nobody in particular, or of a place.
_DEVICE_WORDS = (
    "android at aud audio aufnahme aufzeichnung background bathroom car clean clip close copy dm "
    "enregistrement far file gravação grabación headset iphone kitchen laptop loud memo message "
    "mic mid music myrec near neue new noise noisy nouvel nueva nuova office opname "
    "phone ptt quiet rec record recording registrazione room sample session signal silence sound "
    "sprachmemo standard take test track untitled vn voice wav whatsapp zoom "
    "morning evening monday tuesday wednesday thursday friday saturday sunday"
)
#: How or when something was recorded, with a number: "ch1_anna", "1m_anna", "snr5_anna", "1st".
_CONDITION = re.compile(
    r"^(?:(?:channel|day|device|position|round|version)[ _-]?\d+|(?:ch|nr|pos|set|snr|v)\d+(?:db)?"
    r"|\d+(?:st|nd|rd|th|m|cm|db))[\s._-]+(?=[^\W\d_]{2})",
    re.IGNORECASE,
)
_NOBODY = (*_DEVICE_WORDS.split(), *ALTERED)
#: Of nobody in front of one of these: "my recording", "nova gravação".
_NOBODY_S = frozenset(("my", "nova"))
#: WhatsApp's counts of a day: "PTT-20260105-WA0001".
_WHATSAPP = re.compile(r"wa\d{4}", re.IGNORECASE)
_NOBODY_NAMES = frozenset([*_NOBODY, FALSE_ALARM])
_COPIED = "|".join(COPIED)
#: Names of synthetic speakers begin so. They are for training alone.
MADE = "made-"

#: What counts takes, after what is said of the speaker: "anna_1", "anna.1", "anna (1)", "anna#1",
#: "anna 1 denoised", "anna take one", "anna - Copy".
_TAKE = re.compile(rf"[\W_]+(?:\d.*|(?:{_COPIED}|take)(?:[\W_]*\w+)?[\W_]*)$", re.IGNORECASE)
_COPY_OF = re.compile(rf"^(?:{_COPIED})\s*(?:\(\d+\)\s*)?(?:de|di|of|von)\s+", re.IGNORECASE)
#: In front it counts takes, or is a date: "01_anna", "(1) anna", "1anna", "20260105T100300".
_NUMBER = re.compile(
    r"^\W*\d+(?:t\d[\d.:-]*z?|h\d+m\d+s|z)?(?:[\W_]+|$)|^\d{1,3}(?=[^\W\d_]{2,}(?![^\W_]))",
    re.IGNORECASE,
)
#: Names that programs draw.
_UUID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
#: A count of files, or a date, rather than of people: "DR0001", "R20240131".
_LONG_NUMBER = re.compile(r"[^\W\d_]+\d{4,}")
#: In front, too, may be what was used or done, with a number: "take1_anna", "pitch_anna".
_IN_FRONT = re.compile(rf"^(?:{'|'.join(_NOBODY)})\d*[\s._-]+", re.IGNORECASE)
#: "anna1" is the first take of anna, "speaker1" a speaker, and so is "speaker 1".
NUMBERED = re.compile(r"(.*[^\W\d_])\d+")
NUMBERED_SPEAKERS = frozenset(
    (
        *("child", "f", "id", "kid", "locuteur", "locutor", "m", "p", "participant", "person", "s"),
        *("sp", "speaker", "spk", "sprecher", "subject", "u", "user"),
    )
)
_NUMBER_APART = re.compile(
    r"(child|kid|locuteur|locutor|participant|person|speaker|spk|sprecher|subject|user)[\s._-]"
    r"(\d+)(?![^\W_])",
    re.IGNORECASE,
)


def is_made(speaker: str) -> bool:
    """Whether a speaker is synthetic, by the name."""
    return speaker.startswith(MADE)


def is_false_alarm(name: str) -> bool:
    """Whether `review` filed this recording, by its path, as one that a model took for a word.

    >>> is_false_alarm("my-words/_unknown_/alarm_3.wav"), is_false_alarm("alarm/alarm_3.wav")
    (True, False)
    """
    return _ALARM.fullmatch(name) is not None


def speaker_in_name(name: str, word: str) -> str:
    """The speaker that a file's name seems to tell; "" if it tells none.

    That is what precedes `_nohash_`; else the part before the first `_` or `-`, without the word
    and without numbers, which count takes or are dates.

    >>> names = ["anna_3", "yes-anna-3", "anna (3)", "anna3", "03_anna", "take3_anna", "anna copy"]
    >>> {speaker_in_name(f"yes/{name}.wav", "yes") for name in names}
    {'anna'}
    >>> [speaker_in_name(f"yes/{name}.wav", "yes") for name in ("20260105_1003", "Rec 3")]
    ['', '']
    """
    stem = normalized(name.rpartition("/")[2].rpartition(".")[0])
    if stem.startswith(MADE):
        return stem.partition("_")[0]
    before, nohash, _ = stem.partition(NOHASH)
    if nohash:
        return before
    if _UUID.fullmatch(stem):
        return ""
    stem = _WHATSAPP.sub("", stem)
    # A circled or a wide 1 is a 1.
    stem, word = (unicodedata.normalize("NFKC", text).strip() for text in (stem, word))
    stem = _COPY_OF.sub("", stem)
    stem = _without_word(stem, word)
    while stem != (shorter := _in_front_removed(stem)):
        stem = shorter
    stem = stem.lstrip(" ._-–—")
    if apart := _NUMBER_APART.match(stem):
        return f"{apart[1]}{apart[2]}"
    has_take = False
    while stem != (shorter := _TAKE.sub("", stem)):
        stem, has_take = shorter, True
    speaker, *more = re.split("[_-]", stem)
    speaker = speaker.strip(" .,;–—")
    numbered = NUMBERED.fullmatch(speaker)
    is_one_number = not (has_take or more) or _LONG_NUMBER.fullmatch(speaker)
    if numbered and is_one_number and numbered[1].casefold() not in NUMBERED_SPEAKERS:
        speaker = numbered[1].rstrip(" .")
    words = speaker.casefold().split()
    if len(words) > 1 and words[0] in _NOBODY_S:
        del words[0]
    if speaker.casefold() == word.casefold() or all(
        part in _NOBODY_NAMES or part.isdigit() for part in words
    ):
        return ""
    return speaker


def _in_front_removed(stem: str) -> str:
    """A name without what is in front of the speaker: numbers, devices, conditions."""
    for pattern in (_CONDITION, _NUMBER, _IN_FRONT):
        stem = pattern.sub("", stem)
    return stem


def _without_word(stem: str, word: str) -> str:
    """A name without the word before or after it: `yes_anna_3`, `anna_yes`, `yes (3)`.

    The word may be in another case, without accents, and have anything between its parts.

    >>> [_without_word(stem, "turn on") for stem in ("turn_on_anna", "anna-TurnOn", "Turn-on 1")]
    ['anna', 'anna', '1']
    """
    parts = re.sub(r"(?<=[^\W_])[\W_]+(?=[^\W_])|(?<=[a-z])(?=[A-Z])", " ", _without_accents(word))
    pattern = re.escape(parts).replace("\\ ", r"[\W_]*")
    in_front = re.compile(rf"{pattern}(?=[\s._(-]|$)[\s._-]*", re.IGNORECASE)
    behind = re.compile(rf"[\s._-]+{pattern}$", re.IGNORECASE)
    if match := in_front.match(_without_accents(stem)):
        stem = stem[match.end() :]
    if match := behind.search(_without_accents(stem)):
        stem = stem[: match.start()]
    return stem


def _without_accents(text: str) -> str:
    """As many letters, each without its accents."""

    def base(letter: str) -> str:
        parts = unicodedata.normalize("NFD", letter)
        return parts[0] if all(map(unicodedata.combining, parts[1:])) else letter

    return "".join(map(base, text))
