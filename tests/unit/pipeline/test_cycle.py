from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from helios.domain.decisions import DecisionTrace, FeatureWindow, decision_id
from helios.domain.enums import VerdictKind
from helios.domain.orders import client_order_id
from helios.errors import ModelUnavailableError, SkipError, StoreUnavailableError, TransportError
from helios.features.definitions import CORRELATION_COLUMN
from helios.pipeline.cycle import CycleResult, DecisionCycle
from tests.support.pipeline_values import T0, ScriptedTiers, account, ticking, window

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
