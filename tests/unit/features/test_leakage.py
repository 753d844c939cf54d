"""The checker catches what it is for, and our own features pass it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest

from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.domain.market import BAR_VALUES
from helios.errors import ConfigError, DataError
from helios.features.batch import features_of
from helios.features.catalog import CATALOG, align_closed, resample_seconds
from helios.features.leakage import (
    FeatureFunction,
    FeatureReport,
    Subject,
    TimeArray,
    check_look_ahead,
    check_unknown_input,
    check_warm_up,
    default_cuts,
    examine,
    narrowed,
)
from helios.features.subjects import (
    COLUMNS,
    catalog_subject,
    catalog_timeframe_subject,
    model_subject,
    model_timeframe_subject,
    model_timeframe_subjects,
    synthetic_bars,
)

CLOSE, COUNT = BAR_VALUES.index("close"), BAR_VALUES.index("trade_count")


@cache
def bars(n_bars: int = 400) -> tuple[TimeArray, FloatArray]:
    return synthetic_bars(n_bars, seed=3)


def subject(compute: Callable[[FloatArray], FloatArray], lookback: int | None = None) -> Subject:
    def of_bars(_times: TimeArray, values: FloatArray) -> FloatArray:
        return np.asarray(compute(values), dtype=np.float64)[:, None]

    return Subject("made up", COLUMNS, ("x",), of_bars, {} if lookback is None else {"x": lookback})


def closes(values: FloatArray) -> pd.Series:
    return pd.Series(values[:, CLOSE])


LEAKS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "next close": lambda v: closes(v).shift(-1).to_numpy(),
    "close an hour later": lambda v: closes(v).shift(-60).to_numpy(),
    "centred mean": lambda v: closes(v).rolling(5, center=True).mean().to_numpy(),
    "scaled by the whole history": lambda v: (v[:, CLOSE] - v[:, CLOSE].mean()) / v[:, CLOSE].std(),
    "ranked in the whole history": lambda v: closes(v).rank().to_numpy(),
    "filled backwards": lambda v: pd.Series(np.where(v[:, 4] > 0, v[:, CLOSE], np.nan)).bfill().to_numpy(),
    "smoothed both ways": lambda v: closes(v)[::-1].ewm(span=5).mean()[::-1].to_numpy(),
    "sign of the next return": lambda v: np.sign(closes(v).diff().shift(-1)).to_numpy(),
    "minimum of the future": lambda v: np.minimum.accumulate(v[::-1, CLOSE])[::-1],
    "last digit of the history's length": lambda v: np.full(len(v), float(len(v) % 7)),
    "tiny part of the next close": lambda v: v[:, CLOSE] + 1e-9 * closes(v).shift(-1).fillna(0.0).to_numpy(),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_feature_that_knows_the_future_is_caught(name: str) -> None:
    (verdict,) = check_look_ahead(subject(LEAKS[name]), *bars())
    assert verdict.passed is False
    assert verdict.row is not None
    assert verdict.cut is not None
    assert verdict.row <= verdict.cut


def test_the_day_that_is_not_over_is_caught() -> None:
    # A longer bar shown from its opening on: the commonest leak of several timeframes.
    def of_minutes(times: TimeArray, values: FloatArray) -> FloatArray:
        opens, longer = resample_seconds(times, values[:, :13], 900)
        return align_closed(times, opens - 900 * 10**9, 900, longer[:, CLOSE : CLOSE + 1])

    leaking = Subject("early", COLUMNS, ("close_15m",), of_minutes)
    assert check_look_ahead(leaking, *bars())[0].passed is False


def test_a_feature_that_uses_the_past_alone_passes() -> None:
    (verdict,) = check_look_ahead(subject(lambda v: closes(v).rolling(20).mean().to_numpy()), *bars())
    assert verdict.passed is True
    assert verdict.n_compared > 1000


def test_a_feature_without_values_is_not_said_to_pass() -> None:
    (verdict,) = check_look_ahead(subject(lambda v: np.full(len(v), np.nan)), *bars())
    assert verdict.passed is None


def test_cuts_reach_the_last_bars_and_stay_inside() -> None:
    assert default_cuts(400)[-4:] == (382, 392, 396, 398)
    assert all(0 <= cut < 29 for cut in default_cuts(30))
    assert default_cuts(0) == default_cuts(1) == ()


def test_an_error_over_valid_bars_is_not_swallowed() -> None:
    def picky(values: FloatArray) -> FloatArray:
        if (values[:, 4] == 0.0).mean() > 0.5:
            raise DataError("nothing was traded")
        return values[:, CLOSE]

    with pytest.raises(DataError, match="nothing was traded"):
        check_look_ahead(subject(picky), *bars())


@pytest.mark.parametrize(("declared", "passed"), [(19, False), (20, True), (33, True)])
def test_an_understated_lookback_is_caught(declared: int, passed: bool) -> None:
    (verdict,) = check_warm_up(subject(lambda v: closes(v).rolling(20).mean().to_numpy(), declared), *bars())
    assert verdict.passed is passed
    assert verdict.needed is not None
    assert (verdict.needed >= 20) is True


def test_a_sum_since_the_beginning_never_warms_up() -> None:
    (verdict,) = check_warm_up(subject(lambda v: (v[:, CLOSE] * v[:, 4]).cumsum() / v[:, 4].cumsum(), 200), *bars())
    assert verdict.passed is False
    assert verdict.needed is not None
    assert verdict.needed > 250


def test_a_history_shorter_than_declared_tells_nothing() -> None:
    (verdict,) = check_warm_up(subject(lambda v: closes(v).ewm(span=9).mean().to_numpy(), 5_000), *bars())
    assert verdict.passed is None


def of_count(fill: float) -> Subject:
    def compute(values: FloatArray) -> FloatArray:
        return pd.Series(np.where(np.isfinite(values[:, COUNT]), values[:, COUNT], fill)).rolling(5).sum().to_numpy()

    return subject(compute)


def test_unknown_input_that_becomes_a_number_is_caught() -> None:
    (verdict,) = check_unknown_input(of_count(0.0), *bars())
    assert verdict.passed is False
    assert verdict.column == "trade_count"
    (verdict,) = check_unknown_input(of_count(math.nan), *bars())
    assert verdict.passed is True
    assert verdict.n_dependent == 5


def test_infinite_input_hidden_by_a_division_is_caught() -> None:
    def share(values: FloatArray) -> FloatArray:
        return values[:, COUNT] / (values[:, COUNT] + pd.Series(values[:, COUNT]).shift(1).to_numpy())

    (verdict,) = check_unknown_input(subject(share), *bars())
    assert verdict.passed is False


def test_a_documented_fallback_is_accepted() -> None:
    made_up = of_count(0.0)
    accepted = Subject("made up", COLUMNS, ("x",), made_up.compute, fallbacks={"x": frozenset({"trade_count"})})
    assert check_unknown_input(accepted, *bars())[0].passed is None


def test_wrong_shapes_and_names_are_refused() -> None:
    wrong: FeatureFunction = lambda _times, values: values[:-1, :1]  # noqa: E731
    with pytest.raises(DataError, match="shape"):
        check_look_ahead(Subject("wrong", COLUMNS, ("x",), wrong), *bars())
    with pytest.raises(ConfigError, match="no feature 'y'"):
        narrowed(subject(LEAKS["next close"]), ["y"])


def failures(reports: tuple[FeatureReport, ...]) -> list[FeatureReport]:
    return [report for report in reports if not report.passed]


def test_the_models_features_pass_all_three_checks() -> None:
    reports = examine(model_subject(), *synthetic_bars(900, seed=1))
    assert failures(reports) == []
    assert all(report.look_ahead.passed and report.warm_up and report.warm_up.passed for report in reports)


@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.M5, Timeframe.M15])
def test_the_models_timeframes_show_no_bar_before_it_closed(timeframe: Timeframe) -> None:
    verdicts = check_look_ahead(model_timeframe_subject(timeframe), *synthetic_bars(1_200, seed=2))
    assert [v.feature for v in verdicts if v.passed is not True] == ["btc_correlation_60"]  # needs another symbol
    assert len(model_timeframe_subjects()) == 3


@pytest.mark.slow
def test_every_feature_of_the_catalog_is_causal() -> None:
    verdicts = check_look_ahead(catalog_subject(), *synthetic_bars(3_000, seed=4))
    assert [v for v in verdicts if not v.passed] == []
    assert len(verdicts) == len(CATALOG)


@pytest.mark.slow
def test_every_feature_of_the_catalog_has_the_lookback_it_declares() -> None:
    verdicts = check_warm_up(catalog_subject(), *synthetic_bars(3_200, seed=5), n_ends=2)
    assert [v for v in verdicts if v.passed is False] == []
    assert sum(v.passed is True for v in verdicts) > 280


def test_no_feature_of_the_catalog_makes_numbers_of_unknown_inputs() -> None:
    verdicts = check_unknown_input(catalog_subject(), *synthetic_bars(500, seed=6))
    assert [v for v in verdicts if v.passed is False] == []
    known = {v.feature for v in verdicts if v.passed}
    assert known >= {name for name, feature in CATALOG.items() if feature.family == "microstructure"}


def test_the_catalog_beside_minutes_is_causal() -> None:
    names = ["sma_20_rel", "rsi_14", "pattern_doji", "spread_bps", "flow_imbalance_5", "pivot_standard_p_rel"]
    verdicts = check_look_ahead(catalog_timeframe_subject(900, names), *synthetic_bars(3_000, seed=7))
    assert [v.feature for v in verdicts if not v.passed] == []


def test_reported_numbers_are_those_of_the_features() -> None:
    times, values = synthetic_bars(300, seed=8)
    np.testing.assert_array_equal(model_timeframe_subject(Timeframe.M1).compute(times, values), features_of(values[:, :13]))
