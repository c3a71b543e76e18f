"""A causal Transformer block with a bounded context, so that it can run on a stream."""

import torch
from torch import Tensor, nn

from speechgru.model.cells.cell import Cell, Step

#: Features of an attention head, as closely as a whole number of heads allows.
HEAD_FEATURES = 32
#: Queries in one block: the attention of a long recording is a band, not a square.
_BLOCK_STEPS = 128


def head_count(hidden: int) -> int:
    """The number of heads that divides `hidden` and gives each about `HEAD_FEATURES` features."""
    divisors = [heads for heads in range(1, hidden + 1) if hidden % heads == 0]
    return min(divisors, key=lambda heads: abs(hidden / heads - HEAD_FEATURES))


class CausalTransformer(Cell):
    """Self-attention over the last `context` steps, then a feed-forward network of width 4 H.

        q, k, v = W x    a_t = W_o sum_j softmax_j(q_t . k_{t-j} / sqrt(d) + p_j) v_{t-j}
        y = a + W_2 gelu(W_1 norm(x + a))          j = 0 ... context - 1

    (Vaswani et al., 2017, arXiv 1706.03762, equation 1; a learned p for each head and distance,
    initially the slopes of ALiBi, Press et al., 2022, arXiv 2108.12409, section 3.) The state is
    the keys and values of the last context - 1 steps, so every step costs the same and a stream
    gives what the whole gives. At the start of a recording they are zeros, which are attended to
    like any others.
    """

    def __init__(self, inputs: int, hidden: int, context: int = 50) -> None:
        super().__init__()
        self.inputs, self.outputs, self.context = inputs, hidden, context
        self.heads = head_count(hidden)
        self.state_size = (context - 1, 2 * hidden)
        self.into = nn.Linear(inputs, hidden) if inputs != hidden else nn.Identity()
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.joined = nn.Linear(hidden, hidden)
        slopes = 2.0 ** (-8.0 * torch.arange(1, self.heads + 1) / self.heads)
        distances = torch.arange(context, dtype=torch.float32)
        self.position = nn.Parameter((-slopes[:, None] * distances).flatten())  # heads * context
        self.norm = nn.LayerNorm(hidden)
        self.wide = nn.Linear(hidden, 4 * hidden)
        self.narrow = nn.Linear(4 * hidden, hidden)

    @property
    def multiply_adds(self) -> int:
        """Those by weights, and those of queries with keys and of attention weights with values."""
        return super().multiply_adds + 2 * self.context * self.outputs

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, context - 1, 2 H) -> (B, T, H), (B, context - 1, 2 H)."""
        step = self._attend(x, state)
        return step.y, step.state

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, context - 1, 2 H) -> (B, H), state, mean attention (B, context)."""
        step = self.trace(x.unsqueeze(1), state)
        gates = {name: values.squeeze(1) for name, values in step.gates.items()}
        return Step(step.y.squeeze(1), step.state, gates)

    def trace(self, x: Tensor, state: Tensor) -> Step:
        """(B, T, I), state -> (B, T, H), state, mean attention of the heads (B, T, context)."""
        return self._attend(x, state, keep_weights=True)

    def _attend(self, x: Tensor, state: Tensor, keep_weights: bool = False) -> Step:
        x = self.into(x)
        q, new = self.qkv(x).split([self.outputs, 2 * self.outputs], dim=-1)
        stored = torch.cat([state.to(new.dtype), new], dim=1)  # (B, context - 1 + T, 2 H)
        outputs, weights = [], []
        for first in range(0, x.shape[1], _BLOCK_STEPS):
            queries = q[:, first : first + _BLOCK_STEPS]
            visible = stored[:, first : first + queries.shape[1] + self.context - 1]
            output, block_weights = self._block(queries, visible)
            outputs.append(output)
            if keep_weights:
                weights.append(self._by_distance(block_weights))
        attended = self.joined(torch.cat(outputs, dim=1))
        wide = nn.functional.gelu(self.wide(self.norm(x + attended)))
        gates = {"attention": torch.cat(weights, dim=1)} if keep_weights else {}
        last = stored[:, stored.shape[1] - self.context + 1 :].to(state.dtype)
        return Step(attended + self.narrow(wide), last, gates)

    def _block(self, queries: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H), (B, K, 2 H) -> (B, T, H), weights (B, heads, T, K); K = context - 1 + T."""
        q = self._by_head(queries)
        k, v = (self._by_head(part) for part in visible.chunk(2, dim=-1))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = torch.softmax(scores + self._band(queries.shape[1], scores), dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2), weights

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, heads, T, H / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _band(self, steps: int, like: Tensor) -> Tensor:
        """The position bias, minus infinity outside the band: (heads, T, K)."""
        columns = torch.arange(steps + self.context - 1, device=like.device)
        distance = torch.arange(steps, device=like.device)[:, None] + self.context - 1 - columns
        inside = (distance >= 0) & (distance < self.context)
        position = self.position.view(self.heads, self.context)
        bias = position[:, distance.clamp(0, self.context - 1)]
        return bias.masked_fill(~inside, -torch.inf).to(like.dtype)

    def _by_distance(self, weights: Tensor) -> Tensor:
        """Mean over the heads, by steps back: (B, heads, T, K) -> (B, T, context)."""
        mean = weights.mean(dim=1)
        rows = [mean[:, t, t : t + self.context].flip(-1) for t in range(mean.shape[1])]
        return torch.stack(rows, dim=1)
