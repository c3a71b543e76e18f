"""Training batches of streams: words one after the other, and the state carried between batches.

Truncated backpropagation through time: a row of a batch is a window of a stream that has no end.
The network begins a row with the detached state that it had at the end of the same row of the last
batch, so that the state at a word's start is any that the words before it can leave behind.
"""

import torch
from torch import Tensor

from speechgru.audio.pcm import FULL_SCALE
from speechgru.errors import UsageError
from speechgru.labels import UNKNOWN
from speechgru.model.network import State
from speechgru.model.row_threads import on_one_core
from speechgru.training.augmentation import crops_at, mask_features, uniform, vary_sound
from speechgru.training.batches import (
    NO_TARGET,
    NO_WORD,
    Batch,
    Clips,
    Rows,
    TrainingClips,
    only_words,
)
from speechgru.training.recipe import StreamConfig
from speechgru.training.talk import SILENT, SPEECH
from speechgru.training.targets import fold_outputs

#: Rows of whole clips begin up to this much later.
_JITTER_S = 0.02
#: A row does not end sooner after a word: time to recognize it.
_AFTER_LAST_S = 0.15
#: A clip's edges are faded where another clip, or nothing, begins there.
_FADE_S = 0.01
#: Clips that are laid out to count the labels.
_COUNTED = 4096
#: Of the last word before a row: "long ago".
_LONG_AGO_S = 1000.0


