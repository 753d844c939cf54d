from __future__ import annotations

from decimal import Decimal

import numpy as np

from helios.domain.decisions import FeatureWindow
from helios.domain.market import MarketSnapshot
from helios.features.batch import btc_correlation
from helios.features.definitions import CORRELATION_COLUMN
from helios.features.window import fill_reference_correlation

HISTORY = np.random.default_rng(0).normal(size=(2, 3, 500)) * 1e-3  # symbols, timeframes, bars


def window(symbol: str, returns: np.ndarray, bar_time: int = 9) -> FeatureWindow:
    values = np.full((3, 60, 30), 7.0, dtype=np.float32)
    values[:, :, CORRELATION_COLUMN] = np.nan
    return FeatureWindow(symbol, bar_time, values, returns, True, 1.0, 1.0, MarketSnapshot(symbol, Decimal(1), 0))


def filled(*windows: FeatureWindow, reference: str | None = "BTC/ZAR") -> list[np.ndarray]:
    return [w.values[:, :, CORRELATION_COLUMN] for w in fill_reference_correlation(windows, reference)]


def test_correlation_of_every_step_equals_the_batch() -> None:
    btc, eth = HISTORY
    column = filled(window("ETH/ZAR", eth[:, -119:]), window("BTC/ZAR", btc[:, -119:]))[0]
    for timeframe in range(3):
        history = btc_correlation(eth[timeframe], btc[timeframe])[-60:]
        np.testing.assert_array_equal(column[timeframe], history.astype(np.float32))
        np.testing.assert_allclose(
            btc_correlation(eth[timeframe, -119:], btc[timeframe, -119:])[-60:], history, rtol=1e-9, atol=1e-15
        )


def test_reference_itself_is_one_where_its_returns_are_known() -> None:
    returns = HISTORY[0][:, -119:].copy()
    returns[2, :30] = np.nan
    (column,) = filled(window("BTC/ZAR", returns))
    assert (column[:2] == 1.0).all()
    assert np.isnan(column[2, :30]).all()
    assert (column[2, 30:] == 1.0).all()


def test_without_a_reference_the_column_is_unknown() -> None:
    eth = window("ETH/ZAR", HISTORY[1][:, -119:])
    assert np.isnan(filled(eth)[0]).all()
    assert np.isnan(filled(eth, reference=None)[0]).all()


def test_reference_of_another_bar_does_not_count() -> None:
    eth, btc = window("ETH/ZAR", HISTORY[1][:, -119:]), window("BTC/ZAR", HISTORY[0][:, -119:], bar_time=8)
    assert np.isnan(filled(eth, btc)[0]).all()


def test_unmoving_symbol_has_correlation_zero() -> None:
    flat = window("ETH/ZAR", np.zeros((3, 119)))
    assert (filled(flat, window("BTC/ZAR", HISTORY[0][:, -119:]))[0] == 0.0).all()


def test_given_windows_are_untouched_and_the_order_is_kept() -> None:
    given = [window(name, HISTORY[i % 2][:, -119:]) for i, name in enumerate(("A", "BTC/ZAR", "C"))]
    result = fill_reference_correlation(given, "BTC/ZAR")
    assert [w.symbol for w in result] == ["A", "BTC/ZAR", "C"]
    assert np.isnan(given[0].values[:, :, CORRELATION_COLUMN]).all()
    assert not result[0].values.flags.writeable
    assert (result[0].values[:, :, 0] == 7.0).all()
