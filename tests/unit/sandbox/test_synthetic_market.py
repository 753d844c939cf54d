from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
import pytest
from scipy.signal import lfilter

from helios.domain.market import BAR_VALUES, VenueCandle
from helios.errors import ConfigError
from helios.venues.sandbox.history import synthetic_history
from helios.venues.sandbox.market import SPECS, MacroMarket, MarketConfig, SyntheticHistory, TickMarket

END_NS = 1_767_225_600 * 1_000_000_000
COLUMN = {name: i for i, name in enumerate(BAR_VALUES)}


@pytest.fixture(scope="module")
def quarter() -> SyntheticHistory:
    return MacroMarket(MarketConfig(), 7).history(130_000, END_NS)


def closes(history: SyntheticHistory) -> np.ndarray:
    return np.stack([bars[:, COLUMN["close"]] for bars in history.bars.values()], axis=1)


@lru_cache(maxsize=1)
def long_history(flow_strength: float) -> SyntheticHistory:
    config = MarketConfig(symbols=("BTC/ZAR", "SOL/ZAR", "LINK/ZAR"), flow_strength=flow_strength)
    return MacroMarket(config, 11).history(300_000, END_NS)


def flow_agreement(flow_strength: float, hours: int) -> float:
    """Share of windows in which the sign of the slow flow is the sign of the return over the next `hours`."""
    history = long_history(flow_strength)
    ahead, log_close = 60 * hours, np.log(closes(history))
    flow, returns = history.slow_flow[:-ahead:60], (log_close[ahead:] - log_close[:-ahead])[::60]
    return float((np.sign(flow[: len(returns)]) == np.sign(returns[: len(flow)])).mean())


def test_equal_arguments_give_equal_bars_and_another_seed_gives_others() -> None:
    first, again = (synthetic_history(["BTC/ZAR", "ETH/ZAR"], 500, seed=3) for _ in range(2))
    other = synthetic_history(["BTC/ZAR", "ETH/ZAR"], 500, seed=4)
    np.testing.assert_array_equal(first["ETH/ZAR"][1], again["ETH/ZAR"][1])
    assert not np.array_equal(first["ETH/ZAR"][1], other["ETH/ZAR"][1])


def test_history_ends_at_the_given_time_in_whole_minutes() -> None:
    open_times, bars = synthetic_history(["SOL/ZAR"], 100, seed=1, end_ns=END_NS + 59_999_999_999)["SOL/ZAR"]
    assert open_times[-1] == END_NS - 60_000_000_000
    assert set(np.diff(open_times)) == {60_000_000_000}
    assert bars.shape == (100, 13)


def test_unknown_symbol_is_refused() -> None:
    with pytest.raises(ConfigError, match="DOGEZAR"):
        synthetic_history(["DOGEZAR"], 10, seed=1)


def test_bars_are_sane(quarter: SyntheticHistory) -> None:
    for symbol, bars in quarter.bars.items():
        o, h, l, c = bars[:, :4].T  # noqa: E741
        assert np.isfinite(bars).all()
        assert (l <= np.minimum(o, c)).all()
        assert (h >= np.maximum(o, c)).all()
        assert (l > 0).all()
        assert (bars[:, COLUMN["buy_volume"]] <= bars[:, COLUMN["volume"]]).all()
        tick = float(SPECS[symbol].tick_size)
        np.testing.assert_allclose(np.rint(c / tick) * tick, c, rtol=1e-12)


def test_history_ends_near_the_sensible_level(quarter: SyntheticHistory) -> None:
    for symbol, bars in quarter.bars.items():
        assert bars[-1, COLUMN["close"]] == pytest.approx(SPECS[symbol].level, rel=0.1)


def test_symbols_move_together_but_not_as_one(quarter: SyntheticHistory) -> None:
    hourly = np.diff(np.log(closes(quarter)[::60]), axis=0)
    correlations = np.corrcoef(hourly.T)[np.triu_indices(6, 1)]
    assert correlations.min() > 0.5
    assert correlations.max() < 0.9
    assert 0.55 < correlations.mean() < 0.8


