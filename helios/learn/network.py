"""The tier-2 network: three recurrent branches, attention over three tokens, dense head, logits out.

References
----------
.. [1] Tallec, Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helios.domain.decisions import N_FEATURES, WINDOW_STEPS
from helios.domain.enums import FEATURE_TIMEFRAMES, Action
from helios.errors import ConfigError

N_TIMEFRAMES = len(FEATURE_TIMEFRAMES)
N_CLASSES = len(Action)
N_HEADS = 8
DENSE_SIZES = (512, 256, 128)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes
    ----------
    preset : str
        Name of the size, kept in the model card.
    lstm_hidden, lstm_layers, gru_hidden : int
        Recurrent sizes of each branch; `gru_hidden` is the token size and a multiple of the eight attention heads.
    dropout : float
        Between LSTM layers and after each dense layer.
    """

    preset: str
    lstm_hidden: int
    lstm_layers: int
    gru_hidden: int
    dropout: float = 0.3


PRESETS: dict[str, NetworkConfig] = {
    "starter": NetworkConfig("starter", lstm_hidden=64, lstm_layers=1, gru_hidden=32),
    "compact": NetworkConfig("compact", lstm_hidden=256, lstm_layers=2, gru_hidden=128),
    "full": NetworkConfig("full", lstm_hidden=768, lstm_layers=3, gru_hidden=384),
}


def preset(name: str) -> NetworkConfig:
    """Return the sizes of a named preset.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown model preset: {name} (one of {', '.join(PRESETS)})")
    return PRESETS[name]


class Branch(nn.Module):
    """One timeframe: LSTM then GRU over the sequence; the last hidden state is the token."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        # torch applies LSTM dropout between layers only and warns where there is a single one
        between = config.dropout if config.lstm_layers > 1 else 0.0
        self.lstm = nn.LSTM(N_FEATURES, config.lstm_hidden, config.lstm_layers, batch_first=True, dropout=between)
        self.gru = nn.GRU(config.lstm_hidden, config.gru_hidden, batch_first=True)
        self._remember()

    def forward(self, steps: Tensor) -> Tensor:
        hidden, _ = self.lstm(steps)  # (B, T, 30) -> (B, T, lstm)
        _, last = self.gru(hidden)  # (B, T, lstm) -> (1, B, gru)
        token: Tensor = last[-1]  # (B, gru)
        return token

    @torch.no_grad()
    def _remember(self) -> None:
        """Spread the memory of the units over 1 to T steps at the start (chrono initialisation, [1] section 2).

        What predicts here are slow averages. With torch's gate biases around zero every unit forgets half of its state at each
        step, and no gradient reaches the oldest ones.
        """
        for layer in range(self.lstm.num_layers):
            span = _log_spans(self.lstm.hidden_size)
            _set_bias(self.lstm, layer, torch.cat([-span, span]), first=0)  # torch's order: input, forget, cell, output
        _set_bias(self.gru, 0, _log_spans(self.gru.hidden_size), first=self.gru.hidden_size)  # reset, update, new


def _log_spans(n_units: int) -> Tensor:
    return torch.linspace(1.0, WINDOW_STEPS - 1.0, n_units).log()


def _set_bias(cell: nn.LSTM | nn.GRU, layer: int, values: Tensor, first: int) -> None:
    part = slice(first, first + len(values))
    getattr(cell, f"bias_ih_l{layer}")[part] = values
    getattr(cell, f"bias_hh_l{layer}")[part] = 0.0  # the two biases add up


class TimeframeAttentionNet(nn.Module):
    """Classify a window of three timeframes as BUY, SELL or HOLD.

    Parameters
    ----------
    config : NetworkConfig
        Sizes; see `PRESETS`.

    Notes
    -----
    Input is (batch, 3, 60, 30) float32, standardised and without NaN (`FeatureScaler.transform`). The output is a pair: logits
    (batch, 3), **not** probabilities, since cross-entropy and temperature scaling both need logits; and attention (batch, 3),
    the mean attention each timeframe receives over heads and queries, which sums to 1 per row.
    Layer norm rather than batch norm in the head: a row's answer must not depend on its neighbours, also while training on
    several workers.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.branches = nn.ModuleList(Branch(config) for _ in range(N_TIMEFRAMES))
        self.token_norm = nn.LayerNorm(config.gru_hidden)
        self.attention = nn.MultiheadAttention(config.gru_hidden, N_HEADS, batch_first=True)
        self.norm = nn.LayerNorm(config.gru_hidden)
        self.head = _dense_head(N_TIMEFRAMES * config.gru_hidden, config.dropout)
        self.apply(_initialise)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        encoded = [branch(windows[:, i]) for i, branch in enumerate(self.branches)]  # 3 x (B, T, 30) -> 3 x (B, gru)
        # hidden states are small at first; without this norm the attention starts, and tends to stay, uniform
        tokens = self.token_norm(torch.stack(encoded, dim=1))  # (B, 3, gru)
        mixed, weights = self.attention(tokens, tokens, tokens)  # (B, 3, gru), (B, 3 queries, 3 keys)
        fused = self.norm(tokens + mixed)  # (B, 3, gru)
        logits = self.head(fused.flatten(1))  # (B, 3 * gru) -> (B, 3 classes)
        return logits, weights.mean(dim=1)  # (B, 3 classes), (B, 3 timeframes)


def _dense_head(n_inputs: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in DENSE_SIZES:
        layers += [nn.Linear(n_inputs, size), nn.LayerNorm(size), nn.ReLU(), nn.Dropout(dropout)]
        n_inputs = size
    return nn.Sequential(*layers, nn.Linear(n_inputs, N_CLASSES))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def parameter_count(net: nn.Module) -> int:
    """Return the number of trainable numbers in `net`."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def example_shape(n_rows: int) -> tuple[int, int, int, int]:
    """Return the input shape for `n_rows` windows."""
    return (n_rows, N_TIMEFRAMES, WINDOW_STEPS, N_FEATURES)
