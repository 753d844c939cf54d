from __future__ import annotations

import math

import numpy as np
import pytest

from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import DataError
from helios.features.batch import btc_correlation, features_of, features_with_reference, fill_minutes, log_returns, resample
from helios.features.definitions import CANDLE_COLUMNS, FEATURE_NAMES, FLOW_BOOK_COLUMNS, WARMUP_BARS
from helios.market.candles import CandleBuilder
from tests.unit.features.bars import START, as_bars, random_bars

COLUMN = {name: column for column, name in enumerate(FEATURE_NAMES)}
VALUE = {name: column for column, name in enumerate(BAR_VALUES)}
MINUTE = Timeframe.M1.ns


def last(bars: np.ndarray, name: str) -> float:
    return float(features_of(bars)[-1, COLUMN[name]])


def flat(n_bars: int, price: float = 100.0) -> np.ndarray:
    return np.column_stack([np.full((n_bars, 4), price), np.zeros((n_bars, 4)), np.full((n_bars, 5), np.nan)])


def test_candle_features_are_finite_exactly_from_the_fiftieth_bar() -> None:
    features = features_of(random_bars(80))
    is_whole = np.isfinite(features[:, CANDLE_COLUMNS]).all(1)
    assert list(np.flatnonzero(is_whole)) == list(range(WARMUP_BARS - 1, 80))


def test_history_of_candles_alone_leaves_flow_and_book_unknown() -> None:
    features = features_of(random_bars(80, with_flow=False))
    assert np.isnan(features[:, FLOW_BOOK_COLUMNS]).all()
    assert np.isfinite(features[WARMUP_BARS:, CANDLE_COLUMNS]).all()


def test_features_against_formulas_written_out() -> None:
    bars = random_bars(60, seed=3)
    close, volume = bars[:, VALUE["close"]], bars[:, VALUE["volume"]]
    returns = [math.log(close[i] / close[i - 1]) for i in range(40, 60)]
    mean_return = sum(returns) / 20
    expected = {
        "open_rel": bars[-1, 0] / close[-1] - 1,
        "high_rel": bars[-1, 1] / close[-1] - 1,
        "low_rel": bars[-1, 2] / close[-1] - 1,
        "return_1": returns[-1],
        "return_5": math.log(close[59] / close[54]),
        "return_20": math.log(close[59] / close[39]),
        "volatility_20": math.sqrt(sum((r - mean_return) ** 2 for r in returns) / 19),
        "vwap_20_rel": sum(bars[40:, VALUE["quote_volume"]]) / sum(volume[40:]) / close[-1] - 1,
        "volume_ratio_20": volume[-1] / (sum(volume[40:]) / 20),
        "flow_imbalance": (2 * bars[-1, VALUE["buy_volume"]] - volume[-1]) / volume[-1],
        "trade_count_ratio_20": bars[-1, VALUE["trade_count"]] / (sum(bars[40:, VALUE["trade_count"]]) / 20),
        "sma_50_rel": sum(close[10:]) / 50 / close[-1] - 1,
        "spread_bps": bars[-1, VALUE["spread_bps"]],
        "microprice_bps": bars[-1, VALUE["microprice_bps"]],
        "trade_momentum_10": bars[-1, VALUE["trade_momentum"]],
        "depth_10_log": bars[-1, VALUE["depth_log"]],
        "book_imbalance_10": bars[-1, VALUE["book_imbalance"]],
    }
    assert volume[-1] > 0
    assert {name: last(bars, name) for name in expected} == pytest.approx(expected, rel=1e-11)


def test_volume_change_and_its_volatility_against_formulas_written_out() -> None:
    bars = random_bars(60, seed=4)
    volume = bars[:, VALUE["volume"]].tolist()

    def change(i: int) -> float:
        mean = sum(volume[i - 19 : i + 1]) / 20
        return math.log((volume[i] / mean + 1) / (volume[i - 1] / mean + 1))

    changes = [change(i) for i in range(40, 60)]
    mean = sum(changes) / 20
    assert last(bars, "volume_change_1") == pytest.approx(changes[-1], rel=1e-12)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in changes) / 19)
    assert last(bars, "volume_volatility_20") == pytest.approx(deviation, rel=1e-12)


