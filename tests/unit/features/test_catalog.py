from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES, Bar
from helios.errors import ConfigError, DataError
from helios.features.batch import features_of
from helios.features.catalog import CATALOG, FAMILIES, GRID_SAMPLE, CatalogStream, compute, microstructure_score, names_of
from helios.features.catalog.frame import INPUTS
from helios.features.definitions import FEATURE_NAMES
from helios.features.subjects import synthetic_bars
from tests.unit.features.bars import START, as_bars, random_bars

MINUTE = Timeframe.M1.ns
VALUE = {name: column for column, name in enumerate(BAR_VALUES)}


def times_of(n_bars: int, step: int = MINUTE, start: int = START) -> np.ndarray:
    return start + np.arange(n_bars, dtype=np.int64) * step


def one(name: str, bars: FloatArray, times: np.ndarray | None = None, mid: FloatArray | None = None) -> FloatArray:
    return compute(bars, [name], times_of(len(bars)) if times is None else times, mid)[:, 0]


def candles(prices: Sequence[float], reach: float = 0.0) -> FloatArray:
    close = np.array(prices, dtype=np.float64)
    open_ = np.concatenate((close[:1], close[:-1]))
    bars = np.full((len(close), 13), np.nan)
    bars[:, 0], bars[:, 3], bars[:, 4] = open_, close, 1.0
    bars[:, 1], bars[:, 2] = np.maximum(open_, close) + reach, np.minimum(open_, close) - reach
    return bars


def test_the_catalog_has_every_family_and_at_least_130_columns() -> None:
    assert len(CATALOG) >= 130
    assert FAMILIES == ("price", "momentum", "volatility", "volume", "microstructure", "statistical", "pattern", "derived", "grid")
    assert sum(name.startswith("pattern_") and name != "pattern_net" for name in CATALOG) == 61


@pytest.mark.parametrize("name", CATALOG)
def test_every_entry_says_what_it_is(name: str) -> None:
    feature = CATALOG[name]
    assert feature.name == name
    assert feature.lookback >= 1
    assert feature.doc.endswith(".")
    assert feature.inputs
    assert set(feature.inputs) <= set(INPUTS)
    assert feature.unit in {"fraction", "price", "bps", "flag", "seconds", "bars", "log", "number"}
    assert feature.low < feature.high


def test_every_finite_value_keeps_its_bounds_in_calm_and_wild_markets() -> None:
    for seed, volatility in enumerate([1e-5, 2e-3, 0.05]):
        bars = random_bars(2_000, seed, volatility)
        bars[:, VALUE["spread_bps"]] = np.abs(bars[:, VALUE["spread_bps"]])
        bars[:, VALUE["book_imbalance"]] = np.tanh(bars[:, VALUE["book_imbalance"]])
        values = compute(bars, None, times_of(len(bars)), bars[:, 3])
        for feature, column in zip(CATALOG.values(), values.T, strict=True):
            known = column[np.isfinite(column)]
            assert len(known), feature.name
            assert feature.low <= known.min(), feature.name
            assert known.max() <= feature.high, feature.name


def test_values_appear_as_soon_as_the_lookback_is_there() -> None:
    times, values = synthetic_bars(3_100, seed=9)
    out = compute(values[:, :13], None, times, values[:, 13])
    late = [
        name
        for column, (name, feature) in enumerate(CATALOG.items())
        if not np.isfinite(out[feature.lookback - 1 : feature.lookback + 60, column]).any()
    ]
    assert late == []


@pytest.mark.parametrize("n_bars", [0, 1, 2, 13, 14, 15, 33, 34, 60, 129])
def test_a_shorter_history_is_a_prefix(n_bars: int) -> None:
    bars, times = random_bars(220), times_of(220)
    whole = compute(bars, None, times, bars[:, 3])
    np.testing.assert_array_equal(compute(bars[:n_bars], None, times[:n_bars], bars[:n_bars, 3]), whole[:n_bars])


def test_the_models_own_indicators_are_the_catalogs() -> None:
    bars = random_bars(400, seed=2)
    model = features_of(bars)
    for ours, theirs in {
        "rsi_14": "rsi_14",
        "sma_20_rel": "sma_20_rel",
        "macd_signal_rel": "macd_signal",
        "vwap_20_rel": "vwap_20_rel",
    }.items():
        np.testing.assert_allclose(one(ours, bars), model[:, FEATURE_NAMES.index(theirs)], rtol=1e-9, atol=1e-12)


