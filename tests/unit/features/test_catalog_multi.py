from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.errors import ConfigError, DataError
from helios.features.batch import resample
from helios.features.catalog import FUSION_PERIODS, compute, compute_multi, resample_seconds
from tests.unit.features.bars import START, random_bars

MINUTE = Timeframe.M1.ns
DAY = 86_400 * 10**9


def minutes(n: int, seed: int = 0, start: int = START) -> tuple[np.ndarray, FloatArray]:
    bars = random_bars(n, seed)
    bars[np.random.default_rng(seed).random(n) < 0.3, 8:11] = np.nan
    return start + np.arange(n, dtype=np.int64) * MINUTE, bars


def test_the_fusion_has_twelve_timeframes_in_four_groups() -> None:
    assert [len(group) for group in FUSION_PERIODS.values()] == [3, 3, 3, 3]
    known = {t.value: t.seconds for t in Timeframe}
    assert all(known.get(name, seconds) == seconds for group in FUSION_PERIODS.values() for name, seconds in group.items())


@pytest.mark.parametrize("timeframe", list(Timeframe))
@pytest.mark.parametrize("first", [0, 7, 1439])
def test_bars_of_the_desks_timeframes_equal_its_own(timeframe: Timeframe, first: int) -> None:
    times, bars = minutes(3_000, start=START + first * MINUTE)
    opens, longer = resample_seconds(times, bars, timeframe.seconds)
    wanted, wanted_opens = resample(bars, times, timeframe)
    np.testing.assert_array_equal(opens, wanted_opens)
    np.testing.assert_allclose(longer, wanted, rtol=1e-13)


@pytest.mark.parametrize(("period_s", "weekday"), [(604_800, 0), (259_200, None), (14_400, None), (180, None)])
def test_other_periods_begin_at_their_own_multiples_and_weeks_on_monday(period_s: int, weekday: int | None) -> None:
    times, bars = minutes(16 * 1440)
    opens, longer = resample_seconds(times, bars, period_s)
    assert len(opens) >= 1
    if weekday is None:
        assert (opens % (period_s * 10**9) == 0).all()
    else:
        assert {datetime.fromtimestamp(t / 1e9, UTC).weekday() for t in opens.tolist()} == {weekday}
    inside = (times >= opens[0]) & (times < opens[0] + period_s * 10**9)
    assert longer[0, 1] == bars[inside, 1].max()
    assert longer[0, 4] == pytest.approx(bars[inside, 4].sum())


def test_each_minute_sees_the_last_bar_closed_by_its_own_close() -> None:
    times, bars = minutes(200)
    names = ["grid_return_simple", "grid_ma_5"]
    fused = compute_multi(times, bars, [60, 300], names)
    np.testing.assert_array_equal(fused[:, 0], compute(bars, names, times))
    opens, longer = resample_seconds(times, bars, 300)
    own = compute(longer, names, opens)
    assert np.isnan(fused[:4, 1]).all()
    for minute in (28, 29, 30, 33, 34, 199):
        newest = (minute + 1) // 5 - 1  # the bar that closes with minute 29 is known at minute 29
        np.testing.assert_array_equal(fused[minute, 1], own[newest])


def test_holes_are_filled_for_the_bars_and_rows_stay_those_given() -> None:
    times, bars = minutes(120, seed=1)
    kept = np.delete(np.arange(120), [31, 32, 33, 77])
    fused = compute_multi(times[kept], bars[kept], [300], ["grid_ma_5"])
    assert fused.shape == (116, 1, 1)
    flat = bars.copy()
    for hole in (31, 32, 33, 77):
        flat[hole, :4], flat[hole, 4], flat[hole, 5:] = flat[hole - 1, 3], 0.0, np.nan
    np.testing.assert_allclose(fused, compute_multi(times, flat, [300], ["grid_ma_5"])[kept], rtol=1e-13)


def test_too_few_minutes_for_a_bar_give_nan() -> None:
    times, bars = minutes(30)
    assert np.isnan(compute_multi(times, bars, [3600, 604_800])).all()
    assert compute_multi(times[:0], bars[:0], [60, 300]).shape[:2] == (0, 2)


@pytest.mark.parametrize("period_s", [0, -60, 90])
def test_periods_that_minutes_cannot_make_are_refused(period_s: int) -> None:
    with pytest.raises(ConfigError):
        resample_seconds(*minutes(10), period_s)


def test_minutes_out_of_order_are_refused() -> None:
    times, bars = minutes(10)
    with pytest.raises(DataError):
        compute_multi(times[::-1], bars, [300])
    with pytest.raises(DataError):
        compute_multi(times + 1, bars, [300])
