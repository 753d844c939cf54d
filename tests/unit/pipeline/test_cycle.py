from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest

from helios.domain.decisions import DecisionTrace, FeatureWindow, decision_id
from helios.domain.enums import Side, VerdictKind
from helios.domain.orders import AccountSnapshot, client_order_id
from helios.errors import ModelUnavailableError, SkipError, StoreUnavailableError, TransportError
from helios.features.definitions import CORRELATION_COLUMN
from helios.pipeline.cycle import CycleResult, DecisionCycle
from helios.pipeline.ports import RebalanceResponse
from tests.support.pipeline_values import T0, ScriptedTiers, account, intent, plan, position, ticking, window

BTC, ETH, SOL, XRP = "BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT"
HALF_PAST = T0 + 1_800_000_000_000


async def decide(
    script: ScriptedTiers, windows: Sequence[FeatureWindow] = (), missing: Sequence[str] = (), bar_time: int = T0
) -> CycleResult:
    chosen = windows or [window(s, bar_time) for s in (ETH, BTC)]
    return await DecisionCycle(script.tiers(), BTC, ticking()).run(bar_time, chosen, missing, account())


def outcomes(result: CycleResult) -> dict[str, tuple[str, str]]:
    return {t.symbol: (t.tier, t.outcome) for t in result.traces}