def test_market_without_any_trade_gives_finite_features() -> None:
    features = features_of(flat(80))[-1]
    assert np.isfinite(features[list(CANDLE_COLUMNS)]).all()
    zero = ("vwap_20_rel", "volume_ratio_20", "volume_change_1", "flow_imbalance", "trade_count_ratio_20", "rsi_14", "macd")
    assert {name: features[COLUMN[name]] for name in zero} == dict.fromkeys(zero, 0.0)
    assert features[COLUMN["close_location"]] == 0.5


def test_vwap_uses_typical_prices_when_one_quote_volume_is_unknown() -> None:
    bars = random_bars(60, seed=5)
    bars[45, VALUE["quote_volume"]] = np.nan
    typical = bars[40:, 1:4].sum(1) / 3
    expected = (typical * bars[40:, 4]).sum() / bars[40:, 4].sum() / bars[-1, 3] - 1
    assert last(bars, "vwap_20_rel") == pytest.approx(expected, rel=1e-12)


def test_indicator_ranges_hold() -> None:
    features = features_of(random_bars(1000, seed=6, volatility=0.02))[WARMUP_BARS:]
    for name in ("rsi_14", "rsi_7", "close_location"):
        column = features[:, COLUMN[name]]
        assert ((column >= 0) & (column <= 1)).all()
    assert (features[:, COLUMN["volume_ratio_20"]] >= 0).all()
    assert (np.abs(features[:, COLUMN["flow_imbalance"]]) <= 1).all()
    assert (features[:, COLUMN["bollinger_upper_rel"]] >= features[:, COLUMN["bollinger_lower_rel"]]).all()
    assert (features[:, COLUMN["high_rel"]] >= 0).all()
    assert (features[:, COLUMN["low_rel"]] <= 0).all()


@pytest.mark.parametrize("n_bars", [0, 1, 7, 8, 14, 15, 19, 20, 25, 26, 33, 34, 49, 50, 51])
def test_short_histories_give_rows_of_their_own_length(n_bars: int) -> None:
    bars = random_bars(60)
    np.testing.assert_array_equal(features_of(bars[:n_bars]), features_of(bars)[:n_bars])


@pytest.mark.parametrize("name", FEATURE_NAMES)
@pytest.mark.parametrize("change", ["truncate", "alter"])
def test_no_feature_looks_ahead(name: str, change: str) -> None:
    bars, reference = random_bars(200, seed=7), random_bars(200, seed=8)
    before = features_with_reference(bars, reference)[:150, COLUMN[name]]
    if change == "truncate":
        after = features_with_reference(bars[:150], reference[:150])[:, COLUMN[name]]
    else:
        bars[150:], reference[150:] = random_bars(50, seed=9) * 7, random_bars(50, seed=10) * 3
        after = features_with_reference(bars, reference)[:150, COLUMN[name]]
    assert np.isfinite(before[-1])
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_every_feature_sees_its_own_bar(name: str) -> None:
    bars, reference = random_bars(200, seed=7), random_bars(200, seed=8)
    before = features_with_reference(bars, reference)[-1, COLUMN[name]]
    bars[-1] = random_bars(1, seed=11)[-1] * 1.3
    assert features_with_reference(bars, reference)[-1, COLUMN[name]] != before


@pytest.mark.parametrize(("column", "value"), [("close", np.nan), ("low", 0.0), ("volume", -1.0), ("open", np.inf), ("high", 1e-3)])
def test_unusable_bars_are_refused(column: str, value: float) -> None:
    bars = random_bars(60)
    bars[33, VALUE[column]] = value
    with pytest.raises(DataError, match="bar 33"):
        features_of(bars)


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        features_of(np.ones((5, 6)))


