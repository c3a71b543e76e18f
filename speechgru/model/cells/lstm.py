"""Long short-term memory, plain and with a projected output."""

import warnings

import torch
from torch import Tensor, nn

from speechgru.model.cells.protocol import Cell, Step, layer_products, orthogonal_gates

# Told once by torch where a processor runs an LSTMP; there is nothing that a user could do.
warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")


class LSTM(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with forget gates (Gers, 2000).

        i = sigmoid(W_i x + U_i h)    f = sigmoid(W_f x + U_f h)    (biases left out)
        g = tanh(W_g x + U_g h)       o = sigmoid(W_o x + U_o h)
        c' = f * c + i * g            h' = o * tanh(c')

    as in Graves et al. (2013, arXiv 1303.5778, equations 3 to 7), without peepholes.
    4 (H I + H^2 + 2 H) parameters. The state is h and c in one tensor. The forget gate's bias
    begins at 1 + `keep_bias` (Jozefowicz et al., 2015, section 2.3), as an LSTM that forgets at
    first learns nothing that lasts.

    With a `projection` P (LSTMP; Sak et al., 2014, arXiv 1402.1128, equations 7 to 12) the output
    is W_p h' (B, P), and this is what the gates see of the last step: 4 (H I + H P + 2 H) + H P
    parameters.
    """

    def __init__(
        self, inputs: int, hidden: int, keep_bias: float = 0.0, projection: int = 0
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden = inputs, projection or hidden, hidden
        self.state_size = (self.outputs + hidden,)
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, proj_size=projection)
        orthogonal_gates(self.lstm.get_parameter("weight_hh_l0"), hidden)
        forget = slice(hidden, 2 * hidden)
        self.lstm.get_parameter("bias_ih_l0").data[forget] = 1.0 + keep_bias
        self.lstm.get_parameter("bias_hh_l0").data[forget] = 0.0

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, I), (B, P + H) -> (B, T, P), (B, P + H); without a projection P is H."""
        if x.shape[1] == 1 and not self.training and not x.is_cuda:
            step = self.step(x[:, 0], state)  # in less than half of the time that torch.nn takes
            return step.y.unsqueeze(1), step.state
        h, c = (part.unsqueeze(0).contiguous() for part in self._parts(state))
        if x.is_cuda:
            y, (h, c) = self.lstm(x, (h, c))
        else:  # many processors have no LSTM in half precision, and torch then fails
            with torch.autocast(x.device.type, enabled=False):
                y, (h, c) = self.lstm(x.to(state.dtype), (h, c))
        return y, torch.cat([h, c], dim=2).squeeze(0)

    def step(self, x: Tensor, state: Tensor) -> Step:
        """(B, I), (B, P + H) -> (B, P), (B, P + H), gates."""
        h, c = self._parts(state)
        of_input, of_state = layer_products(self.lstm, x, h)
        i, f, g, o = (of_input + of_state).chunk(4, dim=1)
        i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
        c = f * c + i * torch.tanh(g)
        h = o * torch.tanh(c)
        if self.lstm.proj_size:
            h = nn.functional.linear(h, self.lstm.get_parameter("weight_hr_l0"))
        return Step(h, torch.cat([h, c], dim=1), {"input": i, "forget": f, "output": o})

    def _parts(self, state: Tensor) -> tuple[Tensor, ...]:
        return state.split([self.outputs, self.hidden], dim=1)
