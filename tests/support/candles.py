"""Clean synthetic candles: consistent, liquid, without moves that any check would flag."""

from __future__ import annotations

import numpy as np

from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES

START_NS = 1_735_689_600 * 1_000_000_000  # 2025-01-01T00:00Z
MINUTE_NS = Timeframe.M1.ns


def clean_candles(n: int, *, seed: int = 1, start_ns: int = START_NS, step_ns: int = MINUTE_NS) -> tuple[np.ndarray, np.ndarray]:
    """Return open times (n,) and bars (n, 13), book columns unknown."""
    rng = np.random.default_rng(seed)
    close = np.round(50_000.0 * np.exp(np.cumsum(rng.normal(0, 5e-4, n))), 2)
    open_ = np.concatenate(([50_000.0], close[:-1]))
    bars = np.full((n, len(BAR_VALUES)), np.nan)
    bars[:, 0], bars[:, 3] = open_, close
    bars[:, 1], bars[:, 2] = np.maximum(open_, close) + 1.0, np.minimum(open_, close) - 1.0
    bars[:, 4] = np.round(rng.uniform(1.0, 3.0, n), 5)
    bars[:, 5] = bars[:, 4] * close
    return start_ns + step_ns * np.arange(n, dtype=np.int64), bars
