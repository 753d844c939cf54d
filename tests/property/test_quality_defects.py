"""As many defects as are put in are counted, whatever their places, and nothing else is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helios.domain.enums import Timeframe
from helios.market.merge import merge_rows
from helios.market.quality import check_candles
from tests.support.candles import clean_candles

N = 600
TIMES, BARS = clean_candles(N)
# Apart from each other and from the ends, so that each defect is one of its own.
PLACES = st.sets(st.integers(2, N // 4 - 2), min_size=0, max_size=40).map(lambda places: sorted(4 * place for place in places))
DEFECTS = ("gaps", "duplicate", "out_of_order", "not_finite", "bad_bar", "misaligned", "outlier")


def broken(kind: str, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    times, bars = TIMES.copy(), BARS.copy()
    if kind == "gaps":
        return np.delete(times, places), np.delete(bars, places, axis=0)
    if kind == "duplicate":
        return np.insert(times, places, times[places]), np.insert(bars, places, bars[places], axis=0)
    if kind == "out_of_order":
        order = np.arange(N)
        for place in places:
            order[[place, place + 1]] = order[[place + 1, place]]
        return times[order], bars[order]
    if kind == "not_finite":
        bars[places, 3] = np.nan
    elif kind == "bad_bar":
        bars[places, 1] = bars[places, 2] - 1.0
    elif kind == "misaligned":
        times[places] += 1_000_000
    else:
        bars[places, 3] *= 1.25
        bars[places, 1] *= 1.25
    return times, bars


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(DEFECTS), places=PLACES)
def test_k_defects_are_counted_as_k(kind: str, places: list[int]) -> None:
    report = check_candles(*broken(kind, places), Timeframe.M1)
    counts = {finding.name: finding.count for finding in report.findings if finding.count}
    expected = {kind: len(places)} if places else {}
    if kind == "misaligned" and places:
        expected["gaps"] = len(places)  # the buckets where those rows should have been
    assert counts == expected


@settings(max_examples=30, deadline=None)
@given(places=st.fixed_dictionaries(dict.fromkeys(("gaps", "not_finite", "outlier"), PLACES)))
def test_kinds_do_not_hide_each_other(places: dict[str, list[int]]) -> None:
    nan, spikes = set(places["not_finite"]), {p + 2 for p in places["outlier"]}
    gone = {p + 1 for p in places["gaps"]} - {s - 1 for s in spikes} - set(spikes)
    bars = BARS.copy()
    bars[sorted(nan), 3] = np.nan
    bars[sorted(spikes), 1] *= 1.25
    bars[sorted(spikes), 3] *= 1.25
    kept = np.array([i not in gone for i in range(N)])
    report = check_candles(TIMES[kept], bars[kept], Timeframe.M1)
    counts = [report.finding(name).count for name in ("gaps", "not_finite", "outlier")]
    assert counts == [len(gone), len(nan), len(spikes)]
    assert report.score == pytest.approx(1 - sum(counts) / N)


WILD = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, 1e308, 5e-324]))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 20).map(lambda i: i * 60 * 10**9), st.integers(-(2**61), 2**61)),
            st.lists(WILD, min_size=13, max_size=13),
        ),
        max_size=25,
    ),
    now_ns=st.one_of(st.none(), st.integers(-(2**61), 2**61)),
    bounds=st.one_of(st.just((None, None)), st.tuples(st.integers(-(2**61), 2**61), st.integers(-(2**61), 2**61))),
)
def test_any_numbers_get_a_report(
    rows: list[tuple[int, list[float]]], now_ns: int | None, bounds: tuple[int | None, int | None]
) -> None:
    times = np.array([time for time, _ in rows], dtype=np.int64)
    bars = np.array([row for _, row in rows], dtype=np.float64).reshape(-1, 13)
    before = bars.copy()
    with np.errstate(over="ignore"):  # prices of 1e308
        report = check_candles(times, bars, Timeframe.M1, start_ns=bounds[0], end_ns=bounds[1], now_ns=now_ns)
    assert 0.0 <= report.score <= 1.0
    assert len(report.flags) == len(rows)
    assert np.array_equal(bars, before, equal_nan=True)
    is_finite = np.isfinite(bars[:, :5]).all(axis=1) & ~np.isinf(bars).any(axis=1)
    assert report.finding("not_finite").count == len(rows) - int(is_finite.sum())
    assert report.finding("duplicate").count == len(rows) - len(set(times.tolist()))
    for finding in report.findings:
        assert finding.count >= 0
        assert all(start < end for start, end in finding.ranges)


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=6),
    conflicting=st.sets(st.integers(0, 30), max_size=5),
    newer_wins=st.booleans(),
)
def test_merging_equals_a_dictionary(chunks: list[list[int]], conflicting: set[int], newer_wins: bool) -> None:
    times, values = np.empty(0, dtype=np.int64), np.empty((0, 2))
    kept: dict[int, tuple[float, float]] = {}
    for number, chunk in enumerate(chunks):
        rows = [(float(t), float(number) if t in conflicting else 0.5) for t in chunk]
        times, values, counts = merge_rows(
            times, values, np.array(chunk, dtype=np.int64), np.array(rows).reshape(-1, 2), newer_wins=newer_wins
        )
        clashes = 0
        for t, row in zip(chunk, rows):
            clashes += t in kept and kept[t] != row
            kept[t] = row if newer_wins else kept.get(t, row)
        assert (counts.rows, counts.conflicting) == (len(chunk), clashes)
        assert counts.replaced == (clashes if newer_wins else 0)
    assert times.tolist() == sorted(kept)
    assert [tuple(row) for row in values.tolist()] == [kept[t] for t in sorted(kept)]
