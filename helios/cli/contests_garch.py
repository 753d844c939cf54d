"""The volatility works of `helios bench`: a refit of a window against `arch`, and one bar between two fits."""

from __future__ import annotations

from itertools import count
from types import ModuleType

import numpy as np

from helios.cli.contest import Contest, Sizes
from helios.cli.contests import SEED, with_peer
from helios.config import RiskConfig
from helios.domain.decisions import FloatArray
from helios.domain.enums import Timeframe
from helios.errors import SolverError
from helios.risk.fitting import FitResult
from helios.risk.garch import MIN_RETURNS
from helios.risk.volatility import VolatilityModel

_START_NS = 20_000 * 86_400 * 1_000_000_000
_BAR_NS = Timeframe.M5.ns
_NEVER_H = 1e6


def garch(sizes: Sizes) -> list[Contest]:
    """Volatility: the fit of a window, and one bar between two fits."""
    returns_pct = _garch_returns(sizes.returns + sizes.filter_bars)
    window, later = returns_pct[: sizes.returns], returns_pct[sizes.returns :]
    scaled = window / np.sqrt(np.mean(window**2))

    def theirs(arch: ModuleType) -> None:
        arch.arch_model(scaled, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False).fit(disp="off", show_warning=False)

    # A refit at every bar, so that one update is one refit of the whole window.
    refitted, bar_times = _seeded(window, _BAR_NS / 3.6e12, sizes.returns)
    last_close = 100.0 * np.exp(window.sum() / 100.0)
    moves = np.resize(later, 64).tolist()

    def refit() -> None:
        bar = next(bar_times)
        before = refitted.fits
        refitted.update(last_close * (1.0 + moves[bar % 64] / 100.0), _START_NS + bar * _BAR_NS)
        if refitted.fits == before or refitted.fallbacks:
            raise SolverError("the benchmark's volatility model did not refit")

    note = "same model, same answer; Helios: all of a bar with its refit, checks, filter and percentiles"
    name = f"one fit on {sizes.returns} returns"
    fit = Contest(
        name,
        "ms",
        1,
        refit,
        "arch",
        with_peer("arch", theirs),
        note,
    )
    return [fit, _filter_contest(window, later)]


def _filter_contest(window: FloatArray, later: FloatArray) -> Contest:
    model, bar_times = _seeded(window, _NEVER_H, len(window))
    closes = (100.0 * np.exp((window.sum() + np.cumsum(later)) / 100.0)).tolist()

    def step() -> None:
        for close in closes:
            bar_time = _START_NS + next(bar_times) * _BAR_NS
            if model.take(close, bar_time):  # now and then the regime changes: answered with the parameters at hand, unfitted
                model.apply(FitResult("", bar_time, model.parameters, "GARCH", is_garch_tried=True))
            model.forecast()

    return Contest("one bar between fits", "us", len(closes), step)


def _seeded(window_pct: FloatArray, refit_h: float, n_returns: int) -> tuple[VolatilityModel, count[int]]:
    model = VolatilityModel(RiskConfig(garch_refit_h=refit_h, garch_max_returns=n_returns, garch_min_returns=100))
    closes = 100.0 * np.exp(np.concatenate(([0.0], np.cumsum(window_pct))) / 100.0)
    model.seed(closes, _START_NS + n_returns * _BAR_NS)
    return model, count(n_returns + 1)


def _garch_returns(n_returns: int) -> FloatArray:
    # GARCH(1,1), alpha 0.10, beta 0.85, about 0.1 % a bar: no move in an hour near the 5 % that would force a refit.
    rng = np.random.default_rng(SEED)
    shocks, variance, returns = rng.standard_t(8, n_returns + MIN_RETURNS) * np.sqrt(6 / 8), 0.01, []
    for shock in shocks.tolist():
        returns.append(shock * variance**0.5)
        variance = 5e-4 + 0.10 * returns[-1] ** 2 + 0.85 * variance
    return np.array(returns[MIN_RETURNS:])
