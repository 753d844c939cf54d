"""The 30 features of one timeframe: names, groups and how much history they need.

The order is part of every trained model. Formulas are in `stream` (one bar at a time) and `batch` (whole history), which give
the same numbers. Where the table leaves a case open, it is settled so that minutes without trades stay finite:

- `vwap_20_rel`, `volume_ratio_20` and `volume_change_1` are 0 when nothing was traded in the last 20 bars;
- `flow_imbalance` is 0 for a bar known to have no trades and `trade_count_ratio_20` is 0 when the last 20 had none;
- `close_location` is 0.5 for a bar without range; RSI is 0 when price has not moved (as in TA-Lib).

Unknown inputs (no trades, no book) give NaN, never a made-up value.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

from helios.domain.decisions import N_FEATURES, WINDOW_STEPS

FEATURE_NAMES: Final[tuple[str, ...]] = (
    "open_rel", "high_rel", "low_rel",
    "return_1", "return_5", "return_20",
    "volatility_20", "close_location", "vwap_20_rel", "spread_bps",
    "volume_ratio_20", "volume_change_1", "volume_volatility_20", "flow_imbalance", "trade_count_ratio_20",
    "rsi_14", "rsi_7", "macd", "macd_signal",
    "sma_20_rel", "sma_50_rel", "ema_12_rel", "ema_26_rel",
    "bollinger_upper_rel", "bollinger_lower_rel",
    "book_imbalance_10", "depth_10_log", "trade_momentum_10", "btc_correlation_60", "microprice_bps",
)  # fmt: skip
"""Names in column order."""

FEATURE_GROUPS: Final[dict[str, tuple[int, ...]]] = {
    "price": tuple(range(10)),
    "volume": tuple(range(10, 15)),
    "technical": tuple(range(15, 25)),
    "market": tuple(range(25, 30)),
}
"""Columns by origin: 10 price, 5 volume, 10 technical, 5 market; every column is in exactly one."""

FLOW_BOOK_COLUMNS: Final[tuple[int, ...]] = (9, 13, 14, 25, 26, 27, 29)
"""Columns that need trades or a book; NaN in history made of candles alone."""

CORRELATION_COLUMN: Final = 28
"""`btc_correlation_60`: needs the reference symbol, so it is filled where all symbols meet."""

CANDLE_COLUMNS: Final[tuple[int, ...]] = tuple(
    column for column in range(N_FEATURES) if column not in FLOW_BOOK_COLUMNS and column != CORRELATION_COLUMN
)
"""Columns that candles alone determine."""

CORRELATION_BARS: Final = 60
"""Returns in one correlation."""

WARMUP_BARS: Final = 50
"""Bars until every candle feature is finite; `sma_50_rel` is the slowest."""

RETURNS_KEPT: Final = WINDOW_STEPS + CORRELATION_BARS - 1
"""One-bar returns that a window carries: enough for a correlation at each of its steps."""

WINDOW_WARMUP_BARS: Final = max(WARMUP_BARS + WINDOW_STEPS - 1, RETURNS_KEPT + 1)
"""Bars per timeframe until a `FeatureWindow` is warm."""

SETTLED_BARS: Final = WINDOW_STEPS + math.ceil(math.log(1e-12) / math.log(13.0 / 14.0))
"""Bars per timeframe to reload after a restart: by then the seed of the slowest recursive average (Wilder's 14, which keeps
13/14 a bar) weighs less than 1e-12 in every row of the window, so it is as if the state had never been lost."""

_FORMULAS_VERSION: Final = 1


def schema_hash() -> str:
    """Return 16 hex digits that change with names, order, window length or formulas; models are stored with it."""
    text = "|".join((*FEATURE_NAMES, str(WINDOW_STEPS), str(CORRELATION_BARS), str(_FORMULAS_VERSION)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
