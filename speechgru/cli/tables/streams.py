"""What `evaluate --streaming` found, as tables that fit 80 columns."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import out, plain

if TYPE_CHECKING:
    from rich.table import Table

    from speechgru.decoding.factory import DecoderConfig
    from speechgru.evaluation.ambient import AmbientReport
    from speechgru.evaluation.conversations import ConversationReport, Recall
    from speechgru.evaluation.streams import StreamReport
    from speechgru.evaluation.tuning import Trial

TRIALS = 8
#: Headings of the settings that differ between the decoders tried.
HEADINGS = {
    "smoothing_s": "smooth\ns",
    "threshold": "thres-\nhold",
    "min_duration_s": "least\ns",
    "most_unknown": "un-\nknown",
    "most_silence": "si-\nlence",
    "beam": "beam",
}


def print_stream(report: "StreamReport") -> None:
    """Print recall over time, and last the figures."""
    events = report.events
    out.line()
    _print_recall(report)
    config, policy = report.config, report.policy
    out.line(f"stream         {report.case.title}")
    out.line(f"decoder        {decoder_settings(config)}")
    out.line(f"state          {policy}")
    out.line(
        f"words          {events.n:,}: matched {len(events.matched):,}, "
        f"wrong {len(events.wrong):,}, missed {events.missed:,}; "
        f"false alarms {len(events.false_alarms):,}"
    )
    low, high = events.false_reject_ci95
    out.styled(
        f"false rejects  [bold]{100 * events.false_reject_rate:.2f} %[/] "
        f"(95 % interval {100 * low:.2f} to {100 * high:.2f})"
    )
    if events.recordings and events.recordings < events.n:
        times = events.n / events.recordings
        out.line(
            f"               {events.recordings:,} recordings, {times:.1f} times each: "
            "the interval is too narrow"
        )
    if events.ends_of_recall is not None:
        first, last = events.ends_of_recall
        out.line(
            f"over time      first {100 * first['recall']:.2f} % ({100 * first['low']:.2f} to "
            f"{100 * first['high']:.2f}), last {100 * last['recall']:.2f} %: "
            f"{'no loss' if events.recall_lasts else 'a loss'}"
        )
    low, high = events.false_alarms_ci95
    out.styled(
        f"false alarms   [bold]{events.false_alarms_per_hour:.2f} per hour[/] "
        f"(95 % interval {low:.2f} to {high:.2f}; {events.hours:.2f} h)"
    )
    if events.unknown:
        low, high = events.unknown_fire_ci95
        out.line(
            f"other words    {len(events.unknown):,}: {len(events.fired):,} taken for one, "
            f"{100 * events.unknown_fire_rate:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
        )
    latency = events.latency_ms
    if events.matched:
        out.styled(
            f"latency        p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms "
            "from the word's end"
        )


def print_conversation(report: "ConversationReport") -> None:
    """Recall by what precedes a command, and the events in talk last."""
    from speechgru.evaluation.conversations import LEAST_PAUSE_S

    out.line()
    table = bare_table("commands", "n", "recognized %", "95 % interval", gap=2)
    for low, high, recall in report.by_pause:
        _add_recall(table, f"first, {_seconds(low, high)} after talk", recall)
    for place, recall in report.by_place:
        name = f"number {place} after talk, pause of {LEAST_PAUSE_S:g} s or more"
        _add_recall(table, name, recall)
    for low, high, recall in report.by_talk:
        _add_recall(table, f"after {_seconds(low, high)} of talk and such a pause", recall)
    _add_recall(table, "after talk and such a pause", report.after_talk)
    _add_recall(table, "after quiet", report.after_quiet)
    _add_recall(table, "all", report.recall)
    out.show(table)
    out.line()
    events, source = report.events, report.stream.case.source
    out.line(f"conversation   {report.stream.case.title}")
    out.line(f"talk           {source['talk']['name']}, {report.talk_hours:.2f} h")
    speech_h = source["talk_speech_s"] / 3600
    if speech_h < report.talk_hours:
        times = report.talk_hours / speech_h
        out.line(f"               {60 * speech_h:.1f} minutes of speech, {times:.1f} times each")
    out.line(
        f"commands       {events.n:,}: matched {len(events.matched):,}, "
        f"wrong {len(events.wrong):,}, missed {events.missed:,}; "
        f"false alarms {len(events.false_alarms):,}"
    )
    low, high = report.talk_events_ci95
    out.styled(
        f"events in talk [bold]{report.talk_events_per_hour:.2f} per hour of talk[/] "
        f"(95 % interval {low:.2f} to {high:.2f})"
    )


def _add_recall(table: "Table", name: str, recall: "Recall") -> None:
    low, high = recall.ci95
    share = "-" if recall.share is None else f"{100 * recall.share:.1f}"
    table.add_row(name, f"{recall.n:,}", share, f"{100 * low:.1f} to {100 * high:.1f}")


def _seconds(low: float, high: float) -> str:
    return f"{low:g} to {high:g} s" if math.isfinite(high) else f"{low:g} s or more"


def print_ambient(report: "AmbientReport") -> None:
    """Print events by word in recordings without words, and last all together."""
    out.line()
    table = bare_table("word", "events", "per hour", "95 % interval", gap=2)
    for word, found in report.by_word.items():
        low, high = found["ci95"]
        cells = f"{found['events']:,}", f"{found['per_hour']:.2f}", f"{low:.2f} to {high:.2f}"
        table.add_row(plain(word), *cells)
    out.show(table)
    out.line()
    print_rate(report, "ambient events")


def print_rate(report: "AmbientReport", name: str = "false alarms") -> None:
    """Print events per hour of ambient audio, all words together."""
    low, high = report.ci95
    out.styled(
        f"{name:14} [bold]{report.per_hour:.2f} per hour[/] "
        f"(95 % interval {low:.2f} to {high:.2f}; "
        f"{len(report.events):,} in {report.hours:.2f} h)"
    )


def decoder_settings(config: "DecoderConfig") -> str:
    """A decoder's settings in one line."""
    from speechgru.decoding.ctc import CTCConfig

    thresholds = f"threshold {config.threshold:g}{' and others by word' * bool(config.thresholds)}"
    if isinstance(config, CTCConfig):
        return f"CTC, beam {config.beam}, {thresholds}"
    smoothing, duration = config.smoothing_s, config.min_duration_s
    settings = f"smoothing {smoothing:g} s, {thresholds}, for {duration:g} s"
    if config.most_unknown < 1:
        settings += f"; unknown at most {config.most_unknown:g}"
    if config.most_silence < 1:
        settings += f"; silence at most {config.most_silence:g}"
    return settings


