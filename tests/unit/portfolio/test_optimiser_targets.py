"""The limits of the configuration reach the optimiser: cash, turnover, correlation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from helios.config import PortfolioConfig, RiskConfig
from helios.domain.decisions import TradePlan
from helios.portfolio.history import HOUR_NS, PriceHistory
from helios.portfolio.targets import BLACK_LITTERMAN, TargetPlanner
from tests.unit.portfolio.test_portfolio_desk import INSTRUMENTS, NOW, plan

PAIR = ("AAA/ZAR", "BBB/ZAR")


def history(correlation: float) -> PriceHistory:
    rng, kept = np.random.default_rng(3), PriceHistory(90)
    common, times = rng.normal(0, 0.005, 200), NOW - HOUR_NS * np.arange(199, -1, -1)
    for symbol in PAIR:
        moves = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.normal(0, 0.005, 200)
        kept.seed(symbol, times, list(100 * np.exp(np.cumsum(moves))), 1e6)
    return kept


def weights(
    plans: list[TradePlan], held: Mapping[str, float], correlation: float = 0.0, most: float = 1.0, **config: float
) -> Mapping[str, float]:
    planner = TargetPlanner(PortfolioConfig(**config), RiskConfig(), INSTRUMENTS, lambda s: s, most)  # type: ignore[arg-type]
    targets = planner.targets(plans, held, PAIR, history(correlation))
    assert targets.method == BLACK_LITTERMAN
    return targets.weights


def both() -> list[TradePlan]:
    return [plan(symbol, confidence=0.9) for symbol in PAIR]


def test_what_must_stay_in_cash_stays() -> None:
    assert sum(weights(both(), {}).values()) == pytest.approx(0.4)
    assert sum(weights(both(), {}, min_cash=0.75).values()) == pytest.approx(0.25)


def test_too_little_cash_already_does_not_make_the_problem_infeasible() -> None:
    held = {"AAA/ZAR": 0.15, "BBB/ZAR": 0.15}
    assert weights(both(), held, min_cash=0.9) == pytest.approx(held, abs=1e-9)


def test_turnover_is_limited_as_a_whole() -> None:
    held = {"AAA/ZAR": 0.1}
    moved = weights(both(), held, max_turnover=0.05)
    assert sum(abs(moved[s] - held.get(s, 0.0)) for s in PAIR) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(("correlation", "is_bought"), [(0.98, False), (0.3, True)])
def test_a_symbol_like_a_larger_holding_is_not_bought(correlation: float, is_bought: bool) -> None:
    target = weights([plan("BBB/ZAR", confidence=0.9)], {"AAA/ZAR": 0.1}, correlation, most=0.9)
    assert (target["BBB/ZAR"] > 0.01) == is_bought


def test_without_a_correlation_limit_nothing_is_pinned() -> None:
    assert weights([plan("BBB/ZAR", confidence=0.9)], {"AAA/ZAR": 0.1}, 0.98)["BBB/ZAR"] > 0.01