class StreamBatches:
    """Endless batches of R rows of a few clips each.

    The windows end between two words: no word lies across them, but its edges, its echo in the
    targets and the state do.

    Raises:
        UsageError: there is less running speech than a row takes.
    """

    def __init__(
        self, clips: TrainingClips, config: StreamConfig, rows: int, tail_ms: float
    ) -> None:
        model = clips.model
        clip_s = clips.clip_samples / model.sample_rate
        self.clips, self.config, self.tail_s = clips, config, tail_ms / 1000
        # A row holds its clips, however long these are.
        seconds_per_clip = max(config.seconds_per_clip, clip_s)
        self.steps = model.steps(config.clips * seconds_per_clip)
        state = model.initial_state(rows)
        #: The state that each row ended in, the output of its last word, and until when after the
        #: row's end that is asked for, in seconds.
        self.carried: State = state | {
            "output": torch.full((rows,), NO_TARGET, device=model.device),
            "held_s": torch.full((rows,), -_LONG_AGO_S, device=model.device),
        }
        if clips.talk is not None:
            #: Where in the running speech each row is; -1 where it is not.
            self.carried["talk"] = torch.full((rows,), -1, device=model.device)
            if len(clips.talk[1]) < 2 * self.steps:
                raise UsageError("stream.talk_share: there is too little running speech for a row")

    def draw(self, count: int) -> Batch:
        """A batch of the next `count` clips."""
        return self.featurize(self.vary(count))

    def vary(self, count: int) -> Rows:
        """Rows of the next `count` clips."""
        goes_on, drawn = self._choose_rows(), self.clips.draw(count)
        samples, targets = self._lay_out(drawn, goes_on)
        words = only_words(drawn.outputs.view(len(samples), -1), self.clips)
        if self.clips.talk is not None:
            self._put_talk(samples, targets, words, *self.clips.talk)
        config = self.clips.recipe.augment
        samples = vary_sound(samples, self.clips.noise, config, self.clips.generator)
        return Rows(samples, targets, words)

    @torch.no_grad()
    def featurize(self, rows: Rows) -> Batch:
        """Features of varied rows, themselves varied in spectrum and masked."""
        model, config, stream = self.clips.model, self.clips.recipe.augment, self.config
        state = {name: self.carried[name] for name in model.initial_state(1)}
        features, state["samples"] = model.extract(rows.samples, state["samples"])
        # As many masks to a clip's length as a clip has.
        several = config.model_copy(update={"time_masks": config.time_masks * stream.clips})
        hop_ms = model.features.config.hop_ms
        with on_one_core():
            features = self.clips.vary_features(features)
            features = mask_features(features, several, hop_ms, self.clips.generator)
        return Batch(features, state, rows.targets, rows.words)

    def keep(self, state: State) -> None:
        """Take the state that the network left behind: the next batch begins in it."""
        for name, tensor in state.items():
            self.carried[name] = tensor.detach().to(self.carried[name].dtype)

    def label_shares(self) -> Tensor:
        """How often each label of the model is asked for: (V,), sum 1, by trying."""
        model, ranks = self.clips.model, self.clips.ranks
        counts = torch.zeros(len(model.labels), device=model.device)
        carried = dict(self.carried)
        rows = len(self.carried["output"])
        goes_on = torch.zeros(rows, dtype=torch.bool, device=model.device)
        clips = rows * self.config.clips
        with self.clips.rewound():
            for _ in range(max(1, _COUNTED // (clips * ranks.size))):
                _, targets = self._lay_out(self.clips.draw(clips), goes_on)
                labels = fold_outputs(targets[targets != NO_TARGET], model)
                counts += torch.bincount(labels, minlength=len(counts))
        self.carried.update(carried)
        counts = ranks.mean(counts)
        return counts / counts.sum()

    def _choose_rows(self) -> Tensor:
        """Which rows go on, (R,); the others' state is zeros from here on."""
        rows = len(self.carried["output"])
        like, generator = self.carried["samples"], self.clips.generator
        goes_on = uniform((rows,), 0, 1, like, generator) < self.config.carry_share
        if self.clips.talk is not None:
            goes_on |= self._choose_talk(len(self.clips.talk[1]))
        fresh = self.clips.model.initial_state(rows)
        for name, start in fresh.items():
            mask = goes_on.view(-1, *[1] * (start.ndim - 1))
            self.carried[name] = torch.where(mask, self.carried[name], start)
        return goes_on

    def _choose_talk(self, steps: int) -> Tensor:
        """Which rows are running speech from here on; gives those that were until here, (R,).

        Its stretches are of random lengths, `talk_s` on average, in a bank of so many `steps`.
        """
        config, was_at = self.config, self.carried["talk"]
        like, generator = self.carried["samples"], self.clips.generator
        row_s = self.steps * self.clips.model.step_samples / self.clips.model.sample_rate
        stops = min(1.0, row_s / config.talk_s)
        starts = min(1.0, stops * config.talk_share / (1 - config.talk_share))
        lot, place = (uniform(was_at.shape, 0, 1, like, generator) for _ in range(2))
        anywhere = (place * (steps - self.steps)).long()
        was_talk = was_at >= 0
        following = was_at + self.steps
        following = torch.where(was_talk & (following + self.steps <= steps), following, anywhere)
        is_talk = torch.where(was_talk, lot >= stops, lot < starts)
        self.carried["talk"] = torch.where(is_talk, following, -1)
        return was_talk

    def _put_talk(
        self, samples: Tensor, targets: Tensor, words: Tensor, bank: Tensor, activity: Tensor
    ) -> None:
        """Put running speech in the place of the rows that are such, in place."""
        model, like, generator = self.clips.model, self.carried["samples"], self.clips.generator
        asked = uniform(tuple(targets.shape), 0, 1, like, generator) < self.config.talk_target_share
        rows = (self.carried["talk"] >= 0).nonzero()[:, 0]
        if not len(rows):
            return
        first = self.carried["talk"][rows]
        spoken = crops_at(bank, first * model.step_samples, samples.shape[1])
        samples[rows] = spoken.to(samples.dtype) / FULL_SCALE
        activity = crops_at(activity, first, self.steps)
        unknown = model.vocabulary.id(UNKNOWN)
        wanted = torch.full_like(activity, NO_TARGET, dtype=targets.dtype)
        wanted = wanted.masked_fill(activity == SPEECH, unknown)
        wanted = wanted.masked_fill(activity == SILENT, self.clips.silence)
        targets[rows] = wanted.masked_fill(~asked[rows], NO_TARGET)
        words[rows.cpu()] = NO_WORD
        # What was said last is asked for no more, and silence soon after.
        self.carried["held_s"][rows] = 0.0
        self.carried["output"][rows] = unknown

    def _lay_out(self, clips: Clips, goes_on: Tensor) -> tuple[Tensor, Tensor]:
        """Clips to rows: samples (R, S) and targets (R, T); the last words are carried on."""
        rows, length = len(goes_on), clips.samples.shape[1]
        total = self.steps * self.clips.model.step_samples
        spans = clips.spans.view(rows, -1, 2)
        generator, like = self.clips.generator, clips.samples
        abutted = uniform((rows, 1), 0, 1, like, generator) < self.config.abutted_share
        whole = self._follow(rows, length, total, like)
        offsets = torch.where(abutted, whole, self._scatter(spans, total, like))
        samples = _add_up(
            clips.samples.view(rows, -1, length),
            offsets,
            total,
            round(_FADE_S * self.clips.model.sample_rate) * ~abutted,
        )
        return samples, self._targets(clips, offsets, spans + offsets[..., None], abutted, goes_on)

    def _follow(self, rows: int, length: int, total: int, like: Tensor) -> Tensor:
        """Clips one after the other from a random place on, which may be before the row's start."""
        count, rate = self.config.clips, self.clips.model.sample_rate
        room = max(0, total - count * length)
        first = uniform((rows, 1), 0, 1, like, self.clips.generator) * room
        jitter = uniform((rows, 1), -1, 1, like, self.clips.generator) * _JITTER_S * rate
        places = torch.arange(count, device=like.device) * length
        return (first + jitter + places).round().long().clamp_min(0)

    def _scatter(self, spans: Tensor, total: int, like: Tensor) -> Tensor:
        """Words in their order with gaps that share the free time at random: (R, N).

        Crowded, the gaps between the words of a row are by a random factor shorter than those
        before and after them: from words far apart to words that follow without a pause.
        """
        words = (spans[..., 1] - spans[..., 0]).float()  # (R, N)
        size = (words.shape[0], words.shape[1] + 1)
        share = -uniform(size, 1e-4, 1, like, self.clips.generator).log()
        if crowding := self.config.crowding:
            share[:, 1:-1] *= uniform((len(words), 1), 1 - crowding, 1, like, self.clips.generator)
        end = total - round(_AFTER_LAST_S * self.clips.model.sample_rate)
        free = (end - words.sum(dim=1, keepdim=True)).clamp_min(0)
        gaps = free * share / share.sum(dim=1, keepdim=True)
        starts = gaps[:, :-1].cumsum(dim=1) + words.cumsum(dim=1) - words
        return (starts - spans[..., 0]).round().long()

    def _targets(
        self, clips: Clips, offsets: Tensor, spans: Tensor, abutted: Tensor, goes_on: Tensor
    ) -> Tensor:
        """What each step is asked for, (R, T): silence, and after each word that word."""
        config, model = self.config, self.clips.model
        rows, rate = len(goes_on), model.sample_rate
        outputs = clips.outputs.view(rows, -1).to(offsets.device, non_blocking=True)
        step_s = model.step_samples / rate
        # A step's answer is that at its end.
        now_s = step_s * torch.arange(1, self.steps + 1, device=offsets.device)
        targets = torch.full((rows, self.steps), self.clips.silence, device=offsets.device)
        is_word = outputs != self.clips.silence
        starts_s = spans[..., 0] / rate
        ends_s, clip_ends_s = spans[..., 1] / rate, (offsets + clips.samples.shape[1]) / rate
        asked_s, held_s = ends_s + config.after_ms / 1000, ends_s + config.hold_ms / 1000
        # A whole clip's tail says its word, even where the clip ends before the word does.
        asked_s = torch.where(abutted, asked_s.minimum(clip_ends_s - self.tail_s), asked_s)
        held_s = torch.where(abutted, held_s.maximum(clip_ends_s), held_s)

        last_s = torch.where(goes_on, self.carried["held_s"], -_LONG_AGO_S)
        last_output = self.carried["output"]
        long_ago = torch.full_like(last_s, -_LONG_AGO_S)
        words = [(long_ago, long_ago, last_s, last_output, torch.ones_like(goes_on))]
        words += zip(
            *(x.unbind(1) for x in (starts_s, asked_s, held_s, outputs, is_word)), strict=True
        )
        for start_s, asked_from_s, until_s, output, said in words:
            begun, held = said[:, None] & (now_s > start_s[:, None]), now_s <= until_s[:, None]
            asked = begun & held & (now_s > asked_from_s[:, None])
            targets = targets.masked_fill(begun, NO_TARGET)
            targets = torch.where(asked, output[:, None], targets)
            over = begun & (now_s > until_s[:, None] + config.release_ms / 1000)
            targets = targets.masked_fill(over, self.clips.silence)
            last_s = torch.where(said, until_s, last_s)
            last_output = torch.where(said, output, last_output)
        self.carried["held_s"] = (last_s - self.steps * step_s).clamp_min(-_LONG_AGO_S)
        self.carried["output"] = last_output
        shape = (rows, self.steps)
        left_out = uniform(shape, 0, 1, clips.samples, self.clips.generator) > config.silence_share
        return targets.masked_fill((targets == self.clips.silence) & left_out, NO_TARGET)


def _add_up(clips: Tensor, offsets: Tensor, total: int, fade: Tensor) -> Tensor:
    """Lay clips (R, N, S) over each other at offsets (R, N), their edges faded: (R, total).

    `fade` (R, 1) is in samples; what lies outside of the row is cut off.
    """
    rows, _, length = clips.shape
    place = torch.arange(length, device=clips.device)
    edge = torch.minimum(place, length - 1 - place) + 1
    ramp = (edge / fade.clamp_min(1)).clamp_max(1.0)[:, None]  # (R, 1, S)
    # A margin of a clip on either side takes what is cut off.
    canvas = clips.new_zeros(rows, total + 2 * length)
    start = (offsets + length).clamp(0, total + length)
    index = (start[..., None] + place).flatten(1)
    canvas.scatter_add_(1, index, (clips * ramp).flatten(1))
    return canvas[:, length : length + total]
