"""What training makes small: a loss for each head of the model."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from speechgru.labels import UNKNOWN
from speechgru.model.attention_decoder import END
from speechgru.model.network import SpeechGRU
from speechgru.training.batches import NO_TARGET, NO_WORD, Batch
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.recipe import TrainingConfig


class BatchLoss:
    """Cross-entropy of a classify head, CTC of a CTC head; of both, their weighted mean.

    The target of a step is smoothed over the labels, not over the outputs: unknown words together
    are one label.
    """

    def __init__(self, model: SpeechGRU, config: TrainingConfig, ranks: Ranks = ALONE) -> None:
        self.model, self.config, self.ranks = model, config, ranks
        self.tokens = spelled_outputs(model)

    def __call__(self, log_posteriors: Tensor, batch: Batch) -> Tensor:
        """What `encode` gave, (B, T, V + U) -> a number."""
        of_head = {
            head: self._classify(part, batch) if head == "classify" else self._ctc(part, batch)
            for head, part in self.model.split_heads(log_posteriors).items()
        }
        if len(of_head) == 1:
            return next(iter(of_head.values()))
        return torch.lerp(of_head["classify"], of_head["ctc"], self.config.ctc_weight)

    def spelling(self, heard: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the attention decoder's tokens and ends: what `hear` gave, (B, T, H)."""
        assert self.model.speller is not None
        tokens = tokens_said(batch.words, self.tokens)
        last = (tokens != NO_WORD).sum(dim=1, keepdim=True)
        targets = functional.pad(tokens, (0, 1), value=NO_WORD).scatter(1, last, END)
        log_posteriors = self.model.speller(heard, tokens.to(heard.device, non_blocking=True))
        missed = functional.nll_loss(
            log_posteriors.flatten(0, 1),
            targets.flatten().to(heard.device, non_blocking=True),
            ignore_index=NO_WORD,
            reduction="sum",
        )
        return missed / self._usual_count(targets != NO_WORD)

    def _classify(self, log_posteriors: Tensor, batch: Batch) -> Tensor:
        return smoothed_cross_entropy(
            log_posteriors.flatten(0, 1),
            self.model.merge_unknown(log_posteriors).flatten(0, 1),
            batch.targets.flatten(),
            self.config.label_smoothing,
            self._usual_count(batch.targets != NO_TARGET),
        )

    def _ctc(self, log_posteriors: Tensor, batch: Batch) -> Tensor:
        tokens = tokens_said(batch.words, self.tokens)
        hit = ctc_losses(log_posteriors, tokens).sum()
        spread = -log_posteriors.mean(dim=2).sum()
        smoothing = self.config.ctc_smoothing
        smoothed = (1 - smoothing) * hit + smoothing * spread
        return smoothed / self._usual_count(tokens != NO_WORD)

    def _usual_count(self, asked: Tensor) -> Tensor:
        """How much is asked of a process on average: the mean of their losses is that of all."""
        count = asked.sum().float().to(self.model.device, non_blocking=True)
        return self.ranks.mean(count).clamp_min(1 / self.ranks.size)


def smoothed_cross_entropy(
    log_posteriors: Tensor, of_labels: Tensor, targets: Tensor, smoothing: float, count: Tensor
) -> Tensor:
    """(1 - e) -log p(target) + e mean over labels of -log p(label), summed, over `count`.

    Log-posteriors of outputs (N, V + U) and of labels (N, V); targets (N,), some `NO_TARGET`.
    """
    asked = targets != NO_TARGET
    hit = functional.nll_loss(log_posteriors, targets, ignore_index=NO_TARGET, reduction="sum")
    spread = -(of_labels.mean(dim=1) * asked).sum()
    return ((1 - smoothing) * hit + smoothing * spread) / count


def ctc_losses(log_posteriors: Tensor, tokens: Tensor) -> Tensor:
    """-log p(tokens) of each row by the forward algorithm: (B, T, V), (B, N) on the host -> (B,).

    `NO_WORD` stands behind a row's last token. It is 0 where the tokens do not fit into the steps.
    torch takes the tokens to a GPU itself, and waits for that.

    Source: A. Graves et al., "Connectionist temporal classification", ICML 2006.
    """
    if log_posteriors.device.type == "mps":  # has no kernel for it
        return ctc_losses(log_posteriors.cpu(), tokens).to(log_posteriors.device)
    rows, steps, _ = log_posteriors.shape
    return functional.ctc_loss(
        log_posteriors.transpose(0, 1),
        tokens.clamp_min(0),
        torch.full((rows,), steps),
        (tokens != NO_WORD).sum(dim=1),
        reduction="none",
        zero_infinity=True,
    )


def spelled_outputs(model: SpeechGRU) -> Tensor:
    """The CTC tokens of each label, then of each unknown word: (V + U, L), `NO_WORD` behind.

    On the host, as what is said in a batch.
    """
    labels = (*model.labels, *(UNKNOWN for _ in model.unknown_words))
    spelled = [torch.tensor(model.spelling.spell(label), dtype=torch.long) for label in labels]
    return pad_sequence(spelled, batch_first=True, padding_value=NO_WORD)


def tokens_said(words: Tensor, tokens: Tensor) -> Tensor:
    """The tokens of words in their order: (B, N), (V + U, L) -> (B, N L), `NO_WORD` behind."""
    spelled = tokens[words.clamp_min(0)]  # (B, N, L)
    said = spelled.masked_fill((words == NO_WORD)[..., None], NO_WORD).flatten(1)
    return said.gather(1, (said == NO_WORD).sort(dim=1, stable=True).indices)