def test_candles_alone_leave_flow_and_book_unknown_and_the_rest_known() -> None:
    bars = random_bars(400, with_flow=False)
    values = compute(bars, None, times_of(400))
    flow = {"trade_count", "buy_volume", "spread_bps", "book_imbalance", "depth_log", "trade_momentum", "microprice_bps", "mid"}
    for feature, column in zip(CATALOG.values(), values.T, strict=True):
        needs_flow = bool(flow & set(feature.inputs)) or feature.name == "amihud_20"
        if needs_flow:
            assert np.isnan(column).all(), feature.name
        elif feature.lookback < 300:
            assert np.isfinite(column).any(), feature.name


def test_without_times_or_mid_what_needs_them_is_unknown() -> None:
    bars = random_bars(3_000)
    values = compute(bars)
    for feature, column in zip(CATALOG.values(), values.T, strict=True):
        if {"open_time", "mid"} & set(feature.inputs):
            assert np.isnan(column).all(), feature.name


def test_a_market_that_stands_still_gives_no_numbers_from_nothing() -> None:
    bars = candles([0.1] * 300)
    bars[:, 4] = 0.0
    assert np.isnan(one("close_zscore_20", bars)).all()
    assert np.isnan(one("bollinger_percent_b_20", bars)).all()
    assert np.isnan(one("cci_20", bars)).all()
    assert np.isnan(one("stoch_rsi_k", bars)).all()
    assert np.isnan(one("mfi_14", bars)).all()
    assert (one("obv_change_20", bars)[20:] == 0.0).all()
    assert (one("trend_strength_20", bars)[19:] == 0.0).all()
    assert (one("volatility_20", bars)[20:] == 0.0).all()


def test_a_market_that_comes_to_rest_gives_no_numbers_out_of_rounding() -> None:
    walk = 100.0 * np.exp(np.cumsum(np.random.default_rng(4).normal(0.0, 0.01, 400)))
    bars = candles([*walk, *[float(walk[-1])] * 1_500])
    values = compute(bars, None, times_of(len(bars)))
    for feature, column in zip(CATALOG.values(), values[-800:].T, strict=True):
        if feature.unit == "fraction" and np.isfinite(column).any():
            assert np.nanmax(np.abs(column)) <= 100.0, feature.name


@pytest.mark.parametrize(("row", "column", "value"), [(5, 3, np.nan), (7, 4, -1.0), (0, 1, 1e-3), (3, 0, 1e6), (2, 2, np.inf)])
def test_unusable_bars_are_refused(row: int, column: int, value: float) -> None:
    bars = random_bars(30)
    bars[row, column] = value
    with pytest.raises(DataError, match=f"bar {row}"):
        compute(bars)


def test_wrong_arguments_are_refused() -> None:
    bars = random_bars(30)
    with pytest.raises(DataError, match="shape"):
        compute(bars[:, :5])
    with pytest.raises(DataError, match="times"):
        compute(bars, None, times_of(30)[::-1])
    with pytest.raises(DataError, match="mid"):
        compute(bars, None, None, np.ones(29))
    with pytest.raises(ConfigError, match="nonsense"):
        compute(bars, ["nonsense"])


def test_names_and_families_may_be_mixed() -> None:
    assert names_of("all") == tuple(CATALOG)
    assert names_of(" rsi_14 , grid ")[0] == "rsi_14"
    assert set(names_of("grid,rsi_14")) == {name for name, f in CATALOG.items() if f.family == "grid"} | {"rsi_14"}
    with pytest.raises(ConfigError, match="'elliott'"):
        names_of("price,elliott")


