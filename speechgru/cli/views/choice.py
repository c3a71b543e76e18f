"""Which view `listen` shows."""

from typing import TYPE_CHECKING

from speechgru.cli.terminal import out
from speechgru.cli.views.events import JsonLineView, JsonView, LineView, View

if TYPE_CHECKING:
    from speechgru.recognition.recognizer import Recognizer
    from speechgru.recognition.session import Summary


def choose_view(recognizer: "Recognizer", summary: "Summary", jsonl: bool, json: bool) -> View:
    """JSON if asked for, the panel on a terminal, else lines."""
    if json:
        return JsonView()
    if jsonl:
        return JsonLineView()
    if out.is_terminal and not out.console.is_dumb_terminal:
        from speechgru.cli.views.panel import PanelView

        return PanelView(recognizer, summary)
    return LineView()