async def test_a_bar_that_goes_well_ends_in_an_order_per_symbol() -> None:
    script = ScriptedTiers()
    result = await decide(script)
    assert outcomes(result) == {BTC: ("execution", "ORDERED"), ETH: ("execution", "ORDERED")}
    assert script.calls == ["observe", "prediction", "risk", "review", "portfolio", "execution", "record"]
    assert script.traces == result.traces
    assert [t.client_order_id for t in result.traces] == [client_order_id(t.decision_id, "entry") for t in result.traces]
    assert list(result.traces[0].steps) == [
        "data", "prediction", "volatility", "plan", "review", "allocation", "execution",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "error", [SkipError("no"), TransportError("lost"), StoreUnavailableError("away")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize(("tier", "code", "ended_in"), [
    ("prediction", "MODEL_UNAVAILABLE", "prediction"),
    ("risk", "RISK_UNAVAILABLE", "risk"),
    ("review", "REVIEW_UNAVAILABLE", "review"),
    ("portfolio", "PORTFOLIO_UNAVAILABLE", "portfolio"),
    ("execution", "EXECUTION_UNKNOWN", "execution"),
    ("observe", "ORDERED", "execution"),
    ("record", "ORDERED", "execution"),
])  # fmt: skip
async def test_whatever_tier_fails_every_symbol_has_one_trace(tier: str, code: str, ended_in: str, error: Exception) -> None:
    script = ScriptedTiers(failing={tier: error})
    windows = [window(ETH), window(BTC), window(SOL, is_stale=True)]
    result = await decide(script, windows, [XRP])
    assert outcomes(result) == {
        BTC: (ended_in, code), ETH: (ended_in, code), SOL: ("data", "STALE_DATA"), XRP: ("data", "DATA_MISSING"),
    }  # fmt: skip
    assert len(result.traces) == 4
    assert result.errors == [f"{tier}: {error}"]
    assert tier in result.durations_s
    if tier != "record":
        assert script.traces == result.traces


@pytest.mark.parametrize("tier", ["prediction", "risk", "review", "portfolio"])
async def test_no_order_is_sent_after_a_tier_failed(tier: str) -> None:
    script = ScriptedTiers(failing={tier: ModelUnavailableError("no")})
    await decide(script)
    assert script.submitted == []
    assert script.calls[-2:] == [tier, "record"]


async def test_rejected_and_zeroed_plans_never_reach_allocation() -> None:
    script = ScriptedTiers(verdicts={BTC: (VerdictKind.REJECT, 1.0), ETH: (VerdictKind.MODIFY, 0.0), SOL: (VerdictKind.MODIFY, 0.4)})
    result = await decide(script, [window(s) for s in (BTC, ETH, SOL)])
    assert script.allocated == [SOL]
    assert outcomes(result) == {BTC: ("review", "REVIEW_REJECTED"), ETH: ("review", "REVIEW_REJECTED"), SOL: ("execution", "ORDERED")}
    assert result.traces[0].detail == "REJECT because"


async def test_when_all_are_rejected_neither_allocation_nor_execution_is_asked() -> None:
    script = ScriptedTiers(verdicts=dict.fromkeys((BTC, ETH), (VerdictKind.REJECT, 1.0)))
    await decide(script)
    assert "portfolio" not in script.calls
    assert "execution" not in script.calls


async def test_a_refusal_of_one_symbol_leaves_the_others_alone() -> None:
    script = ScriptedTiers(refusals={ETH: "LOW_CONFIDENCE"})
    result = await decide(script)
    assert outcomes(result) == {BTC: ("execution", "ORDERED"), ETH: ("risk", "LOW_CONFIDENCE")}
    assert result.traces[1].steps["plan"] == {"no_trade": "LOW_CONFIDENCE", "detail": "too small"}


async def test_an_optimiser_without_an_answer_is_an_error_of_the_bar_and_orders_nothing() -> None:
    script = ScriptedTiers(unsolved="keeps the present weights: infeasible")
    result = await decide(script)
    assert outcomes(result) == {BTC: ("portfolio", "SOLVER_FAILED"), ETH: ("portfolio", "SOLVER_FAILED")}
    assert result.errors == ["portfolio: keeps the present weights: infeasible"]
    assert script.submitted == []


@pytest.mark.parametrize(("codes", "outcome"), [(("MAX_POSITION", "STALE_DATA"), "MAX_POSITION"), ((), "REJECTED")])
async def test_a_denied_order_ends_with_its_first_deny_code(codes: tuple[str, ...], outcome: str) -> None:
    result = await decide(ScriptedTiers(denials={BTC: codes}))
    assert outcomes(result)[BTC] == ("execution", outcome)
    assert result.traces[0].steps["execution"]["deny_codes"] == list(codes)


async def test_stale_windows_are_traced_with_their_market_but_not_predicted() -> None:
    script = ScriptedTiers()
    result = await decide(script, [window(BTC), window(ETH, is_stale=True)])
    assert [w.symbol for w in script.predicted] == [BTC]
    assert result.traces[1].steps["data"]["last"] == "100"


async def test_a_bar_without_any_window_asks_no_model_and_still_leaves_traces() -> None:
    script = ScriptedTiers()
    result = await DecisionCycle(script.tiers(), BTC, ticking()).run(T0, [], [ETH, BTC], account())
    assert outcomes(result) == dict.fromkeys((BTC, ETH), ("data", "DATA_MISSING"))
    assert "prediction" not in script.calls
    assert len(script.traces) == 2


async def test_a_stale_reference_still_gives_the_others_their_correlation() -> None:
    script = ScriptedTiers()
    await decide(script, [window(BTC, is_stale=True), window(ETH)])
    assert not np.isnan(script.predicted[0].values[:, :, CORRELATION_COLUMN]).any()


async def test_hours_are_observed_at_full_hours_alone() -> None:
    script = ScriptedTiers()
    await decide(script, bar_time=HALF_PAST)
    assert "observe" not in script.calls


async def test_traces_are_equal_for_equal_input_and_plain_json_without_nan() -> None:
    def packed(traces: Sequence[DecisionTrace]) -> bytes:
        return orjson.dumps(list(traces))

    first, second = await decide(ScriptedTiers()), await decide(ScriptedTiers(), [window(BTC), window(ETH)])
    assert packed(first.traces) == packed(second.traces)
    volatility = orjson.loads(packed(first.traces))[0]["steps"]["volatility"]
    assert (volatility["omega"], volatility["nu"], volatility["daily_volatility"]) == (None, None, 0.03)
    assert first.traces[0].steps["data"]["volume_quote"] is None
    assert [t.decision_id for t in first.traces] == [decision_id(BTC, T0), decision_id(ETH, T0)]


HOLDING = replace(account(), positions=(position(BTC),))


def trim(bar_time: int) -> RebalanceResponse:
    of = intent(plan(BTC, bar_time))
    name = client_order_id(of.decision_id, "rebalance")
    sale = replace(of, client_order_id=name, side=Side.SELL, reduce_only=True, leg="rebalance")
    return RebalanceResponse((sale,), "DRIFT", {BTC: 0.05})


async def keep_up(script: ScriptedTiers, bar_time: int, held: AccountSnapshot = HOLDING, is_event: bool = False) -> CycleResult:
    windows = [window(BTC, bar_time), window(ETH, bar_time, is_stale=True)]
    return await DecisionCycle(script.tiers(), BTC, ticking(), lambda _: is_event).run(bar_time, windows, [], held)


@pytest.mark.parametrize(("bar_time", "is_event", "asked"), [(T0, False, 1), (HALF_PAST, False, 0), (HALF_PAST, True, 1)])
async def test_what_is_held_is_looked_at_each_hour_and_at_risk_events(bar_time: int, is_event: bool, asked: int) -> None:
    script = ScriptedTiers(refusals={BTC: "HOLD"})
    await keep_up(script, bar_time, is_event=is_event)
    assert [(r.is_risk_event, list(r.contexts)) for r in script.rebalances] == [(is_event, [BTC])] * asked


async def test_nothing_held_needs_no_rebalancing() -> None:
    script = ScriptedTiers()
    await keep_up(script, T0, held=account())
    assert script.rebalances == []


async def test_a_trim_is_sent_and_told_in_the_trace_beside_the_decision() -> None:
    script = ScriptedTiers(trims=trim(T0))
    result = await keep_up(script, T0)
    assert script.submitted == [BTC, BTC]
    told = next(t for t in result.traces if t.symbol == BTC)
    assert (told.outcome, told.client_order_id) == ("ORDERED", client_order_id(told.decision_id, "entry"))
    assert told.steps["rebalance"]["why"] == "DRIFT"
    assert told.steps["rebalance"]["client_order_id"] == client_order_id(told.decision_id, "rebalance")


async def test_a_broken_limit_trimmed_without_an_optimum_is_an_error_of_the_bar() -> None:
    script = ScriptedTiers(trims=replace(trim(T0), failure="infeasible"))
    result = await keep_up(script, T0)
    assert result.errors == ["rebalance: infeasible"]
    assert script.submitted == [BTC, BTC]


async def test_trims_rest_on_the_account_after_the_orders_of_the_bar() -> None:
    script = ScriptedTiers(held=(position(BTC, "150"),))
    await keep_up(script, T0)
    assert script.rebalances[0].account.positions[0].quantity_base == 150


async def test_a_failing_rebalance_leaves_the_decision_as_it_was() -> None:
    script = ScriptedTiers(failing={"rebalance": SkipError("no")})
    result = await keep_up(script, T0)
    assert outcomes(result)[BTC] == ("execution", "ORDERED")
    assert result.errors == ["rebalance: no"]


async def test_the_breakers_see_the_volatility_of_the_bar_before_its_orders() -> None:
    script = ScriptedTiers(ratios={BTC: 3.2, ETH: 1.1})
    await decide(script)
    assert script.log == [("volatility", {BTC: 3.2, ETH: 1.1})]
    assert script.calls.index("risk") < script.calls.index("volatility") < script.calls.index("execution")


async def test_breakers_that_do_not_answer_about_volatility_end_no_decision() -> None:
    script = ScriptedTiers(ratios={BTC: 1.0}, failing={"volatility": TransportError("lost")})
    result = await decide(script)
    assert {outcome for _, outcome in outcomes(result).values()} == {"ORDERED"}
    assert result.errors == ["volatility: lost"]
