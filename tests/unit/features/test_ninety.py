"""From trades and books of one symbol to the 90 numbers a model reads: complete, refused when history is short, and in range."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from helios.domain.decisions import N_FEATURES, FloatArray
from helios.domain.market import Bar, MarketSnapshot
from helios.errors import InsufficientHistoryError
from helios.features.definitions import FEATURE_GROUPS, FEATURE_NAMES, WARMUP_BARS, WINDOW_WARMUP_BARS
from helios.features.multi import features_90
from helios.features.stream import FeatureState
from helios.features.window import fill_reference_correlation
from tests.support.tapes import Disorder, minutes_of, streamed, tape

N_MINUTES = 15 * (WINDOW_WARMUP_BARS + 1)
BTC = FEATURE_NAMES.index("btc_correlation_60")
Stream = tuple[list[Bar], dict[int, FloatArray], FeatureState]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return streamed(tape(N_MINUTES, 0, 3.0, Disorder(), seed=1))


@pytest.fixture(scope="module")
def windows(stream: Stream) -> FloatArray:
    """Windows of a symbol with its correlation filled in, shape (3, 60, 30)."""
    minutes, _, state = stream
    _, _, reference = streamed(tape(N_MINUTES, 0, 3.0, Disorder(), seed=2, symbol="BTC"))
    end, market = minutes[-1].close_time, MarketSnapshot("X", Decimal(1), 0)
    return fill_reference_correlation([s.window(end, 1.0, 1.0, market) for s in (state, reference)], "BTC")[0].values


def test_a_live_symbol_has_all_ninety_numbers(stream: Stream, windows: FloatArray) -> None:
    assert windows[:, -1].size == 90
    assert np.isfinite(windows).all()
    np.testing.assert_array_equal(windows[:, -1].reshape(-1)[BTC::30], windows[:, -1, BTC])
    vector = stream[2].vector()
    is_own = np.arange(90) % N_FEATURES != BTC
    np.testing.assert_array_equal(vector[is_own], windows[:, -1].reshape(-1)[is_own])


def test_no_input_is_a_constant(windows: FloatArray) -> None:
    varies = windows.std(axis=1) > 1e-9
    assert [FEATURE_NAMES[column] for column in np.flatnonzero(~varies.all(axis=0))] == []


def test_every_timeframe_counts_ten_five_ten_five() -> None:
    assert [len(columns) for columns in FEATURE_GROUPS.values()] == [10, 5, 10, 5]
    assert sorted(column for columns in FEATURE_GROUPS.values() for column in columns) == list(range(N_FEATURES))


@pytest.mark.parametrize(("n_minutes", "named"), [(10, "1m: 10 of 50"), (200, "5m: 40 of 50"), (749, "15m: 49 of 50")])
def test_short_history_is_refused_whichever_timeframe_lacks_it(n_minutes: int, named: str) -> None:
    events = tape(n_minutes, 0, 3.0, Disorder(), seed=3)
    _, _, state = streamed(events)
    with pytest.raises(InsufficientHistoryError, match=named):
        state.vector()
    times, bars = minutes_of(events)
    with pytest.raises(InsufficientHistoryError, match=f"of {WARMUP_BARS} bars"):
        features_90(bars, times)


def test_ranges_hold_over_a_thousand_minutes(stream: Stream, windows: FloatArray) -> None:
    # RSI is 0..1 here. MACD is a part of the price; the position in the bands follows from its two edges and is not bounded.
    rows = np.array(list(stream[1].values())[-1000:])
    bounds = {
        "rsi_14": (0, 1), "rsi_7": (0, 1), "close_location": (0, 1), "macd": (-0.1, 0.1), "macd_signal": (-0.1, 0.1),
        "volume_ratio_20": (0, 20), "trade_count_ratio_20": (0, 20), "volatility_20": (0, 1), "volume_volatility_20": (0, 10),
        "flow_imbalance": (-1, 1), "book_imbalance_10": (-1, 1), "trade_momentum_10": (-1, 1), "spread_bps": (0, 100),
    }  # fmt: skip
    for name, (least, most) in bounds.items():
        values = rows[:, :, FEATURE_NAMES.index(name)]
        assert ((values >= least) & (values <= most)).all(), name
    assert (np.abs(windows[:, :, BTC]) <= 1.0).all()
