"""The synthetic market has the properties that its documentation states."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from helios.domain.market import BAR_VALUES
from helios.venues.sandbox import measure
from helios.venues.sandbox.macro import MacroMarket, SyntheticHistory
from helios.venues.sandbox.specs import MarketConfig, spec_of

END_NS = 1_767_225_600 * 1_000_000_000


@lru_cache(maxsize=4)
def history(flow_strength: float, jump_probability: float = 0.0005) -> SyntheticHistory:
    config = MarketConfig(symbols=("BTC/ZAR", "SOL/ZAR", "LINK/ZAR"), flow_strength=flow_strength, jump_probability=jump_probability)
    return MacroMarket(config, 11).history(200_000, END_NS)


@pytest.mark.parametrize("flow_strength", [1.0, 2.0])
def test_flow_predicts_as_the_equations_say(flow_strength: float) -> None:
    for found in measure.predictions(history(flow_strength), (5, 15, 60, 240)):
        assert found.r2 == pytest.approx(found.expected, rel=0.2)
        assert found.r2 > 20 * found.noise


def test_without_flow_strength_the_mid_is_a_martingale() -> None:
    # Every predictor a client has, at every horizon, on windows that do not overlap: |t| as of chance.
    still = history(0.0)
    columns = [BAR_VALUES.index(name) for name in ("book_imbalance", "trade_momentum", "microprice_bps")]
    statistics = []
    for ahead in (1, 5, 15, 60, 240):
        after = still.log_mids[1:]
        returns = (after[ahead:] - after[:-ahead])[::ahead]
        for i, bars in enumerate(still.bars.values()):
            known = [
                still.slow_flow[:, i],
                bars[:, BAR_VALUES.index("buy_volume")] / bars[:, 4],
                *(bars[:, column] for column in columns),
            ]
            known.append(np.diff(still.log_mids[:, i]))
            for predictor in known:
                correlation = np.corrcoef(predictor[:-ahead:ahead], returns[:, i])[0, 1]
                statistics.append(correlation * np.sqrt(len(returns)))
    assert len(statistics) == 90
    assert np.abs(statistics).max() < 4.0
    assert np.abs(statistics).mean() < 1.2


def test_jumps_fatten_the_tails_and_keep_the_variance() -> None:
    calm, usual = measure.minute_returns(history(1.0, 0.0)), measure.minute_returns(history(1.0))
    many = measure.minute_returns(history(1.0, 0.005))
    # The regimes alone give a mixture of normal laws.
    assert measure.kurtosis(calm) < measure.kurtosis(usual) < measure.kurtosis(many)
    assert measure.kurtosis(usual) > measure.kurtosis(calm) + 2.0
    assert many.std() == pytest.approx(calm.std(), rel=0.1)


def test_size_is_remembered_for_a_day() -> None:
    returns = measure.minute_returns(history(1.0))
    assert 0.1 < measure.memory_of_size(returns, 1440) < measure.memory_of_size(returns, 1) < 0.4


def test_regimes_have_their_volatility() -> None:
    config = replace(MarketConfig(), symbols=("BTC/ZAR", "ETH/ZAR"))
    for want, got in zip(config.daily_volatility, measure.volatility_of_regimes(config, 120_000, 11), strict=True):
        assert got == pytest.approx(want, rel=0.25)


def test_symbols_by_name_are_sane_and_the_same_every_time() -> None:
    specs = [spec_of(f"SYM{number:02d}/ZAR") for number in range(60)]
    assert specs == [spec_of(spec.symbol) for spec in specs]
    assert len({spec.level for spec in specs}) == 60
    for spec in specs:
        assert 1e-6 < float(spec.tick_size) / spec.level <= 1e-3
        assert 0 < spec.min_base < spec.max_base
        assert 0.8 <= spec.loading <= 0.95
    assert spec_of("BTC/ZAR").level == 1_900_000.0
