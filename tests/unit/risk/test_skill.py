"""Forecast skill against hand computation, statsmodels and a simulation whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from helios.config import RiskConfig
from helios.domain.decisions import FloatArray
from helios.risk.garch import VarianceParameters, sum_of_variances
from helios.risk.skill import RISKMETRICS_DAILY, Losses, SkillTracker, diebold_mariano, qlike
from helios.risk.walk_forward import walk_forward
from tests.unit.risk.builders import garch_returns

DAY = 86_400_000_000_000
START = 20_000 * DAY
BARS = 48  # half-hour bars: two a full hour


def tracked(closes: FloatArray, forecasts: FloatArray, skip: frozenset[int] = frozenset()) -> tuple[SkillTracker, list[Losses]]:
    tracker = SkillTracker(BARS, 0.5)
    bar_ns = DAY // BARS
    found = [
        tracker.update(float(close), START + i * bar_ns, float(forecast))
        for i, (close, forecast) in enumerate(zip(closes, forecasts, strict=True))
        if i not in skip
    ]
    return tracker, [losses for losses in found if losses is not None]


def walk(n: int, seed: int = 3) -> FloatArray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.004, n)))


def test_qlike_by_hand() -> None:
    assert qlike(2.0, 1.0) == pytest.approx(2.0 - math.log(2.0) - 1.0)
    assert qlike(0.3, 0.3) == 0.0
    assert qlike(1.0, 2.0) < qlike(2.0, 1.0)  # too low a forecast costs more than too high a one
    assert qlike(0.0, 1.0) == math.inf
    assert all(math.isnan(qlike(r, f)) for r, f in ((1.0, 0.0), (1.0, math.nan), (math.nan, 1.0), (1.0, -1.0)))


def test_the_expected_loss_is_least_for_the_true_variance() -> None:
    realised = np.random.default_rng(0).chisquare(BARS, 5_000) / BARS * 0.0009
    means = [np.mean([qlike(float(r), scale * 0.0009) for r in realised]) for scale in (0.7, 0.9, 1.0, 1.1, 1.4)]
    assert int(np.argmin(means)) == 2


def test_losses_by_hand() -> None:
    closes = walk(200)
    tracker, found = tracked(closes, np.full(200, 0.0007))
    squares = np.diff(np.log(closes), prepend=math.nan) ** 2
    assert (tracker.n, tracker.n_skipped) == (len(found), 1)  # at the first bar the rivals know no return yet
    assert len(found) == (200 - BARS) // 2 - 1
    origin = 120  # every second bar is a full hour
    realised = squares[origin + 1 : origin + 1 + BARS].sum()
    ewma, decay = squares[1:31].mean(), 0.5 ** (1 / BARS)
    for square in squares[31 : origin + 1]:
        ewma = decay * ewma + (1 - decay) * square
    constant = squares[1 : origin + 1].mean()
    losses = found[origin // 2 - 1]
    assert losses.model == pytest.approx(qlike(realised, 0.0007), rel=1e-9)
    assert losses.ewma == pytest.approx(qlike(realised, BARS * ewma), rel=1e-9)
    assert losses.constant == pytest.approx(qlike(realised, BARS * constant), rel=1e-9)
    assert tracker.scores()["model"] == pytest.approx(np.mean([each.model for each in found]), rel=1e-12)
    assert 0 < RISKMETRICS_DAILY < 1


def test_what_comes_after_a_day_changes_nothing_of_it() -> None:
    closes, forecasts = walk(300), np.full(300, 0.0007)
    altered = closes.copy()
    altered[200:] *= np.linspace(1.1, 3.0, 100)
    before = tracked(closes[:200], forecasts[:200])[1]
    assert tracked(altered, forecasts)[1][: len(before)] == before


def test_the_same_bar_again_and_an_older_one_change_nothing() -> None:
    tracker, _ = tracked(walk(200), np.full(200, 0.0007))
    scores = tracker.scores()
    assert tracker.update(1e9, START + 199 * DAY // BARS, 0.5) is None
    assert tracker.update(1e-9, START, 0.5) is None
    assert tracker.scores() == scores


def test_a_missing_close_and_a_bar_that_never_came_are_the_same() -> None:
    closes, forecasts = walk(300), np.full(300, 0.0007)
    told = closes.copy()
    told[[101, 103, 151]] = math.nan
    heard, missed = tracked(told, forecasts)[1], tracked(closes, forecasts, frozenset({101, 103, 151}))[1]
    assert len(heard) == len(missed)
    np.testing.assert_allclose(np.array(heard), np.array(missed), rtol=1e-9)


@pytest.mark.parametrize(("n_missing", "is_judged"), [(4, True), (6, False)])
def test_a_day_without_a_tenth_of_its_prices_is_not_judged(n_missing: int, is_judged: bool) -> None:
    closes, forecasts = walk(120), np.full(120, math.nan)
    forecasts[60] = 0.0007
    closes[70 : 70 + n_missing] = math.nan
    tracker, found = tracked(closes, forecasts)
    assert (bool(found), tracker.n, tracker.n_skipped) == (is_judged, int(is_judged), int(not is_judged))


def test_a_day_on_which_nothing_moved_is_not_judged() -> None:
    tracker, found = tracked(np.full(200, 5.0), np.full(200, 0.0007))
    assert not found
    assert tracker.n_skipped > 0
    assert tracker.scores()["model"] is None


def test_memory_does_not_grow() -> None:
    tracker, _ = tracked(walk(3_000), np.full(3_000, 0.0007))
    assert len(tracker._open) <= 24


def test_a_seed_teaches_the_rivals_and_judges_nothing() -> None:
    closes = walk(200)
    tracker = SkillTracker(BARS)
    tracker.seed(closes, START + 199 * DAY // BARS)
    assert (tracker.n, tracker.n_skipped) == (0, 0)
    whole, _ = tracked(closes, np.full(200, math.nan))
    assert tracker._ewma.variance == pytest.approx(SkillTracker(BARS)._ewma.variance + whole._ewma.variance)


@pytest.mark.parametrize("lags", [0, 1, 5, 48])
def test_diebold_mariano_equals_statsmodels_hac(lags: int) -> None:
    rng = np.random.default_rng(5)
    d = np.convolve(rng.normal(0.05, 1, 400), np.ones(6), "valid")
    rival = rng.normal(size=d.size)
    reference = sm.OLS(d, np.ones(d.size)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    found = diebold_mariano(d + rival, rival, lags)
    assert found.difference == pytest.approx(reference.params[0], rel=1e-9)
    assert found.statistic == pytest.approx(reference.tvalues[0], rel=1e-9)
    assert found.p_value == pytest.approx(reference.pvalues[0], rel=1e-7)


def test_diebold_mariano_without_days_or_differences_is_undecided() -> None:
    same = np.ones(10)
    assert math.isnan(diebold_mariano(same, same, 3).p_value)
    assert math.isnan(diebold_mariano(same[:1], same[:1], 3).p_value)
    assert math.isnan(diebold_mariano(same[:0], same[:0], 3).difference)


def test_swapping_the_two_turns_the_sign() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=50), rng.normal(0.5, 1, 50)
    one, other = diebold_mariano(a, b, 2), diebold_mariano(b, a, 2)
    assert (one.difference, one.statistic) == pytest.approx((-other.difference, -other.statistic))
    assert one.p_value == pytest.approx(other.p_value)


def test_where_days_overlap_a_true_tie_is_seldom_called_a_win() -> None:
    # Means of 24 neighbours, as hourly days are, twice as many lags as overlap; 5 % nominal, at most twice that.
    rng, n = np.random.default_rng(2), 300
    wins = 0
    for _ in range(n):
        d = np.convolve(rng.normal(size=2_400 + 23), np.ones(24), "valid")
        wins += diebold_mariano(d, np.zeros_like(d), 48).p_value < 0.05
    assert wins / n < 0.10


def test_where_the_truth_is_known_it_beats_every_rival() -> None:
    # GARCH whose variance moves over days, forecast with its true parameters: no rival may do better.
    p, rng = VarianceParameters(0.0004, 0.03, 0.966, 6.0, 0.1), np.random.default_rng(11)
    tracker, close, variance, found = SkillTracker(BARS), 100.0, 0.1, []
    for i, draw in enumerate(rng.standard_t(6, 30_000) * math.sqrt(4 / 6)):
        return_pct = math.sqrt(variance) * draw
        close, variance = close * math.exp(return_pct / 100), p.step(variance, return_pct)
        losses = tracker.update(close, START + i * DAY // BARS, sum_of_variances(variance, p, BARS) / 1e4)
        found += [losses] if losses is not None else []
    table = np.array(found)
    for column in range(1, 4):
        compared = diebold_mariano(table[:, 0], table[:, column], 48)
        assert compared.difference < 0
        assert compared.p_value < 0.05


def test_a_walk_forward_does_not_see_what_comes_after() -> None:
    closes = 100.0 * np.exp(np.cumsum(garch_returns(660, bar_volatility=0.004)))
    moved, config = closes.copy(), RiskConfig(garch_max_returns=250, garch_min_returns=200, garch_refit_h=24.0)
    moved[560:] *= np.linspace(1.1, 2.0, 100)
    end = START + 660 * DAY // BARS
    whole, altered = walk_forward(closes, end, config, BARS), walk_forward(moved, end, config, BARS)
    short = walk_forward(closes[:560], end - 100 * DAY // BARS, config, BARS)
    assert short.n_days > 100
    assert not np.array_equal(altered.days, whole.days)
    for later in (whole, altered):
        np.testing.assert_array_equal(later.days[: short.n_days], short.days)
    assert short.n_fits == sum(short.fit_reasons.values()) > 5
    np.testing.assert_allclose(short.days.mean(axis=0), short.losses)


def test_too_short_a_history_gives_no_verdict() -> None:
    report = walk_forward(walk(80), START, RiskConfig(garch_max_returns=400), BARS)
    assert report.n_days == 0
    assert math.isnan(report.losses.model)
    assert report.verdict("constant") == "no difference"
