"""The simple recurrent network, and long short-term memory with or without a projected output."""

import warnings

import torch
from torch import Tensor, nn

from speechgru.model.cells.cell import Cell, Step, gate_products, make_orthogonal

# torch warns once where the processor has no oneDNN kernel for an LSTMP; users can do nothing.
warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")


class RNN(Cell):
    """A recurrent layer without gates (Elman, 1990; Graves et al., 2013, arXiv 1303.5778, eq. 1).

        h' = tanh(W x + b + U h + c)

    H I + H^2 + 2 H parameters.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.state_size = inputs, hidden, (hidden,)
        self.rnn = nn.RNN(inputs, hidden, batch_first=True)
        make_orthogonal(self.rnn.get_parameter("weight_hh_l0"), hidden)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, H) -> (B, T, H), (B, H)."""
        y, last = self.rnn(x, state.unsqueeze(0).contiguous())
        return y, last.squeeze(0)

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, H) -> (B, H), (B, H); there are no gates."""
        from_input, from_state = gate_products(self.rnn, x, state)
        h = torch.tanh(from_input + from_state)
        return Step(h, h, {})


class LSTM(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with forget gates (Gers, 2000).

        i = sigmoid(W_i x + U_i h)    f = sigmoid(W_f x + U_f h)    (biases left out)
        g = tanh(W_g x + U_g h)       o = sigmoid(W_o x + U_o h)
        c' = f * c + i * g            h' = o * tanh(c')

    as in Graves et al. (2013, arXiv 1303.5778, equations 3 to 7), without peepholes.
    4 (H I + H^2 + 2 H) parameters. The state is h and c in one tensor. The bias of the forget gate
    starts at 1 + `keep_bias` (Jozefowicz et al., 2015, section 2.3): an LSTM that forgets at first
    does not learn long dependencies.

    With a `projection` P (LSTMP; Sak et al., 2014, arXiv 1402.1128, equations 7 to 12) the output
    is W_p h', (B, P), and the gates see this of the last step: 4 (H I + H P + 2 H) + H P
    parameters.
    """

    def __init__(
        self, inputs: int, hidden: int, keep_bias: float = 0.0, projection: int = 0
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden = inputs, projection or hidden, hidden
        self.state_size = (self.outputs + hidden,)
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, proj_size=projection)
        make_orthogonal(self.lstm.get_parameter("weight_hh_l0"), hidden)
        forget = slice(hidden, 2 * hidden)
        self.lstm.get_parameter("bias_ih_l0").data[forget] = 1.0 + keep_bias
        self.lstm.get_parameter("bias_hh_l0").data[forget] = 0.0

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, P + H) -> (B, T, P), (B, P + H); without a projection P is H."""
        if x.shape[1] == 1 and not self.training and not x.is_cuda:
            step = self.step(x[:, 0], state)  # takes less than half the time of torch.nn
            return step.y.unsqueeze(1), step.state
        h, c = (part.unsqueeze(0).contiguous() for part in self._split_state(state))
        if x.is_cuda:
            y, (h, c) = self.lstm(x, (h, c))
        else:  # many processors have no LSTM in half precision, and torch then fails
            with torch.autocast(x.device.type, enabled=False):
                y, (h, c) = self.lstm(x.to(state.dtype), (h, c))
        return y, torch.cat([h, c], dim=2).squeeze(0)

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, P + H) -> (B, P), (B, P + H), gates."""
        h, c = self._split_state(state)
        from_input, from_state = gate_products(self.lstm, x, h)
        i, f, g, o = (from_input + from_state).chunk(4, dim=1)
        i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
        c = f * c + i * torch.tanh(g)
        h = o * torch.tanh(c)
        if self.lstm.proj_size:
            h = nn.functional.linear(h, self.lstm.get_parameter("weight_hr_l0"))
        return Step(h, torch.cat([h, c], dim=1), {"input": i, "forget": f, "output": o})

    def _split_state(self, state: Tensor) -> tuple[Tensor, ...]:
        return state.split([self.outputs, self.hidden], dim=1)
