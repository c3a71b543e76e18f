"""The attention decoder: it sees a whole utterance, then emits its tokens one by one."""

import torch
from torch import Tensor, nn

#: Steps of the location convolution over the last attention weights, and its output features.
_LOCATION_STEPS, _LOCATION_FEATURES = 15, 8
#: The token that starts and ends an utterance: the blank, which is never emitted.
END = 0

#: Encoder outputs, keys, decoder state s, context c and attention weights.
DecoderState = tuple[Tensor, ...]


class AttentionDecoder(nn.Module):
    """Tokens of an utterance, each from those before it (Chan et al., 2016, arXiv 1508.01211).

        s_n = GRU([E y_{n-1}; c_{n-1}], s_{n-1})                (equations 6 and 7 there)
        e_nt = w . tanh(W s_n + V h_t + U f_nt + b)             (Chorowski et al., 2015,
        a_n = softmax over t of e_n,  f_n = F * a_{n-1}          arXiv 1506.07503, equations 8, 9)
        c_n = sum_t a_nt h_t      p(y_n) = softmax(O [s_n; c_n])

    The features of the last attention weights (f, a convolution F along the steps) let it move on
    to the second of two equal words. It needs the whole utterance, so it cannot run on a stream.
    """

    def __init__(self, hidden: int, tokens: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.embedding = nn.Embedding(tokens, hidden)
        self.cell = nn.GRUCell(2 * hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden)
        self.around = nn.Conv1d(
            1, _LOCATION_FEATURES, _LOCATION_STEPS, padding=_LOCATION_STEPS // 2, bias=False
        )
        self.location = nn.Linear(_LOCATION_FEATURES, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.answer = nn.Linear(2 * hidden, tokens)

    def forward(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        """Log-posteriors of each token given the true ones before it, and of the end last.

        (B, T, H), (B, N) -> (B, N + 1, V); tokens after the last one of a row may have any value.
        """
        previous = nn.functional.pad(tokens.clamp_min(0), (1, 0), value=END)
        state, outputs = self.start(encoded), []
        for token in previous.unbind(dim=1):
            log_posteriors, state = self.next(token, state)
            outputs.append(log_posteriors)
        return torch.stack(outputs, dim=1)

    def start(self, encoded: Tensor) -> DecoderState:
        """The state before the first token, from the encoder's outputs (B, T, H)."""
        rows, steps, hidden = encoded.shape
        zeros = encoded.new_zeros(rows, hidden)
        return encoded, self.key(encoded), zeros, zeros, encoded.new_zeros(rows, steps)

    def next(self, token: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """From the last token, (B,), the log-posteriors of the next one, (B, V), and the state."""
        encoded, keys, s, c, weights = state
        s = self.cell(torch.cat([self.embedding(token), c], dim=1), s)
        location = self.location(self.around(weights.unsqueeze(1)).transpose(1, 2))  # (B, T, H)
        mixed = torch.tanh(self.query(s).unsqueeze(1) + keys + location)
        weights = torch.softmax(self.score(mixed).squeeze(2).float(), dim=1).to(encoded.dtype)
        c = (weights.unsqueeze(1) @ encoded).squeeze(1)
        logits = self.answer(torch.cat([s, c], dim=1)).float()
        return torch.log_softmax(logits, dim=1), (encoded, keys, s, c, weights)

    @torch.no_grad()
    def decode(self, encoded: Tensor) -> tuple[list[int], Tensor]:
        """The tokens of one utterance, greedily, and the attention weights of each.

        (1, T, H) -> N tokens without the end, N <= T, and weights (N, T).
        """
        state, token = self.start(encoded), encoded.new_full((1,), END, dtype=torch.long)
        tokens: list[int] = []
        weights = [encoded.new_zeros(0, encoded.shape[1])]
        while len(tokens) < encoded.shape[1]:
            log_posteriors, state = self.next(token, state)
            token = log_posteriors.argmax(dim=1)
            if token.item() == END:
                break
            tokens.append(int(token.item()))
            weights.append(state[-1])
        return tokens, torch.cat(weights)