def test_pivots_are_those_of_the_whole_day_before() -> None:
    hours = 24
    closes = [100.0] * hours + [110.0] * 12 + [90.0] * 11 + [96.0] + [100.0] * hours
    bars, times = candles(closes), times_of(72, 3600 * 10**9)
    bars[30, 1], bars[40, 2] = 120.0, 80.0  # the second day: high 120, low 80, close 96
    pivot = (120.0 + 80.0 + 96.0) / 3.0
    wanted = {
        "pivot_standard_p_rel": pivot, "pivot_standard_r1_rel": 2 * pivot - 80, "pivot_standard_s2_rel": pivot - 40,
        "pivot_standard_r3_rel": 120 + 2 * (pivot - 80), "pivot_fibonacci_r1_rel": pivot + 0.382 * 40,
        "pivot_fibonacci_s3_rel": pivot - 40, "pivot_camarilla_r3_rel": 96 + 40 * 1.1 / 4,
        "pivot_camarilla_s4_rel": 96 - 40 * 1.1 / 2,
    }  # fmt: skip
    for name, level in wanted.items():
        values = one(name, bars, times)
        assert np.isnan(values[:24]).all()
        assert values[48:] == pytest.approx(level / bars[48:, 3] - 1.0, rel=1e-12)
        assert values[24] == values[24]  # the first day is whole, so the second has pivots
        assert np.isnan(one(name, bars[1:], times[1:])[:47]).all()  # a day that lacks its start gives none


def test_pivots_do_not_reach_over_a_missing_day() -> None:
    bars = random_bars(72)
    times = times_of(72, 3600 * 10**9)
    times[24:] += 24 * 3600 * 10**9
    values = one("pivot_standard_p_rel", bars, times)
    assert np.isnan(values[:48]).all()
    assert np.isfinite(values[48:]).all()


def test_a_fractal_counts_once_two_bars_have_confirmed_it_and_not_for_ever() -> None:
    bars = candles([100.0] * 130)
    bars[10, 1] = 105.0
    resistance = one("fractal_resistance_rel", bars)
    assert np.isnan(resistance[:12]).all()
    assert resistance[12:110] == pytest.approx(0.05)
    assert np.isnan(resistance[110:]).all()
    bars[12, 1] = 106.0  # higher before the first was confirmed
    assert one("fractal_resistance_rel", bars)[14] == pytest.approx(0.06)
    assert np.isnan(one("fractal_resistance_rel", bars)[13])


def newest_fractal(lows: FloatArray, row: int) -> float:
    for centre in range(row - 2, max(row - 100, 1), -1):
        if all(lows[centre] < lows[centre + side] for side in (-2, -1, 1, 2)):
            return float(lows[centre])
    return math.nan


