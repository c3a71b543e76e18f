"""Copies of recordings, altered or not, by their names."""

import re
from collections.abc import Collection

#: What file managers call copies.
COPIED = ("copia", "copie", "copy", "kopie")
#: What programs call altered copies.
ALTERED = (
    *("aug", "augment", "augmented", "denoised", "echo", "gain", "original", "pitch", "reverb"),
    *("rir", "shift", "speed", "stretch", "tempo", "volume"),
)

#: What a copy's name has more than the original's: "aug_anna_1", "01_gain", "01 - Copy (2)".
_IN_FRONT = rf"(?<![^/])(?:{'|'.join(ALTERED)})[\d.]*[\s._-]+(?=[^/]*$)"
_BEHIND = rf"[\s._(-]+(?:{'|'.join((*ALTERED, *COPIED))})(?![^\W\d_])[^/]*$"
_COPY_OF = rf"(?<![^/])(?:{'|'.join(COPIED)})\s*(?:\(\d+\)\s*)?(?:de|di|of|von)\s+(?=[^/]*$)"
_MARK = re.compile(f"{_COPY_OF}|{_IN_FRONT}|{_BEHIND}", re.IGNORECASE)


def originals(stems: Collection[str]) -> dict[str, str]:
    """For each path without suffix the one that it is a copy of, if that is there, or itself.

    >>> list(originals(["yes/1", "yes/1_gain", "yes/pitch_1", "yes/Copy of 1"]).values())
    ['yes/1', 'yes/1', 'yes/1', 'yes/1']
    >>> list(originals(["yes/2 - Copy"]).values())  # the original is elsewhere
    ['yes/2 - Copy']
    """
    unmarked = {stem: _MARK.sub("", stem) for stem in stems}
    return {stem: name if name in unmarked else stem for stem, name in unmarked.items()}
