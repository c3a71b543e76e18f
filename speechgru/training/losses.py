"""What training minimizes: a loss for each head of the model."""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from speechgru.labels import UNKNOWN
from speechgru.model.attention_decoder import END
from speechgru.model.network import SpeechGRU
from speechgru.training.distribution import ALONE, Ranks
from speechgru.training.recipe import TrainingConfig
from speechgru.training.rows import NO_TARGET, NO_WORD, Batch

#: The column of a CTC head's blank.
_BLANK = 0


class BatchLoss:
    """Cross-entropy of a classify head, CTC of a CTC head; of both, their weighted mean.

    The target of a step is smoothed over the labels, not over the classes: all unknown words
    together are one label. With teachers, a share of the loss of the classify head is that of their
    answers.
    """

    def __init__(self, model: SpeechGRU, config: TrainingConfig, ranks: Ranks = ALONE) -> None:
        self.model, self.config, self.ranks = model, config, ranks
        self.tokens = tokens_of_classes(model)

    def __call__(
        self, log_posteriors: Tensor, batch: Batch, answers: Tensor | None = None
    ) -> Tensor:
        """The loss of what `apply_heads` returned, (B, T, V + U), given the teachers' answers."""
        losses = {}
        for head, part in self.model.split_heads(log_posteriors).items():
            losses[head] = (
                self._classify(part, batch, answers)
                if head == "classify"
                else self._ctc(part, batch)
            )
        if len(losses) == 1:
            return next(iter(losses.values()))
        return torch.lerp(losses["classify"], losses["ctc"], self.config.ctc_weight)

    def spelling(self, encoded: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the attention decoder's tokens and ends, of the encoder's (B, T, H)."""
        assert self.model.speller is not None
        tokens = tokens_of_words(batch.words, self.tokens)
        last = (tokens != NO_WORD).sum(dim=1, keepdim=True)
        targets = functional.pad(tokens, (0, 1), value=NO_WORD).scatter(1, last, END)
        log_posteriors = self.model.speller(encoded, tokens.to(encoded.device, non_blocking=True))
        total = functional.nll_loss(
            log_posteriors.flatten(0, 1),
            targets.flatten().to(encoded.device, non_blocking=True),
            ignore_index=NO_WORD,
            reduction="sum",
        )
        return total / self._mean_count(targets != NO_WORD)

    def _classify(self, log_posteriors: Tensor, batch: Batch, answers: Tensor | None) -> Tensor:
        labels = self.model.merge_unknown(log_posteriors)
        loss = smoothed_cross_entropy(
            log_posteriors.flatten(0, 1),
            labels.flatten(0, 1),
            batch.targets.flatten(),
            self.config.label_smoothing,
            self._mean_count(batch.targets != NO_TARGET),
        )
        if answers is None:
            return loss
        taught = log_posteriors if answers.shape == log_posteriors.shape else labels
        divergence = distillation_loss(taught, answers, self.config.temperature)
        divergence = divergence / self._mean_count(answers.any(dim=-1))
        return torch.lerp(loss, divergence, self.config.teacher_weight)

    def _ctc(self, log_posteriors: Tensor, batch: Batch) -> Tensor:
        tokens = tokens_of_words(batch.words, self.tokens)
        log_posteriors = with_blank_odds(log_posteriors, 1 / self.config.ctc_blank_odds)
        ctc = ctc_losses(log_posteriors, tokens).sum()
        uniform = -log_posteriors.mean(dim=2).sum()
        smoothing = self.config.ctc_smoothing
        smoothed = (1 - smoothing) * ctc + smoothing * uniform
        return smoothed / self._mean_count(tokens != NO_WORD)

    def _mean_count(self, counts: Tensor) -> Tensor:
        """How many targets a process has on average, so that the mean of their losses is right."""
        count = counts.sum().float().to(self.model.device, non_blocking=True)
        return self.ranks.mean(count).clamp_min(1 / self.ranks.size)


def smoothed_cross_entropy(
    log_posteriors: Tensor,
    label_log_posteriors: Tensor,
    targets: Tensor,
    smoothing: float,
    count: Tensor,
) -> Tensor:
    """(1 - e) -log p(target) + e mean over labels of -log p(label), summed, over `count`.

    Log-posteriors of classes (N, V + U) and of labels (N, V); targets (N,), some `NO_TARGET`.
    """
    has_target = targets != NO_TARGET
    hard = functional.nll_loss(log_posteriors, targets, ignore_index=NO_TARGET, reduction="sum")
    uniform = -(label_log_posteriors.mean(dim=1) * has_target).sum()
    return ((1 - smoothing) * hard + smoothing * uniform) / count


def distillation_loss(log_posteriors: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """t^2 KL(q || p), summed over the steps, of q ~ answers^(1/t) and p ~ posteriors^(1/t).

    Log-posteriors and answers (..., V); where all answers are 0, there is no loss. The factor t^2
    keeps the gradients as large as at temperature 1.

    Source: G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network", 2015.
    """
    softened = functional.normalize(answers ** (1 / temperature), p=1, dim=-1)
    student = torch.log_softmax(log_posteriors / temperature, dim=-1)
    return temperature**2 * functional.kl_div(student, softened, reduction="sum")


def with_blank_odds(log_posteriors: Tensor, odds: float) -> Tensor:
    """The log-posteriors of a CTC head with the odds of its blank multiplied: (..., V) -> (..., V).

    A network that minimizes the loss of what this returns gives log-posteriors in which blanks are
    `odds` times less likely.

    Source: A. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    """
    if odds == 1:
        return log_posteriors
    change = log_posteriors.new_zeros(log_posteriors.shape[-1])
    change[_BLANK] = math.log(odds)
    return torch.log_softmax(log_posteriors + change, dim=-1)


def ctc_losses(log_posteriors: Tensor, tokens: Tensor) -> Tensor:
    """-log p(tokens) of each row by the forward algorithm: (B, T, V), (B, N) on the host -> (B,).

    Tokens are padded with `NO_WORD`. A row's loss is 0 if its tokens do not fit into the steps.
    torch copies the tokens to a GPU itself, and waits for that.

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


def tokens_of_classes(model: SpeechGRU) -> Tensor:
    """The CTC tokens of each label, then of each unknown word: (V + U, L), padded with `NO_WORD`.

    On the host, like the words of a batch.
    """
    labels = (*model.labels, *(UNKNOWN for _ in model.unknown_words))
    tokens = [torch.tensor(model.spelling.spell(label), dtype=torch.long) for label in labels]
    return pad_sequence(tokens, batch_first=True, padding_value=NO_WORD)


def tokens_of_words(words: Tensor, tokens: Tensor) -> Tensor:
    """The tokens of words in order: (B, N), (V + U, L) -> (B, N L), padded with `NO_WORD`."""
    spelled = tokens[words.clamp_min(0)]  # (B, N, L)
    spelled = spelled.masked_fill((words == NO_WORD)[..., None], NO_WORD).flatten(1)
    return spelled.gather(1, (spelled == NO_WORD).sort(dim=1, stable=True).indices)