def test_fractal_support_is_what_a_search_by_hand_finds() -> None:
    bars = random_bars(600, seed=12)
    bars[200:420, 2] = bars[200, 2] * 0.9 * 0.999 ** np.arange(220)  # no turning point for longer than a level lasts
    found = one("fractal_support_rel", bars)
    wanted = [newest_fractal(bars[:, 2], row) / bars[row, 3] - 1.0 for row in range(600)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert np.isnan(found[310:420]).any()


def test_trend_strength_is_the_sign_of_the_slope_times_r_squared() -> None:
    assert one("trend_strength_20", candles(100.0 * 1.01 ** np.arange(30)))[19:] == pytest.approx(1.0)
    assert one("trend_strength_20", candles(100.0 * 0.99 ** np.arange(30)))[19:] == pytest.approx(-1.0)
    assert np.isnan(one("trend_strength_20", candles(100.0 * 1.01 ** np.arange(30)))[:19]).all()


def test_divergences_point_against_the_price() -> None:
    price = np.concatenate((np.linspace(100, 80, 40), np.linspace(80, 76, 20)))  # falls on, but ever more slowly
    price[40::2] += 0.4
    assert one("rsi_divergence_20", candles(price))[-1] == 1.0
    assert one("rsi_divergence_20", candles(200.0 - price))[-1] == -1.0


def test_book_numbers_of_the_grid_set_follow_from_mid_and_distances() -> None:
    bars = candles([100.0] * 10)
    bars[:, VALUE["spread_bps"]], bars[:, VALUE["book_imbalance"]], bars[:, VALUE["microprice_bps"]] = 10.0, 0.5, 2.0
    mid = np.full(10, 100.1)
    assert one("grid_spread", bars, mid=mid)[-1] == pytest.approx(0.1001)
    assert one("grid_micro_price", bars, mid=mid)[-1] == pytest.approx(100.1 * 1.0002)
    score = (0.5 + 0.5 + 1.0 - 0.1 / 100.1) / 3.0
    assert one("grid_microstructure_score", bars, mid=mid)[-1] == pytest.approx(score)
    assert float(microstructure_score(*(np.asarray(x) for x in (10.0, 0.5, 100.0, 100.1)))) == pytest.approx(score)
    assert one("book_quality", bars)[-1] == pytest.approx(0.5)
    assert np.isnan(one("grid_microstructure_score", bars)).all()


def test_the_sample_dictionary_has_nine_inputs_of_the_catalog() -> None:
    assert len(GRID_SAMPLE) == 9
    assert set(GRID_SAMPLE) <= set(CATALOG)


@pytest.mark.parametrize(("step", "n_back"), [(MINUTE, 5), (5 * MINUTE, 1), (15 * MINUTE, None)])
def test_the_five_minute_change_knows_how_long_bars_are(step: int, n_back: int | None) -> None:
    bars = random_bars(40)
    values = one("grid_price_change_5m", bars, times_of(40, step))
    if n_back is None:
        assert np.isnan(values).all()
    else:
        np.testing.assert_allclose(values[n_back:], bars[n_back:, 3] / bars[:-n_back, 3] - 1.0)


def test_trade_times_are_in_seconds() -> None:
    bars = candles([100.0] * 30)
    bars[:, VALUE["trade_count"]] = 12.0
    assert one("seconds_between_trades_20", bars)[-1] == pytest.approx(5.0)
    assert one("trade_rate_20", bars)[-1] == pytest.approx(0.2)
    bars[:, VALUE["trade_count"]] = 0.0
    assert np.isnan(one("seconds_between_trades_20", bars)).all()


def test_a_whole_catalog_stream_equals_the_batch_after_its_warm_up() -> None:
    times, values = synthetic_bars(3_200, seed=10)
    whole = compute(values[:, :13], None, times, values[:, 13])
    stream = CatalogStream()
    bars = as_bars(values[:, :13], start=int(times[0]))
    stream.extend(bars[:3_100], values[:3_100, 13].tolist())
    for row in range(3_100, 3_120):
        got = stream.update(bars[row], float(values[row, 13]))
        np.testing.assert_allclose(got, whole[row], rtol=1e-9, atol=1e-12)
    windows = [column for column, feature in enumerate(CATALOG.values()) if feature.tolerance == 0.0]
    np.testing.assert_array_equal(got[windows], whole[3_119, windows])


def bar_at(minute: int, price: float = 100.0, symbol: str = "X", timeframe: Timeframe = Timeframe.M1) -> Bar:
    return Bar(symbol, timeframe, START + minute * timeframe.ns, price, price, price, price, 1.0)


def test_a_bar_told_twice_or_late_changes_nothing() -> None:
    stream = CatalogStream(["grid_return_simple", "grid_ma_5"])
    for minute in range(6):
        newest = stream.update(bar_at(minute, 100.0 + minute))
    np.testing.assert_array_equal(stream.update(bar_at(5, 999.0)), newest)
    np.testing.assert_array_equal(stream.update(bar_at(2, 999.0)), newest)
    assert stream.update(bar_at(6, 106.0)) == pytest.approx([106.0 / 105.0 - 1.0, 104.0])


@pytest.mark.parametrize(
    "bar", [bar_at(9), bar_at(6, symbol="Y"), bar_at(2, timeframe=Timeframe.M5), bar_at(6, math.nan), bar_at(6, -1.0)]
)
def test_a_gap_a_stranger_or_a_broken_bar_is_refused_and_the_stream_goes_on(bar: Bar) -> None:
    stream = CatalogStream(["grid_return_simple", "grid_ma_5"])
    for minute in range(6):
        stream.update(bar_at(minute, 100.0 + minute))
    with pytest.raises(DataError):
        stream.update(bar)
    with pytest.raises(DataError):
        stream.extend([bar_at(6, 106.0), bar_at(8, 1.0)])
    assert stream.update(bar_at(6, 106.0)) == pytest.approx([106.0 / 105.0 - 1.0, 104.0])


def test_unknown_names_are_refused_by_the_stream() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        CatalogStream(["nonsense"])