def test_correlation_equals_numpys() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 200)) * 1e-3
    out = btc_correlation(x, y)
    assert np.isnan(out[:59]).all()
    for i in (59, 60, 150, 199):
        assert out[i] == pytest.approx(np.corrcoef(x[i - 59 : i + 1], y[i - 59 : i + 1])[0, 1], rel=1e-12)


def test_correlation_is_zero_without_movement_and_unknown_with_a_hole() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=100)
    assert (btc_correlation(x, np.full(100, 0.01))[59:] == 0.0).all()
    assert (btc_correlation(np.zeros(100), x)[59:] == 0.0).all()
    hole = x.copy()
    hole[30] = np.nan
    assert np.isnan(btc_correlation(x, hole)[59:90]).all()
    assert btc_correlation(x, hole)[90] == pytest.approx(1.0)


def test_reference_correlates_with_itself_fully() -> None:
    bars = random_bars(100)
    column = features_with_reference(bars, bars, is_reference=True)[:, COLUMN["btc_correlation_60"]]
    assert np.isnan(column[:60]).all()
    assert (column[60:] == 1.0).all()


def test_missing_reference_bars_leave_the_correlation_unknown() -> None:
    bars, reference = random_bars(130), random_bars(130, seed=1)
    reference[10] = np.nan
    column = features_with_reference(bars, reference)[:, COLUMN["btc_correlation_60"]]
    assert np.isnan(column[:71]).all()
    assert np.isfinite(column[71:]).all()


def test_log_returns_longer_than_the_history_are_unknown() -> None:
    assert np.isnan(log_returns(np.array([1.0, 2.0]), 5)).all()


def minutes_with_holes(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_kept = rng.random(400) > 0.2
    times = START + 7 * MINUTE + np.arange(400, dtype=np.int64) * MINUTE
    bars = random_bars(400, seed)
    bars[rng.random((400, 13)) > 0.9] = np.nan
    bars[:, :5] = random_bars(400, seed)[:, :5]
    return times[is_kept], bars[is_kept]


def values(bar: object) -> list[float]:
    return [getattr(bar, name) for name in BAR_VALUES]


@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1])
@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_bars_equal_the_candle_builders(timeframe: Timeframe, seed: int) -> None:
    times, rows = minutes_with_holes(seed)
    builder = CandleBuilder("X", [timeframe])
    given = (as_bars(row[None], start=int(time))[0] for time, row in zip(times, rows))
    built = [bar for minute in given for bar in builder.on_minute(minute)]
    bars, open_times = resample(rows, times, timeframe)
    assert open_times.tolist() == [bar.open_time for bar in built]
    np.testing.assert_allclose(bars, np.array([values(bar) for bar in built]), rtol=1e-13)


def test_filled_minutes_leave_out_old_and_repeated_ones() -> None:
    rows = random_bars(5)
    times = START + np.array([0, 3, 2, 3, 4]) * MINUTE
    filled_times, filled = fill_minutes(times, rows)
    assert filled_times.tolist() == [START + i * MINUTE for i in range(5)]
    np.testing.assert_array_equal(filled[[0, 3, 4]], rows[[0, 1, 4]])
    assert (filled[1:3, :4] == rows[0, 3]).all()
    assert (filled[1:3, 4] == 0).all()
    assert np.isnan(filled[1:3, 5:]).all()


def test_resampling_too_little_gives_no_bar() -> None:
    bars, times = resample(random_bars(4), START + np.arange(4) * MINUTE, Timeframe.M5)
    assert bars.shape == (0, 13)
    assert len(times) == 0


def test_open_times_off_the_minute_are_refused() -> None:
    with pytest.raises(DataError):
        fill_minutes(START + np.array([0, 1]), random_bars(2))
