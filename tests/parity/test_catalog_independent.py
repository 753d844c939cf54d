"""Every kind of catalog feature against a computation that is not ours: TA-Lib, pandas, statsmodels, scipy."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib
from scipy import stats
from statsmodels.tsa.stattools import acf, pacf

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.features.catalog import CATALOG, compute
from tests.unit.features.bars import START, random_bars

RECORDED = Path(os.environ.get("HELIOS_REALDATA", Path(__file__).resolve().parents[2].parent / "shared/data/recorded"))
FILES = ("binance-perp-1m-2025-02/BTCUSDT", "binance-perp-1m-2025-05/XRPUSDT", "binanceus-spot-1m-2023-03/BTCUSDC")
SERIES = ["walk", *(pytest.param(name, marks=pytest.mark.realdata) for name in FILES)]
N_BARS = 6_000
SETTLED = 3_000  # from here on no average shows where it began

Expected = Callable[[pd.DataFrame], "FloatArray | pd.Series"]


@cache
def frame(name: str) -> pd.DataFrame:
    columns = ["open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume"]
    if name == "walk":
        return pd.DataFrame(random_bars(N_BARS, seed=5)[:, :8], columns=columns)
    path = RECORDED / f"{name}_1m.parquet"
    if not path.exists():
        pytest.skip(f"recorded candles not found: {path}")
    table = pl.read_parquet(path).head(N_BARS)
    candles = table.select("open", "high", "low", "close", "volume").to_pandas()
    return candles.astype(np.float64)


@cache
def ours(name: str) -> FloatArray:
    data = frame(name)
    bars = np.full((len(data), 13), np.nan)
    bars[:, : data.shape[1]] = data.to_numpy()
    return compute(bars, open_times=START + np.arange(len(data), dtype=np.int64) * Timeframe.M1.ns)


def column(name: str, feature: str) -> FloatArray:
    return ours(name)[:, list(CATALOG).index(feature)]


def hlc(d: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
    return d.high.to_numpy(), d.low.to_numpy(), d.close.to_numpy()


def log_returns(d: pd.DataFrame) -> pd.Series:
    return np.log(d.close).diff()


def ewm(x: pd.Series, period: int) -> pd.Series:
    return x.ewm(span=period, adjust=False).mean()


def wilder(x: pd.Series, period: int) -> pd.Series:
    return x.ewm(alpha=1 / period, adjust=False).mean()


def mean_true_range(d: pd.DataFrame, period: int) -> pd.Series:
    before = d.close.shift()
    parts = pd.concat([d.high - d.low, (d.high - before).abs(), (d.low - before).abs()], axis=1)
    return wilder(parts.max(axis=1), period)


def rsi(d: pd.DataFrame, period: int) -> pd.Series:
    step = d.close.diff()
    gain, loss = wilder(step.clip(lower=0).fillna(0), period), wilder((-step).clip(lower=0).fillna(0), period)
    return gain / (gain + loss)


def macd(d: pd.DataFrame) -> pd.Series:
    return ewm(d.close, 12) - ewm(d.close, 26)


def deviation(x: pd.Series, period: int, ddof: int = 0) -> FloatArray:
    # Window by window: pandas' own rolling deviation keeps running sums and is noise where a market stands still.
    windows = np.lib.stride_tricks.sliding_window_view(x.to_numpy(), period)
    return np.concatenate((np.full(period - 1, np.nan), windows.std(1, ddof=ddof)))


def percent_b(d: pd.DataFrame, period: int) -> pd.Series:
    spread = deviation(d.close, period)
    return (d.close - d.close.rolling(period).mean() + 2 * spread) / (4 * spread)


def money_flow(d: pd.DataFrame) -> pd.Series:
    reach = (d.high - d.low).replace(0.0, np.nan)
    return (((d.close - d.low) - (d.high - d.close)) / reach * d.volume).fillna(0.0)


def dema(d: pd.DataFrame) -> pd.Series:
    once = ewm(d.close, 20)
    return 2 * once - ewm(once, 20)


def tema(d: pd.DataFrame) -> pd.Series:
    once = ewm(d.close, 20)
    twice = ewm(once, 20)
    return 3 * once - 3 * twice + ewm(twice, 20)


def directional(d: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    up, down = d.high.diff(), -d.low.diff()
    plus, minus = up.where((up > down) & (up > 0), 0.0), down.where((down > up) & (down > 0), 0.0)
    reach = mean_true_range(d, 14)
    return wilder(plus, 14) / reach, wilder(minus, 14) / reach


def adx(d: pd.DataFrame) -> pd.Series:
    plus, minus = directional(d)
    return wilder(((plus - minus).abs() / (plus + minus)).fillna(0), 14)


def since_extreme(x: pd.Series, *, is_max: bool) -> pd.Series:
    def newest(window: FloatArray) -> float:
        return float(np.argmax(window[::-1]) if is_max else np.argmin(window[::-1]))

    return 1 - x.rolling(26).apply(newest, raw=True) / 25


def regressed(x: pd.Series, period: int) -> FloatArray:
    windows = np.lib.stride_tricks.sliding_window_view(x.to_numpy(), period)
    fits = [stats.linregress(np.arange(period), w) for w in windows[:: len(windows) // 40]]
    out = np.full(len(x), np.nan)
    out[np.arange(0, len(windows), len(windows) // 40) + period - 1] = [np.sign(f.slope) * f.rvalue**2 for f in fits]
    return out


def sampled(x: pd.Series, period: int, function: Callable[[FloatArray], float]) -> FloatArray:
    out = np.full(len(x), np.nan)
    for end in range(SETTLED, len(x), 101):
        out[end] = function(x.to_numpy()[end - period + 1 : end + 1])
    return out


def shannon(window: FloatArray) -> float:
    counts, _ = np.histogram(window, bins=8)
    return float(stats.entropy(counts) / np.log(8))


def hurst(closes: FloatArray) -> float:
    x, lags = np.log(closes), np.array([1, 2, 4, 8, 16])
    deviations = [np.std(x[lag:] - x[:-lag], ddof=1) for lag in lags]
    return float(np.polyfit(np.log(lags), np.log(deviations), 1)[0])


def ordinal(window: FloatArray) -> float:
    orders = pd.Series([tuple(np.argsort(window[i : i + 3], kind="stable")) for i in range(len(window) - 2)])
    return float(stats.entropy(orders.value_counts().to_numpy()) / np.log(6))


# Offset 1 for "level over close less 1": 1e-9 then means 1e-9 of the level, as for every number computed from prices.
LEVELS: dict[str, Expected] = {
    **{f"sma_{n}_rel": (lambda d, n=n: talib.SMA(d.close.to_numpy(), n)) for n in (10, 20, 50, 100, 200)},
    **{f"ema_{n}_rel": (lambda d, n=n: ewm(d.close, n)) for n in (10, 20, 50, 100, 200)},
    "vwap_20_rel": lambda d: (
        d.quote_volume.rolling(20).sum() / d.volume.rolling(20).sum()
        if "quote_volume" in d
        else (d.volume * (d.high + d.low + d.close) / 3).rolling(20).sum() / d.volume.rolling(20).sum()
    ),
    "twap_20_rel": lambda d: d[["open", "high", "low", "close"]].mean(axis=1).rolling(20).mean(),
    "dema_20_rel": dema,
    "tema_20_rel": tema,
    "zlema_20_rel": lambda d: ewm((2 * d.close - d.close.shift(9)).bfill(), 20),
    "wma_20_rel": lambda d: talib.WMA(d.close.to_numpy(), 20),
    "hull_20_rel": lambda d: talib.WMA(2 * talib.WMA(d.close.to_numpy(), 10) - talib.WMA(d.close.to_numpy(), 20), 4),
    "vwma_20_rel": lambda d: (d.close * d.volume).rolling(20).sum() / d.volume.rolling(20).sum(),
    "keltner_upper_rel": lambda d: ewm(d.close, 20) + 2 * mean_true_range(d, 10),
    "keltner_lower_rel": lambda d: ewm(d.close, 20) - 2 * mean_true_range(d, 10),
    "donchian_upper_20_rel": lambda d: d.high.rolling(20).max(),
    "donchian_lower_55_rel": lambda d: d.low.rolling(55).min(),
}

VALUES: dict[str, Expected] = {
    **{f"rsi_{n}": (lambda d, n=n: rsi(d, n)) for n in (7, 14, 21)},
    "stoch_rsi_d": lambda d: (
        ((rsi(d, 14) - rsi(d, 14).rolling(14).min()) / (rsi(d, 14).rolling(14).max() - rsi(d, 14).rolling(14).min()))
        .rolling(3)
        .mean()
    ),
    "stochastic_k": lambda d: talib.STOCH(*hlc(d), 14, 3, 0, 3, 0)[0] / 100,
    "stochastic_d": lambda d: talib.STOCH(*hlc(d), 14, 3, 0, 3, 0)[1] / 100,
    "williams_r_14": lambda d: talib.WILLR(*hlc(d), 14) / 100,
    "macd_rel": lambda d: macd(d) / d.close,
    "macd_signal_rel": lambda d: ewm(macd(d), 9) / d.close,
    "macd_signal_slope": lambda d: (ewm(macd(d), 9) / d.close).diff(),
    "roc_10": lambda d: talib.ROCP(d.close.to_numpy(), 10),
    "momentum_10_rel": lambda d: talib.MOM(d.close.to_numpy(), 10) / d.close,
    "ultimate_oscillator": lambda d: talib.ULTOSC(*hlc(d), 7, 14, 28) / 100,
    "awesome_oscillator_rel": lambda d: (
        ((d.high + d.low) / 2).rolling(5).mean().sub(((d.high + d.low) / 2).rolling(34).mean()) / d.close
    ),
    "cci_20": lambda d: talib.CCI(*hlc(d), 20),
    "adx_14": adx,
    "plus_di_14": lambda d: directional(d)[0],
    "minus_di_14": lambda d: directional(d)[1],
    "aroon_up_25": lambda d: since_extreme(d.high, is_max=True),
    "aroon_down_25": lambda d: since_extreme(d.low, is_max=False),
    "trix_15": lambda d: ewm(ewm(ewm(d.close, 15), 15), 15).pct_change(),
    "cmo_14": lambda d: 2 * rsi(d, 14) - 1,
    "atr_14": lambda d: mean_true_range(d, 14),
    "natr_50": lambda d: mean_true_range(d, 50) / d.close,
    "true_range_rel": lambda d: talib.TRANGE(*hlc(d)) / d.close,
    "bollinger_percent_b_20": lambda d: percent_b(d, 20),
    "bollinger_bandwidth_50": lambda d: 4 * deviation(d.close, 50) / d.close.rolling(50).mean(),
    "volatility_20": lambda d: deviation(log_returns(d), 20, 1),
    "parkinson_20": lambda d: (np.log(d.high / d.low) ** 2).rolling(20).mean().div(4 * np.log(2)) ** 0.5,
    "garman_klass_20": lambda d: (
        (0.5 * np.log(d.high / d.low) ** 2 - (2 * np.log(2) - 1) * np.log(d.close / d.open) ** 2).rolling(20).mean() ** 0.5
    ),
    "obv_change_20": lambda d: pd.Series(talib.OBV(d.close.to_numpy(), d.volume.to_numpy())).diff(20) / d.volume.rolling(20).mean(),
    "ad_change_50": lambda d: pd.Series(talib.AD(*hlc(d), d.volume.to_numpy())).diff(50) / d.volume.rolling(50).mean(),
    "adosc_3_10": lambda d: talib.ADOSC(*hlc(d), d.volume.to_numpy(), 3, 10) / d.volume.rolling(20).mean(),
    "cmf_20": lambda d: money_flow(d).rolling(20).sum() / d.volume.rolling(20).sum(),
    "mfi_14": lambda d: talib.MFI(*hlc(d), d.volume.to_numpy() * 1e6, 14) / 100,  # TA-Lib calls flows below 1 none at all
    "vpt_change_20": lambda d: (d.close.pct_change() * d.volume).rolling(20).sum() / d.volume.rolling(20).mean(),
    "volume_zscore_50": lambda d: (d.volume - d.volume.rolling(50).mean()) / d.volume.rolling(50).std(),
    "close_zscore_20": lambda d: (d.close - d.close.rolling(20).mean()) / deviation(d.close, 20, 1),
    "close_rank_100": lambda d: d.close.rolling(100).rank(pct=True, method="max"),
    "autocorrelation_1_50": lambda d: sampled(log_returns(d), 50, lambda w: acf(w, nlags=1)[1]),
    "autocorrelation_5_50": lambda d: sampled(log_returns(d), 50, lambda w: acf(w, nlags=5)[5]),
    "partial_autocorrelation_2_50": lambda d: sampled(log_returns(d), 50, lambda w: pacf(w, 2, method="ldb")[2]),
    "partial_autocorrelation_3_50": lambda d: sampled(log_returns(d), 50, lambda w: pacf(w, 3, method="ldb")[3]),
    "entropy_50": lambda d: sampled(log_returns(d), 50, shannon),
    "permutation_entropy_50": lambda d: sampled(d.close, 50, ordinal),
    "hurst_128": lambda d: sampled(d.close, 128, hurst),
    "skew_50": lambda d: sampled(log_returns(d), 50, stats.skew),
    "kurtosis_20": lambda d: sampled(log_returns(d), 20, stats.kurtosis),
    "efficiency_ratio_20": lambda d: d.close.diff(20).abs() / d.close.diff().abs().rolling(20).sum(),
    "trend_strength_20": lambda d: regressed(np.log(d.close), 20),
    "trend_slope_50": lambda d: talib.LINEARREG_SLOPE(np.log(d.close.to_numpy()), 50),
    "grid_ma_5": lambda d: talib.SMA(d.close.to_numpy(), 5),
    "grid_volatility_5": lambda d: log_returns(d).rolling(5).std() * np.sqrt(365 * 1440),
    "grid_rsi_14": lambda d: d.close.diff().clip(lower=0).rolling(14).mean() / d.close.diff().abs().rolling(14).mean(),
    "grid_band_position": lambda d: percent_b(d, 20),
    "grid_return_simple": lambda d: d.close.pct_change(),
    "grid_price_change_5m": lambda d: d.close.pct_change(5),
}


def yang_zhang(d: pd.DataFrame) -> pd.Series:
    weight = 0.34 / (1.34 + 21 / 19)
    up, down, body = np.log(d.high / d.open), np.log(d.low / d.open), np.log(d.close / d.open)
    rogers_satchell = (up * (up - body) + down * (down - body)).rolling(20).mean()
    overnight = np.log(d.open / d.close.shift()).rolling(20).var()
    return (overnight + weight * body.rolling(20).var() + (1 - weight) * rogers_satchell) ** 0.5


def kyle(d: pd.DataFrame) -> pd.Series:
    flow = d.buy_volume - (d.volume - d.buy_volume)
    return log_returns(d).rolling(50).cov(flow) / flow.rolling(50).var() * d.volume.rolling(50).mean()


def roll_spread(d: pd.DataFrame) -> pd.Series:
    covariance = log_returns(d).rolling(50).cov(log_returns(d).shift())
    return 2e4 * (-covariance.where(covariance <= 0)) ** 0.5


def amihud(d: pd.DataFrame) -> pd.Series:
    turnover = d.quote_volume / d.quote_volume.rolling(20).mean()
    return (log_returns(d).abs() / turnover.replace(0.0, np.inf)).rolling(20).mean()


def box_dimension(d: pd.DataFrame) -> pd.Series:
    half = (d.high.rolling(15).max() - d.low.rolling(15).min()) / 15
    return (np.log(half + half.shift(15)) - np.log((d.high.rolling(30).max() - d.low.rolling(30).min()) / 30)) / np.log(2)


def ease(d: pd.DataFrame) -> pd.Series:
    middle, relative = (d.high + d.low) / 2, d.volume / d.volume.rolling(14).mean()
    return (
        (middle.diff() / middle * (d.high - d.low) / middle / relative).replace([np.inf, -np.inf], 0.0).fillna(0.0).rolling(14).mean()
    )


def accumulated(d: pd.DataFrame) -> pd.Series:
    flow, move = money_flow(d).rolling(20).sum(), d.close.diff(20)
    return ((move <= 0) & (flow > 0)).astype(float) - ((move >= 0) & (flow < 0)).astype(float)


# What recorded minutes cannot show (they have no taker side), and the rest of the families, on the walk.
WALK: dict[str, Expected] = {
    "yang_zhang_20": yang_zhang,
    "rogers_satchell_20": lambda d: (
        (np.log(d.high / d.close) * np.log(d.high / d.open) + np.log(d.low / d.close) * np.log(d.low / d.open)).rolling(20).mean()
        ** 0.5
    ),
    "ulcer_index_20": lambda d: ((d.close / d.close.rolling(20).max() - 1) ** 2).rolling(20).mean() ** 0.5,
    "volatility_of_volatility_20": lambda d: log_returns(d).rolling(20).std().rolling(20).std(),
    "keltner_position": lambda d: (d.close - ewm(d.close, 20) + 2 * mean_true_range(d, 10)) / (4 * mean_true_range(d, 10)),
    "donchian_position_55": lambda d: (d.close - d.low.rolling(55).min()) / (d.high.rolling(55).max() - d.low.rolling(55).min()),
    "vw_macd_rel": lambda d: (
        (
            (d.close * d.volume).rolling(12).sum() / d.volume.rolling(12).sum()
            - (d.close * d.volume).rolling(26).sum() / d.volume.rolling(26).sum()
        )
        / d.close
    ),
    "vw_return_20": lambda d: (log_returns(d) * d.volume).rolling(20).sum() / d.volume.rolling(20).sum(),
    "force_index_13_rel": lambda d: (d.close.diff() * d.volume).rolling(13).mean() / d.close / d.volume.rolling(13).mean(),
    "ease_of_movement_14": ease,
    "up_volume_share_20": lambda d: d.volume.where(d.close.diff() > 0, 0.0).rolling(20).sum() / d.volume.rolling(20).sum(),
    "accumulation_20": accumulated,
    "volume_trend_5_50": lambda d: d.volume.rolling(5).mean() / d.volume.rolling(50).mean(),
    "flow_imbalance_20": lambda d: (2 * d.buy_volume - d.volume).rolling(20).sum() / d.volume.rolling(20).sum(),
    "vpin_50": lambda d: (2 * d.buy_volume - d.volume).abs().rolling(50).sum() / d.volume.rolling(50).sum(),
    "trade_intensity_20": lambda d: d.trade_count / d.trade_count.rolling(20).mean(),
    "seconds_between_trades_20": lambda d: 1200 / d.trade_count.rolling(20).sum(),
    "trade_size_ratio_5_50": lambda d: (
        (d.volume.rolling(5).sum() / d.trade_count.rolling(5).sum()) / (d.volume.rolling(50).sum() / d.trade_count.rolling(50).sum())
    ),
    "kyle_lambda_50": kyle,
    "amihud_20": amihud,
    "roll_spread_bps_50": roll_spread,
    "fractal_dimension_30": box_dimension,
    "variance_ratio_5_100": lambda d: np.log(d.close).diff(5).rolling(95).var() / log_returns(d).rolling(99).var() / 5,
    "return_t_statistic_20": lambda d: log_returns(d).rolling(20).mean() / log_returns(d).rolling(20).std() * 20**0.5,
    "sma_50_over_200": lambda d: d.close.rolling(50).mean() / d.close.rolling(200).mean() - 1,
    "ema_12_over_26": lambda d: ewm(d.close, 12) / ewm(d.close, 26) - 1,
    "volatility_10_over_50": lambda d: log_returns(d).rolling(10).std() / log_returns(d).rolling(50).std(),
    "trend_persistence_20": lambda d: np.sign(d.close.diff()).rolling(20).mean(),
    "grid_volume_mean_20": lambda d: d.volume.rolling(20).mean(),
    "grid_volume_ratio_20": lambda d: d.volume / d.volume.rolling(20).mean(),
}

# Where the other side keeps running sums or recursions of its own, its rounding (not ours) sets the limit.
LOOSE = {
    "bollinger_percent_b_20": 1e-6, "grid_band_position": 1e-6, "close_zscore_20": 1e-6, "volume_zscore_50": 1e-7, "cci_20": 1e-7,
    "bollinger_bandwidth_50": 1e-7, "skew_50": 1e-7, "kurtosis_20": 1e-7, "trend_slope_50": 1e-6, "hurst_128": 1e-8,
    "stoch_rsi_d": 1e-6, "grid_rsi_14": 1e-7, "adosc_3_10": 1e-7,
}  # fmt: skip


def assert_same(feature: str, got: FloatArray, wanted: FloatArray, rtol: float, atol: float) -> None:
    is_compared = np.isfinite(wanted) & np.isfinite(got)
    is_compared[:SETTLED] = False
    assert is_compared.sum() >= max(20, np.isfinite(wanted[SETTLED:]).sum() / 2), feature
    np.testing.assert_allclose(got[is_compared], wanted[is_compared], rtol=rtol, atol=atol, err_msg=feature)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("feature", LEVELS)
def test_levels_equal_an_independent_computation(series: str, feature: str) -> None:
    data = frame(series)
    wanted = np.asarray(LEVELS[feature](data), dtype=np.float64) / data.close.to_numpy()
    assert_same(feature, column(series, feature) + 1.0, wanted, 1e-9, 0.0)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("feature", VALUES)
def test_values_equal_an_independent_computation(series: str, feature: str) -> None:
    wanted = np.asarray(VALUES[feature](frame(series)), dtype=np.float64)
    tolerance = LOOSE.get(feature, 1e-9)
    assert_same(feature, column(series, feature), wanted, tolerance, tolerance / 10)


@pytest.mark.parametrize("feature", WALK)
def test_the_rest_equals_formulas_in_pandas(feature: str) -> None:
    assert_same(feature, column("walk", feature), np.asarray(WALK[feature](frame("walk")), dtype=np.float64), 1e-7, 1e-9)


@pytest.mark.parametrize("series", SERIES)
def test_ranks_of_volatility_equal_pandas(series: str) -> None:
    rank = pd.Series(column(series, "volatility_20")).rolling(200).rank(pct=True, method="max")
    np.testing.assert_allclose(column(series, "volatility_rank_200")[SETTLED:], rank[SETTLED:], rtol=1e-12)


@pytest.mark.parametrize("series", SERIES)
def test_patterns_are_the_signs_of_talibs(series: str) -> None:
    data = frame(series)
    prices = [data[name].to_numpy() for name in ("open", "high", "low", "close")]
    for name in talib.get_function_groups()["Pattern Recognition"]:
        got = column(series, f"pattern_{name.removeprefix('CDL').lower()}")
        np.testing.assert_array_equal(got[SETTLED:], np.sign(getattr(talib, name)(*prices))[SETTLED:], err_msg=name)


def test_engulfing_bars_are_what_the_books_say() -> None:
    data = frame("walk")
    body = data.close - data.open
    falls_then_rises = (body.shift() < 0) & (body > 0) & (data.close > data.open.shift()) & (data.open < data.close.shift())
    found = column("walk", "pattern_engulfing")
    assert (found[falls_then_rises.to_numpy()] == 1.0).all()
    assert set(np.unique(found[2:])) == {-1.0, 0.0, 1.0}
