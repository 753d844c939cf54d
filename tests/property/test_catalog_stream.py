"""Whatever the market does, the catalog bar by bar equals the catalog of the history."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.features.catalog import CATALOG, CatalogStream, compute
from tests.unit.features.bars import START, as_bars, random_bars

PATTERNS = tuple(name for name, feature in CATALOG.items() if feature.family == "pattern")
WINDOWS = tuple(
    name for name, feature in CATALOG.items() if feature.tolerance == 0.0 and feature.lookback <= 64 and name not in PATTERNS
)
RECURSIVE = tuple(name for name, feature in CATALOG.items() if feature.tolerance > 0.0 and feature.lookback <= 600)


@st.composite
def markets(draw: st.DrawFn, largest_jump: float, largest_volatility: float = 0.1) -> FloatArray:
    """Bars with dead stretches, a jump, and flow and book that come and go."""
    n_bars = draw(st.integers(1, 120))
    rows = random_bars(n_bars, draw(st.integers(0, 10_000)), draw(st.sampled_from([1e-6, 2e-3, largest_volatility])))
    jump = draw(st.integers(0, n_bars - 1))
    rows[jump:, [0, 1, 2, 3, 5]] *= draw(st.sampled_from([1.0 / largest_jump, 1.0, largest_jump]))
    flat = draw(st.integers(0, n_bars - 1))
    rows[flat : flat + draw(st.integers(0, 80)), :4] = rows[flat, 3]
    rows[flat : flat + draw(st.integers(0, 80)), 4:8] = 0.0
    share_unknown = draw(st.sampled_from([0.0, 0.02, 0.3]))
    rng = np.random.default_rng(n_bars)
    rows[:, 5:][rng.random((n_bars, 8)) < share_unknown] = draw(st.sampled_from([np.nan, np.inf]))
    return rows


def streamed(rows: FloatArray, mid: FloatArray, names: list[str]) -> FloatArray:
    stream = CatalogStream(names)
    return np.array([stream.update(bar, float(m)) for bar, m in zip(as_bars(rows), mid, strict=True)])


def batch(rows: FloatArray, mid: FloatArray, names: list[str]) -> FloatArray:
    return compute(rows, names, START + np.arange(len(rows), dtype=np.int64) * Timeframe.M1.ns, mid)


@settings(max_examples=30, deadline=None)
@given(markets(largest_jump=1e3), st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=12, unique=True))
def test_windows_have_the_same_bits_in_the_stream(rows: FloatArray, names: list[str]) -> None:
    mid = np.where(rows[:, 4] > 0.0, rows[:, 3] * 1.0001, np.nan)
    np.testing.assert_array_equal(streamed(rows, mid, names), batch(rows, mid, names))


@settings(max_examples=25, deadline=None)
@given(markets(largest_jump=1.0, largest_volatility=0.01), st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=12, unique=True))
def test_patterns_forget_older_bars_in_any_ordinary_market(rows: FloatArray, names: list[str]) -> None:
    np.testing.assert_array_equal(streamed(rows, rows[:, 3], names), batch(rows, rows[:, 3], names))


@settings(max_examples=25, deadline=None)
@given(markets(largest_jump=10.0), st.lists(st.sampled_from(RECURSIVE), min_size=1, max_size=8, unique=True), st.integers(0, 2))
def test_recursive_averages_in_the_stream_forget_their_start(rows: FloatArray, names: list[str], seed: int) -> None:
    history = random_bars(1_300, seed)
    history[:, [0, 1, 2, 3, 5]] *= rows[0, 0] / history[-1, 3]
    whole = np.concatenate((history, rows))
    bars, mid = as_bars(whole), whole[:, 3]
    stream = CatalogStream(names)
    stream.extend(bars[: len(history)])
    got = np.array([stream.update(bar) for bar in bars[len(history) :]])
    wanted = batch(whole, mid, names)[len(history) :]
    scale = np.array([whole[:, 3].max() if CATALOG[name].unit == "price" else 1.0 for name in names])
    np.testing.assert_allclose(got / scale, wanted / scale, rtol=1e-9, atol=1e-11)


def test_a_market_that_nearly_stops_does_not_blow_up_what_the_start_left_behind() -> None:
    names = ["stoch_rsi_k", "stoch_rsi_d", "keltner_position"]
    for seed in range(12):
        history, rows = random_bars(1_300, seed), random_bars(200, seed + 100, [1e-6, 1e-7, 1e-9][seed % 3])
        history[:, [0, 1, 2, 3, 5]] *= rows[0, 0] / history[-1, 3]
        whole = np.concatenate((history, rows))
        stream = CatalogStream(names)
        bars = as_bars(whole)
        stream.extend(bars[:1_300])
        got = np.array([stream.update(bar) for bar in bars[1_300:]])
        np.testing.assert_allclose(got, batch(whole, whole[:, 3], names)[1_300:], rtol=1e-9, atol=1e-11)
