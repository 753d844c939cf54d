"""The risk actor as a plain class: fits on the cluster or here, the same numbers; what it tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from ray.exceptions import RayActorError

from actors.base import DeskSpec
from actors.remote_fits import RemoteFits
from actors.risk import FIT_PAUSE_NS, RiskActor
from helios.config import HeliosConfig, RiskConfig
from helios.domain.market import MarketSnapshot
from helios.pipeline.ports import RiskRequest, SymbolContext
from helios.pipeline.series import SymbolHistory
from helios.risk.fitting import FitRequest, FitResult, fit
from tests.unit.risk.builders import BAR_NS, T0, account, instrument, prices

SYMBOLS = tuple(f"COIN{i}/USDT" for i in range(5))
CLOSES = prices(700)


class Task:
    """A Ray task in this process.

    Parameters
    ----------
    broken : set of str
        Symbols whose worker dies.
    slow : set of str
        Symbols whose worker never answers.
    """

    def __init__(self, broken: frozenset[str] = frozenset(), slow: frozenset[str] = frozenset()) -> None:
        self.broken, self.slow = broken, slow
        self.asked: list[str] = []

    def remote(self, request: FitRequest) -> Awaitable[FitResult]:
        self.asked.append(request.symbol)
        return self._answer(request)

    async def _answer(self, request: FitRequest) -> FitResult:
        if request.symbol in self.broken:
            raise RayActorError
        if request.symbol in self.slow:
            await asyncio.sleep(60)
        return fit(request)


class Actor(RiskActor):
    """Without a database: every symbol is seeded by hand."""

    async def on_start(self) -> None:
        pass


def actor(tmp_path: Path, task: Task | None, deadline_s: float = 5.0, tasks_from: int = 2) -> Actor:
    config = HeliosConfig(risk=RiskConfig(garch_max_returns=400, garch_min_returns=300, garch_tasks_from=tasks_from))
    spec = DeskSpec(config, "", "run", SYMBOLS, None, None, str(tmp_path))
    made = Actor(spec, {symbol: instrument(symbol) for symbol in SYMBOLS}, task)
    if task is not None:
        made._fits = RemoteFits(task, deadline_s)
    return made


def histories(closes: np.ndarray = CLOSES[:500]) -> list[SymbolHistory]:
    none = np.array([])
    return [SymbolHistory(symbol, closes, T0, none, none, 0.0) for symbol in SYMBOLS]


def request(bar: int, close: float) -> RiskRequest:
    at = T0 + bar * BAR_NS
    contexts = {s: SymbolContext(s, at, close, 1e6, MarketSnapshot(s, Decimal(1), at)) for s in SYMBOLS}
    return RiskRequest(at, (), contexts, account())


async def test_fits_on_the_cluster_and_here_give_the_same_forecasts(tmp_path: Path) -> None:
    task = Task()
    near, far = actor(tmp_path, None), actor(tmp_path, task)
    for each in (near, far):
        await each.seed(histories())
    for bar in range(1, 61):
        asked = request(bar, float(CLOSES[499 + bar]))
        assert await far.plan(asked) == await near.plan(asked)
    assert set(task.asked) == set(SYMBOLS)
    assert far.remote_fits == len(task.asked) >= 5
    assert far.details()["volatility"] == near.details()["volatility"]


@pytest.mark.parametrize("trouble", ["broken", "slow"])
async def test_what_does_not_come_back_is_fitted_here(tmp_path: Path, trouble: str) -> None:
    task = Task(**{trouble: frozenset(SYMBOLS[1:3])})
    near, far = actor(tmp_path, None), actor(tmp_path, task, deadline_s=0.5)
    for each in (near, far):
        await each.seed(histories())
    asked = request(1, float(CLOSES[500]))
    assert await far.plan(asked) == await near.plan(asked)
    assert far.remote_fits == 3


async def test_a_cluster_without_a_free_core_is_left_alone_for_a_while(tmp_path: Path) -> None:
    task = Task(slow=frozenset(SYMBOLS))
    far = actor(tmp_path, task, deadline_s=0.05)
    await far.seed(histories())
    await far.seed(histories())
    assert len(task.asked) == 5
    task.slow = frozenset()
    await far.plan(request(FIT_PAUSE_NS // BAR_NS, float(CLOSES[500]) * 0.9))
    await far.plan(request(11 + FIT_PAUSE_NS // BAR_NS, float(CLOSES[500])))  # a move of a tenth within the hour: all are due
    assert len(task.asked) == 10


async def test_few_fits_stay_here(tmp_path: Path) -> None:
    task = Task()
    few = actor(tmp_path, task, tasks_from=6)
    await few.seed(histories())
    assert task.asked == []
    assert all(row["method"] == "GARCH+EWMA" for row in few.details()["volatility"])


async def test_two_bars_at_once_are_taken_one_after_the_other(tmp_path: Path) -> None:
    far, near = actor(tmp_path, Task()), actor(tmp_path, None)
    for each in (near, far):
        await each.seed(histories())
    first, second = request(1, float(CLOSES[500]) * 0.9), request(13, float(CLOSES[512]))
    answers = await asyncio.gather(far.plan(first), far.plan(second))
    assert list(answers) == [await near.plan(first), await near.plan(second)]


async def test_a_fallback_is_told_once_with_its_reason(tmp_path: Path) -> None:
    told = actor(tmp_path, None)
    await told.seed(histories(np.full(500, 5.0)))
    await told.plan(request(1, 5.0))
    await told.plan(request(2, 5.0))
    await told.plan(request(3, 6.0))
    log = [json.loads(line) for file in (tmp_path / "logs").glob("*") for line in file.read_text().splitlines()]
    fallbacks = [entry for entry in log if "EWMA instead" in str(entry)]
    assert len([entry for entry in fallbacks if SYMBOLS[0] in str(entry)]) == told.details()["fallbacks"][SYMBOLS[0]]
    assert told.details()["fallbacks"] == dict.fromkeys(SYMBOLS, 1)
    row = told.details()["volatility"][0]
    assert (row["method"], row["fallback_reason"]) == ("EWMA", "zero variance: nothing to fit")
    json.dumps(told.details(), allow_nan=False)
