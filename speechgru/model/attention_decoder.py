"""A decoder with attention: it hears a whole utterance, then says its tokens one by one."""

import torch
from torch import Tensor, nn

#: Steps around each one whose last weights the attention sees, and the features made of them.
_LOCATION_STEPS, _LOCATION_FEATURES = 15, 8
#: The token that begins and ends an utterance: the blank, which is never said.
END = 0


class Speller(nn.Module):
    """Tokens of what was heard, each from those before it (Chan et al., 2016, arXiv 1508.01211).

        s_n = GRU([E y_{n-1}; c_{n-1}], s_{n-1})                (equations 6 and 7 there)
        e_nt = w . tanh(W s_n + V h_t + U f_nt + b)             (Chorowski et al., 2015,
        a_n = softmax over t of e_n,  f_n = F * a_{n-1}          arXiv 1506.07503, equations 8, 9)
        c_n = sum_t a_nt h_t      p(y_n) = softmax(O [s_n; c_n])

    What it sees of its last weights (f, a convolution F along the steps) lets it go on to the next
    of two equal words. It needs the whole utterance, and so is no stream.
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

    def forward(self, heard: Tensor, tokens: Tensor) -> Tensor:
        """Log-posteriors of each next token given the true ones before it, the end's at last.

        (B, T, H), (B, N) -> (B, N + 1, V); tokens that stand behind a row's last one may be any.
        """
        spoken = nn.functional.pad(tokens.clamp_min(0), (1, 0), value=END)
        state, answers = self.start(heard), []
        for token in spoken.unbind(dim=1):
            answer, state = self.next(token, state)
            answers.append(answer)
        return torch.stack(answers, dim=1)

    def start(self, heard: Tensor) -> tuple[Tensor, ...]:
        """What comes before a token, at first: (B, T, H) -> heard, its keys, s, c and weights."""
        rows, steps, hidden = heard.shape
        zeros = heard.new_zeros(rows, hidden)
        return heard, self.key(heard), zeros, zeros, heard.new_zeros(rows, steps)

    def next(self, token: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """After the last token, (B,), the log-posteriors of the next one, (B, V); and the state."""
        heard, keys, s, c, weights = state
        s = self.cell(torch.cat([self.embedding(token), c], dim=1), s)
        seen = self.location(self.around(weights.unsqueeze(1)).transpose(1, 2))  # (B, T, H)
        mixed = torch.tanh(self.query(s).unsqueeze(1) + keys + seen)
        weights = torch.softmax(self.score(mixed).squeeze(2).float(), dim=1).to(heard.dtype)
        c = (weights.unsqueeze(1) @ heard).squeeze(1)
        logits = self.answer(torch.cat([s, c], dim=1)).float()
        return torch.log_softmax(logits, dim=1), (heard, keys, s, c, weights)

    @torch.no_grad()
    def spell(self, heard: Tensor) -> tuple[list[int], Tensor]:
        """The tokens of one utterance, the likeliest at each place, and where each was heard.

        (1, T, H) -> N tokens without the end, weights (N, T); there are at most T.
        """
        state, token = self.start(heard), heard.new_full((1,), END, dtype=torch.long)
        said: list[int] = []
        places = [heard.new_zeros(0, heard.shape[1])]
        while len(said) < heard.shape[1]:
            answer, state = self.next(token, state)
            token = answer.argmax(dim=1)
            if token.item() == END:
                break
            said.append(int(token.item()))
            places.append(state[-1])
        return said, torch.cat(places)