def print_trials(trials: "Sequence[Trial]") -> None:
    """Print the best decoders, and the best one of each state policy, if any were tried."""
    if not trials:
        return
    from speechgru.evaluation.tuning import LATENCY_MS

    first_of_each: dict[str, Trial] = {}
    for trial in trials:
        first_of_each.setdefault(_without_silence(trial), trial)
    shown = list(first_of_each.values())[:TRIALS]
    best_of_each = {str(trial.policy): trial for trial in reversed(trials)}
    shown += [trial for trial in best_of_each.values() if trial not in shown]
    settings = [name for name in HEADINGS if any(name in trial.settings for trial in shown)]
    if all(trial.settings.get("most_silence") == 1 for trial in shown):  # no limit
        settings.remove("most_silence")
    table = bare_table(
        "state",
        *(HEADINGS[name] for name in settings),
        *("errors", "wrong", "missed", "false"),
        *(() if trials[0].ambient is None else ("am-\nbient",)),
        *(() if trials[0].conversation is None else ("in\ntalk",)),
        "p50\nms",
    )
    for trial in shown:
        report = trial.report
        counts = len(report.wrong), report.missed, len(report.false_alarms)
        p50 = report.latency_ms["p50"]
        table.add_row(
            str(trial.policy),
            *(_number(trial.settings.get(name)) for name in settings),
            f"{trial.errors:,}",
            *(f"{count:,}" for count in counts),
            *(() if trial.ambient is None else (f"{trial.ambient:,}",)),
            *(() if trial.conversation is None else (f"{trial.conversation.errors:,}",)),
            "-" if p50 is None else f"{p50:.0f}",
        )
    out.line(
        f"{len(trials)} decoders, the fewest errors first; {LATENCY_MS:g} ms late count as one"
    )
    out.show(table)


def _without_silence(trial: "Trial") -> str:
    """What a row shows, but for `most_silence`: the limits of most detectors change nothing."""
    shown = trial.as_dict()
    shown.pop("most_silence", None)
    return str(shown)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _print_recall(report: "StreamReport") -> None:
    table = bare_table("minutes", "words", "recognized %", "95 % interval", gap=2)
    for row in report.events.recall_by_minutes(report.events.bin_minutes):
        table.add_row(
            f"{row['from']:g} to {row['to']:g}",
            f"{row['n']:,}",
            f"{100 * row['recall']:.2f}",
            f"{100 * row['low']:.2f} to {100 * row['high']:.2f}",
        )
    out.show(table)
    out.line()
