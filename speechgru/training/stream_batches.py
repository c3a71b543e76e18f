"""Training batches of streams: words one after another, with the state carried between batches.

Truncated backpropagation through time: each row of a batch is a window of an endless stream. The
network starts it from the detached state in which it ended the same row of the previous batch, so
at the start of a word the state may be any that the words before it leave behind.
"""

from dataclasses import replace

import torch
from torch import Tensor

from speechgru.audio.pcm import FULL_SCALE
from speechgru.errors import UsageError
from speechgru.labels import UNKNOWN
from speechgru.model.network import State
from speechgru.model.row_threads import on_one_core
from speechgru.training.augmentation import crops_at, mask_features, uniform
from speechgru.training.batches import TrainingClips, words_first
from speechgru.training.data import label_ids
from speechgru.training.recipe import StreamConfig
from speechgru.training.rows import NO_TARGET, NO_WORD, Batch, Clips, Rows
from speechgru.training.talk import SILENT, SPEECH
from speechgru.training.teachers import Teachers

#: Rows of whole clips start up to this much later.
_JITTER_S = 0.02
#: A row continues at least this long after its last word, to leave time to recognize it.
_AFTER_LAST_S = 0.15
#: Length of the fade at the edges of a clip that overlaps another one, or follows a gap.
_FADE_S = 0.01
#: Clips that are placed to count the labels.
_COUNTED_CLIPS = 4096
#: The end of a word that no longer matters.
_LONG_AGO_S = 1000.0


