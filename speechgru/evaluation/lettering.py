"""Letters in pictures: matplotlib's own font has none of Chinese, Japanese or Korean."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

#: Fonts that have what the first one lacks, on Linux, macOS and Windows; those that are installed
#: are asked in this order.
_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR"),
    *("Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("IPAGothic", "TakaoGothic", "NanumGothic", "Unifont"),
    *("Arial Unicode MS", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "MS Gothic", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Georgian", "Noto Sans Ethiopic"),
)


@contextmanager
def lettering() -> Iterator[None]:
    """While entered, texts of new pictures are drawn with the fonts that are installed."""
    from matplotlib import rc_context

    with rc_context({"font.family": list(_fonts())}):
        yield


def drawable(text: str, instead: str = "") -> str:
    """A text that can be drawn: where letters lack, `instead` of it, else `?` for each of them."""
    letters = frozenset().union(*_fonts().values())
    if all(ord(letter) in letters or letter == "\n" for letter in text):
        return text
    return instead or "".join(letter if ord(letter) in letters else "?" for letter in text)


@cache
def _fonts() -> dict[str, frozenset[int]]:
    """The fonts that are installed, and the letters of each."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    files = {font.name: font.fname for font in reversed(fontManager.ttflist)}
    found = [name for name in _FAMILIES if name in files]
    return {name: frozenset(FT2Font(files[name]).get_charmap()) for name in found}
