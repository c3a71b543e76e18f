"""What every state of the page must be, and pictures of it."""

import base64
import os
from pathlib import Path

#: The page has its models.
READY = "document.getElementById('main')?.hidden === false"
_CONTROLS = "[...document.querySelectorAll('button, input, select, audio, progress, [role=meter]')]"
#: Of every visible text with its background.
_CONTRAST = """(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(Number)
      .map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const back = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return colour === 'rgba(0, 0, 0, 0)' && e.parentElement ? back(e.parentElement) : colour;
  };
  return [...document.querySelectorAll('body *')]
    .filter((e) => e.offsetParent && !e.disabled && [...e.childNodes].some((n) => n.data?.trim()))
    .map((e) => [light(getComputedStyle(e).color), light(back(e))])
    .map(([a, b]) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
})()"""


def save(page, name):
    """Where PICTURES names a folder, what the page looks like."""
    if folder := os.environ.get("PICTURES"):
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(page.picture()))


def check_and_save(page, width, name):
    """Nothing is wider than the page, every control has a name, and every text has contrast."""
    save(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        f"{_CONTROLS}.filter((e) => e.offsetParent"
        " && !(e.textContent.trim() || e.labels?.length || e.ariaLabel)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    contrast = page.evaluate(_CONTRAST)
    assert min(contrast) >= 4.5, contrast
