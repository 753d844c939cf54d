"""Candlestick patterns: all 61 of TA-Lib, as -1 (bearish), 0 and 1 (bullish).

Chart patterns (head and shoulders, triangles, flags), Elliott waves and harmonic patterns are left out on purpose: they need a
turning point to be chosen, which is known only long after it happened, and every choice of it is a free parameter. The fractal
levels of the price family and the divergences of the derived family carry what can be said causally.

TA-Lib compares bodies and ranges with averages that it keeps as running sums. Differences of neighbouring prices and their sums
are exact in floating point while ten bars' ranges add up to less than the price, so older bars leave no trace in any ordinary
market. After a jump by orders of magnitude they may: a comparison that is a tie (price standing still) can then fall either way.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import talib
from talib import abstract

from helios.domain.decisions import FloatArray
from helios.features.catalog.frame import CANDLE, CatalogFeature, Frame

NAMES: Final[tuple[str, ...]] = tuple(sorted(talib.get_function_groups()["Pattern Recognition"]))  # type: ignore[no-untyped-call]
"""TA-Lib's names, all with the prefix CDL."""


def pattern(frame: Frame, name: str) -> FloatArray:
    """Return the sign of TA-Lib's answer at each bar; NaN before it has the bars it needs."""

    def compute() -> FloatArray:
        out = np.sign(getattr(talib, name)(frame.open, frame.high, frame.low, frame.close)).astype(np.float64)
        out[: _lookback(name)] = np.nan  # TA-Lib gives 0 there
        return np.asarray(out, dtype=np.float64)

    return frame.memo(name, compute)


def _lookback(name: str) -> int:
    return int(abstract.Function(name).lookback)  # type: ignore[attr-defined]


def _net(frame: Frame) -> FloatArray:
    total = np.zeros(frame.n_bars)
    for name in NAMES:
        total += pattern(frame, name)
    return total


_pattern = partial(CatalogFeature, family="pattern", inputs=CANDLE, unit="flag")

FEATURES: Final[tuple[CatalogFeature, ...]] = (
    *(
        _pattern(
            name=f"pattern_{name.removeprefix('CDL').lower()}",
            lookback=_lookback(name) + 1,
            doc=f"Sign of TA-Lib's {name}.",
            compute=partial(pattern, name=name),
            low=-1.0,
            high=1.0,
        )
        for name in NAMES
    ),
    _pattern(
        name="pattern_net",
        lookback=max(_lookback(name) for name in NAMES) + 1,
        doc="Sum of all pattern signs.",
        compute=_net,
        unit="number",
    ),
)