def test_daily_volatility_lies_between_the_regimes_and_changes(quarter: SyntheticHistory) -> None:
    log_close = np.log(closes(quarter))
    minute = np.diff(log_close, axis=0)
    daily = np.diff(log_close[::1440], axis=0).std(axis=0)
    assert ((daily > 0.015) & (daily < 0.06)).all()
    by_day = minute[: len(minute) // 1440 * 1440].reshape(-1, 1440, 6).std(axis=1)
    assert (np.percentile(by_day, 95, axis=0) > 1.8 * np.percentile(by_day, 5, axis=0)).all()


@pytest.mark.parametrize("hours", [4, 6, 8])
def test_slow_flow_tells_the_sign_of_the_coming_hours(hours: int) -> None:
    assert 0.60 < flow_agreement(1.0, hours) < 0.66


def test_without_flow_strength_nothing_is_predictable() -> None:
    assert 0.47 < flow_agreement(0.0, 6) < 0.52


def test_a_minute_alone_is_all_but_unpredictable(quarter: SyntheticHistory) -> None:
    returns = np.diff(np.log(closes(quarter)), axis=0)
    r2 = np.corrcoef(quarter.slow_flow[:-1].ravel(), returns.ravel())[0, 1] ** 2
    assert r2 < 0.004


def test_bars_show_the_flow_in_taker_side_and_book(quarter: SyntheticHistory) -> None:
    bars = quarter.bars["BTC/ZAR"]
    share = bars[:, COLUMN["buy_volume"]] / bars[:, COLUMN["volume"]]
    for seen in (share, bars[:, COLUMN["book_imbalance"]], bars[:, COLUMN["trade_momentum"]]):
        assert np.corrcoef(seen, quarter.slow_flow[:, 0])[0, 1] > 0.25


def test_quarter_of_history_is_quick() -> None:
    start = time.process_time()
    MacroMarket(MarketConfig(), 1).history(130_000, END_NS)
    assert time.process_time() - start < 10.0


def test_ticks_go_on_where_the_history_ended() -> None:
    history = MacroMarket(MarketConfig(), 5).history(3_000, END_NS)
    market = TickMarket(history.state, 5)
    candles = [event for _ in range(60) for event in market.step() if isinstance(event, VenueCandle)]
    assert market.time_ns == END_NS + 60_000_000_000
    assert [candle.open_time for candle in candles] == [END_NS] * 6
    for candle in candles:
        bars = history.bars[candle.symbol]
        usual = np.diff(np.log(bars[-600:, COLUMN["close"]])).std()
        assert abs(np.log(candle.open / bars[-1, COLUMN["close"]])) < 6 * usual


def test_live_minutes_look_like_the_history() -> None:
    history = MacroMarket(MarketConfig(), 5).history(3_000, END_NS)
    market = TickMarket(history.state, 5)
    candles = [event for _ in range(3_600) for event in market.step() if isinstance(event, VenueCandle)]
    for symbol, bars in history.bars.items():
        ours = [candle for candle in candles if candle.symbol == symbol]
        ranges = np.log([c.high / c.low for c in ours]).mean()
        volume = np.mean([c.volume_base for c in ours])
        recent = bars[-120:]
        assert 0.5 < ranges / np.log(recent[:, 1] / recent[:, 2]).mean() < 2.0
        assert 0.4 < volume / recent[:, 4].mean() < 2.5


def test_prices_are_no_white_noise_around_a_level(quarter: SyntheticHistory) -> None:
    # Levels drawn afresh each time would give returns an autocorrelation of -0.5 and let any grid win.
    for step, lowest in ((1, -0.35), (15, -0.08), (240, -0.15)):
        returns = np.diff(np.log(closes(quarter)[::step]), axis=0)
        lagged = [np.corrcoef(returns[1:, i], returns[:-1, i])[0, 1] for i in range(6)]
        assert min(lagged) > lowest


def test_closed_bars_alone_tell_the_sign_of_the_coming_six_hours() -> None:
    history, ahead, weight = long_history(1.0), 360, 0.5 ** (1 / 60)
    agreements = []
    for bars in history.bars.values():
        smooth = lfilter([1 - weight], [1, -weight], bars[:, COLUMN["book_imbalance"]])
        log_close = np.log(bars[:, COLUMN["close"]])
        agreements.append(np.sign(smooth[:-ahead:30]) == np.sign(log_close[ahead:] - log_close[:-ahead])[::30])
    assert 0.58 < np.mean(agreements) < 0.67