class StreamBatches:
    """Endless batches of R rows of a few clips each.

    Windows end between two words: no word is cut by the border, but its edges, its targets and the
    state may extend over it.

    Raises:
        UsageError: there is less running speech than a row takes.
    """

    def __init__(
        self, clips: TrainingClips, config: StreamConfig, rows: int, tail_ms: float
    ) -> None:
        model = clips.model
        clip_s = clips.clip_samples / model.sample_rate
        self.clips, self.config, self.tail_s = clips, config, tail_ms / 1000
        # A row holds its clips, however long they are.
        seconds_per_clip = max(config.seconds_per_clip, clip_s)
        self.steps = model.steps(config.clips * seconds_per_clip)
        #: The state from which a row starts that does not continue its stream.
        self.initial = model.initial_state(rows)
        #: For each row the state in which it ended; the class of its last word ("output"); and
        #: until when after the row's end that class is a target, in seconds ("held_s"). The names
        #: are part of the checkpoint format.
        self.carried: State = self.initial | {
            "output": torch.full((rows,), NO_TARGET, device=model.device),
            "held_s": torch.full((rows,), -_LONG_AGO_S, device=model.device),
        }
        if clips.talk is not None:
            #: The step of the running speech at which each row starts; -1 in a row of clips.
            self.carried["talk"] = torch.full((rows,), -1, device=model.device)
            if len(clips.talk[1]) < 2 * self.steps:
                raise UsageError("stream.talk_share: there is too little running speech for a row")

    def carry_also(self, teachers: Teachers) -> None:
        """Carry the state of teachers, too."""
        model = self.clips.model
        teachers.check_rows(self.steps * model.step_samples)
        initial = teachers.initial_state(len(self.carried["output"]))
        self.initial |= initial
        self.carried |= initial

    def draw(self, count: int) -> Batch:
        """A batch of the next `count` clips."""
        return self.featurize(self.draw_rows(count))

    def draw_rows(self, count: int) -> Rows:
        """Rows of the next `count` clips, augmented."""
        continues, drawn = self.choose_rows(), self.clips.draw(count)
        rows = self.place_clips(drawn, continues)
        if self.clips.talk is not None:
            self.place_talk(rows, *self.clips.talk)
        return replace(rows, samples=self.clips.augment_samples(rows.samples))

    @torch.no_grad()
    def featurize(self, rows: Rows) -> Batch:
        """Features of augmented rows, themselves augmented and masked."""
        model, config, stream = self.clips.model, self.clips.recipe.augment, self.config
        state = {name: self.carried[name] for name in self.initial}
        features, state["samples"] = model.extract(rows.samples, state["samples"])
        # As many masks per clip length as in a single clip.
        per_row = config.model_copy(update={"time_masks": config.time_masks * stream.clips})
        hop_ms = model.features.config.hop_ms
        with on_one_core():
            features = self.clips.augment_features(features)
            features = mask_features(features, per_row, hop_ms, self.clips.generator)
        return Batch(features, state, rows.targets, rows.words, rows)

    def carry(self, state: State) -> None:
        """Keep the state in which the network ended a batch: the next batch starts from it."""
        for name, tensor in state.items():
            self.carried[name] = tensor.detach().to(self.carried[name].dtype)

    def label_shares(self) -> Tensor:
        """The share of each label in the targets: (V,), sum 1; counted in sample rows."""
        model, ranks = self.clips.model, self.clips.ranks
        counts = torch.zeros(len(model.labels), device=model.device)
        carried = dict(self.carried)
        rows = len(self.carried["output"])
        continues = torch.zeros(rows, dtype=torch.bool, device=model.device)
        clips = rows * self.config.clips
        batches = max(1, _COUNTED_CLIPS // (clips * ranks.size))
        with self.clips.rewound():
            for _ in range(batches):
                targets = self.place_clips(self.clips.draw(clips), continues).targets
                labels = label_ids(targets[targets != NO_TARGET], model)
                counts += torch.bincount(labels, minlength=len(counts))
        self.carried.update(carried)
        counts = ranks.mean(counts) / (batches * rows)
        if self.clips.talk is not None:
            counts = torch.lerp(counts, self._talk_counts(), self.config.talk_share)
        return counts / counts.sum()

    def _talk_counts(self) -> Tensor:
        """How many targets of each label a row of running speech has on average: (V,)."""
        assert self.clips.talk is not None
        model, (_, activity) = self.clips.model, self.clips.talk
        counts = torch.zeros(len(model.labels), device=model.device)
        each = self.steps * self.config.talk_target_share
        counts[model.vocabulary.id(UNKNOWN)] = each * (activity == SPEECH).float().mean()
        if self.clips.silence != NO_TARGET:
            counts[self.clips.silence] = each * (activity == SILENT).float().mean()
        return counts

    def choose_rows(self) -> Tensor:
        """Which rows continue their stream, (R,); the state of the others is set to zeros."""
        rows = len(self.carried["output"])
        like, generator = self.carried["samples"], self.clips.generator
        continues = uniform((rows,), 0, 1, like, generator) < self.config.carry_share
        if self.clips.talk is not None:
            continues |= self.choose_talk(len(self.clips.talk[1]))
        for name, initial in self.initial.items():
            mask = continues.view(-1, *[1] * (initial.ndim - 1))
            self.carried[name] = torch.where(mask, self.carried[name], initial)
        return continues

    def choose_talk(self, steps: int) -> Tensor:
        """Choose the rows that are running speech; returns which ones were in the last batch, (R,).

        Stretches of running speech have random lengths, `talk_s` on average. `steps` is the length
        of all of it.
        """
        config, previous = self.config, self.carried["talk"]
        like, generator = self.carried["samples"], self.clips.generator
        row_s = self.steps * self.clips.model.step_samples / self.clips.model.sample_rate
        odds = config.talk_share / (1 - config.talk_share)
        # At a large share stretches of talk follow each other after single other rows.
        stop_probability = min(1.0, row_s / config.talk_s, 1 / odds)
        start_probability = min(1.0, stop_probability * odds)
        chance, place = (uniform(previous.shape, 0, 1, like, generator) for _ in range(2))
        anywhere = (place * (steps - self.steps)).long()
        was_talk = previous >= 0
        following = previous + self.steps
        following = torch.where(was_talk & (following + self.steps <= steps), following, anywhere)
        is_talk = torch.where(was_talk, chance >= stop_probability, chance < start_probability)
        self.carried["talk"] = torch.where(is_talk, following, -1)
        return was_talk

    def place_talk(self, placed: Rows, talk: Tensor, activity: Tensor) -> None:
        """Replace the rows that were chosen for it by running speech, in place."""
        samples, targets = placed.samples, placed.targets
        model, like, generator = self.clips.model, self.carried["samples"], self.clips.generator
        share = self.config.talk_target_share
        has_target = uniform(tuple(targets.shape), 0, 1, like, generator) < share
        rows = (self.carried["talk"] >= 0).nonzero()[:, 0]
        if not len(rows):
            return
        first = self.carried["talk"][rows]
        crops = crops_at(talk, first * model.step_samples, samples.shape[1])
        samples[rows] = crops.to(samples.dtype) / FULL_SCALE
        activity = crops_at(activity, first, self.steps)
        unknown = model.vocabulary.id(UNKNOWN)
        talk_targets = torch.full_like(activity, NO_TARGET, dtype=targets.dtype)
        talk_targets = talk_targets.masked_fill(activity == SPEECH, unknown)
        talk_targets = talk_targets.masked_fill(activity == SILENT, self.clips.silence)
        placed.wordless[rows] = talk_targets
        targets[rows] = talk_targets.masked_fill(~has_target[rows], NO_TARGET)
        placed.target_clips[rows] = -1
        placed.words[rows.cpu()] = NO_WORD
        # The last word is no longer a target, and silence soon is.
        self.carried["held_s"][rows] = 0.0
        self.carried["output"][rows] = unknown

    def place_clips(self, clips: Clips, continues: Tensor) -> Rows:
        """Clips to rows, without noise; the last words are carried."""
        rows, length = len(continues), clips.samples.shape[1]
        total = self.steps * self.clips.model.step_samples
        spans = clips.spans.view(rows, -1, 2)
        generator, like = self.clips.generator, clips.samples
        abutted = uniform((rows, 1), 0, 1, like, generator) < self.config.abutted_share
        abutted_offsets = self.abutted_offsets(rows, length, total, like)
        offsets = torch.where(abutted, abutted_offsets, self.random_offsets(spans, total, like))
        samples = _overlap_add(
            clips.samples.view(rows, -1, length),
            offsets,
            total,
            round(_FADE_S * self.clips.model.sample_rate) * ~abutted,
        )
        spans = spans + offsets[..., None]
        targets, target_clips = self._targets(clips, offsets, spans, abutted, continues)
        wordless = self.clips.silence_of(targets)
        targets = self._without_most_silence(targets)
        words = words_first(clips.classes.view(rows, -1), self.clips)
        return Rows(samples, targets, words, offsets, target_clips, wordless)

    def abutted_offsets(self, rows: int, length: int, total: int, like: Tensor) -> Tensor:
        """Offsets of clips that follow each other without a gap, from a random one on: (R, N)."""
        count, rate = self.config.clips, self.clips.model.sample_rate
        room = max(0, total - count * length)
        first = uniform((rows, 1), 0, 1, like, self.clips.generator) * room
        jitter = uniform((rows, 1), -1, 1, like, self.clips.generator) * _JITTER_S * rate
        places = torch.arange(count, device=like.device) * length
        return (first + jitter + places).round().long().clamp_min(0)

    def random_offsets(self, spans: Tensor, total: int, like: Tensor) -> Tensor:
        """Offsets that place words in order with random gaps, which fill the row: (R, N).

        With crowding, the gaps between a row's words are shorter by a random factor than those
        before and after them: from words far apart to words without a pause.
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
        self, clips: Clips, offsets: Tensor, spans: Tensor, abutted: Tensor, continues: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A target for each step, (R, T): silence, and after each word that word; and its clip."""
        config, model = self.config, self.clips.model
        rows, rate = len(continues), model.sample_rate
        classes = clips.classes.view(rows, -1).to(offsets.device, non_blocking=True)
        step_s = model.step_samples / rate
        # A step's posteriors are those at its end.
        now_s = step_s * torch.arange(1, self.steps + 1, device=offsets.device)
        targets = torch.full((rows, self.steps), self.clips.silence, device=offsets.device)
        target_clips = torch.full_like(targets, -1)
        is_word = classes != self.clips.silence
        starts_s = spans[..., 0] / rate
        ends_s, clip_ends_s = spans[..., 1] / rate, (offsets + clips.samples.shape[1]) / rate
        from_s, until_s = ends_s + config.after_ms / 1000, ends_s + config.hold_ms / 1000
        # The tail of a whole clip has its word as target, even if the clip ends within the word.
        from_s = torch.where(abutted, from_s.minimum(clip_ends_s - self.tail_s), from_s)
        until_s = torch.where(abutted, until_s.maximum(clip_ends_s), until_s)

        last_until_s = torch.where(continues, self.carried["held_s"], -_LONG_AGO_S)
        last_class = self.carried["output"]
        long_ago = torch.full_like(last_until_s, -_LONG_AGO_S)
        always = torch.ones_like(continues)
        words = [(long_ago, long_ago, last_until_s, last_class, always)]
        words += zip(
            *(x.unbind(1) for x in (starts_s, from_s, until_s, classes, is_word)), strict=True
        )
        for clip, (word_start_s, word_from_s, word_until_s, word_class, applies) in enumerate(
            words, start=-1
        ):
            started = applies[:, None] & (now_s > word_start_s[:, None])
            held = started & (now_s <= word_until_s[:, None])
            held &= now_s > word_from_s[:, None]
            targets = targets.masked_fill(started, NO_TARGET)
            targets = torch.where(held, word_class[:, None], targets)
            target_clips = target_clips.masked_fill(started, -1).masked_fill(held, clip)
            over = started & (now_s > word_until_s[:, None] + config.release_ms / 1000)
            targets = targets.masked_fill(over, self.clips.silence)
            last_until_s = torch.where(applies, word_until_s, last_until_s)
            last_class = torch.where(applies, word_class, last_class)
        row_s = self.steps * step_s
        self.carried["held_s"] = (last_until_s - row_s).clamp_min(-_LONG_AGO_S)
        self.carried["output"] = last_class
        return targets, target_clips

    def _without_most_silence(self, targets: Tensor) -> Tensor:
        """Targets (R, T) of which only a share of those of silence is left."""
        like, generator = self.carried["samples"], self.clips.generator
        dropped = uniform(tuple(targets.shape), 0, 1, like, generator) > self.config.silence_share
        return targets.masked_fill((targets == self.clips.silence) & dropped, NO_TARGET)


def _overlap_add(clips: Tensor, offsets: Tensor, total: int, fade: Tensor) -> Tensor:
    """Add clips (R, N, S) at offsets (R, N), with faded edges: (R, total).

    `fade` (R, 1) is in samples; what lies outside the row is cut off.
    """
    rows, _, length = clips.shape
    place = torch.arange(length, device=clips.device)
    edge = torch.minimum(place, length - 1 - place) + 1
    ramp = (edge / fade.clamp_min(1)).clamp_max(1.0)[:, None]  # (R, 1, S)
    # A margin of one clip on either side takes what is cut off.
    canvas = clips.new_zeros(rows, total + 2 * length)
    start = (offsets + length).clamp(0, total + length)
    index = (start[..., None] + place).flatten(1)
    canvas.scatter_add_(1, index, (clips * ramp).flatten(1))
    return canvas[:, length : length + total]
