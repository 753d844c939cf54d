"""A recorded session of trades and book updates through a symbol's state: flow and book features are real numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from helios.domain.decisions import FeatureWindow
from helios.domain.enums import Timeframe
from helios.features.definitions import FEATURE_NAMES, FLOW_BOOK_COLUMNS
from helios.pipeline.symbol import SymbolState
from helios.venues.replay.open import open_replay
from tests.support.pipeline_values import MINUTE_NS

ROOT = Path(__file__).resolve().parents[2]
SESSION = Path(os.environ.get("HELIOS_REALDATA", ROOT.parent / "shared/data/recorded")) / "binance-l2-2024-07-18"
COUNT_RATIO = FEATURE_NAMES.index("trade_count_ratio_20")

pytestmark = [pytest.mark.realdata, pytest.mark.skipif(not SESSION.is_dir(), reason="recorded session not found")]


@pytest.fixture(scope="module")
def replayed() -> tuple[SymbolState, list[FeatureWindow]]:
    source = open_replay(str(SESSION), ["BTC/USDT:USDT"])["BTC/USDT:USDT"]
    state = SymbolState(source.instrument, Timeframe.M1)
    first = (source.start_ns // MINUTE_NS + 1) * MINUTE_NS
    for until in range(first, source.end_ns, MINUTE_NS):
        state.on_events(source.read_until(until), until)
    return state, list(state.drain().windows)


def newest(window: FeatureWindow) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, window.values[0, -1].astype(float), strict=True))


def test_every_minute_gives_a_window_whose_market_is_of_that_minute(replayed: tuple[SymbolState, list[FeatureWindow]]) -> None:
    state, windows = replayed
    assert len(windows) >= 7
    assert set(np.diff([w.bar_time for w in windows])) == {MINUTE_NS}
    assert (state.book_desyncs, state.builder.late_trades) == (0, 0)
    for window in windows:
        market = window.market
        assert window.bar_time - MINUTE_NS < market.ts_event <= window.bar_time
        assert market.bids[0][0] < market.asks[0][0]
        assert float(market.last) == window.close


def test_flow_and_book_features_are_finite_and_within_their_bounds(replayed: tuple[SymbolState, list[FeatureWindow]]) -> None:
    # The count ratio compares with the last twenty minutes, more than the session may have; all others are known at once.
    known = [c for c in FLOW_BOOK_COLUMNS if c != COUNT_RATIO]
    for window in replayed[1][1:]:
        assert np.isfinite(window.values[0, -1, known]).all()
        row = newest(window)
        assert 0 < row["spread_bps"] < 5
        for name in ("flow_imbalance", "book_imbalance_10", "trade_momentum_10"):
            assert abs(row[name]) <= 1
        assert abs(row["microprice_bps"]) <= row["spread_bps"]
        assert 10 < row["depth_10_log"] < 20
    for index, window in enumerate(replayed[1]):
        assert np.isfinite(window.values[0, -1, COUNT_RATIO]) == (index >= 19)
