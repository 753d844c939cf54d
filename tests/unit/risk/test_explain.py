from __future__ import annotations

import ast
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from helios.cli.queries import _explanation
from helios.config import RiskConfig
from helios.domain.decisions import NoTrade, Prediction, TradePlan, Verdict, VolatilityForecast
from helios.domain.enums import Action, ExitReason, OrderStatus, Side, VerdictKind, VolatilityRegime
from helios.domain.orders import OrderIntent, OrderOutcome, OrderRecord
from helios.pipeline import trace as view
from helios.risk.codes import EXIT_REASONS, SENTENCES, sentence
from helios.risk.explain import explain
from helios.risk.explain_size import money, plain, size_sentences
from helios.risk.sizing import SizeBounds, SizeDecision, SizeRequest, size_position

ROOT = Path(__file__).resolve().parents[3]
MEDIUM = VolatilityRegime.MEDIUM
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|HOLD|REDUCING|DRAWDOWN|REJECTED|ORDERED|OPEN")
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("risk", "portfolio", "execution", "pipeline", "review")
    for path in (ROOT / "helios" / folder).rglob("*.py")
    if path.name != "codes.py"
)
NO_CODES = {
    "APPROVE_REDUCED", "CLARABEL_SETTINGS", "CORNISH_FISHER", "EXIT_LONG", "EXIT_SHORT", "I_CONFIRM_LIVE_TRADING", "LARGE_DRIFT",
    "MOMENTUM_LONG", "MOMENTUM_SHORT", "NOTHING_TO_DO", "PARTIALLY_CLOSED", "RISK_EVENT", "STUDENT_T",
}  # fmt: skip
"""Capital words that end no decision: a verdict, strategies, a confirmation, reasons to rebalance, names of methods and states."""


def sized(config: RiskConfig | None = None, bounds: SizeBounds | None = None, **changes: Any) -> SizeDecision:
    values: dict[str, Any] = {"confidence": 0.72, "daily_volatility": 0.03, "regime": MEDIUM, "equity": Decimal(100_000)}
    decision = size_position(SizeRequest(**(values | changes)), config or RiskConfig(), bounds)
    assert isinstance(decision, SizeDecision), decision
    return decision


def told(config: RiskConfig | None = None, bounds: SizeBounds | None = None, **changes: Any) -> str:
    return " ".join(size_sentences(dict(sized(config, bounds, **changes).values()), "ZAR"))


def plan(size: SizeDecision) -> TradePlan:
    return TradePlan(
        "d1", "BTC/ZAR", 1, Side.BUY, size.confidence, size.notional_quote, size.leverage, Decimal(950_000), size.stop_pct,
        size.target_pct, size.loss_at_stop_quote, 86_400 * 10**9, size.kelly_full, size.fraction, size.payoff_ratio,
        size.daily_volatility, size.regime, notes=size.notes, sizing=size.values(),
    )  # fmt: skip


def record(**changes: Any) -> OrderRecord:
    values: dict[str, Any] = {
        "client_order_id": "hx-1", "decision_id": "d1", "symbol": "BTC/ZAR", "side": Side.BUY, "quantity_base": Decimal("0.003"),
        "reference_price": Decimal(950_000), "reduce_only": False, "leg": "entry", "leverage": 1.0, "status": OrderStatus.FILLED,
        "filled_base": Decimal("0.00300000"), "average_price": Decimal("950100"), "fee_quote": Decimal("2.85"), "ts_event": 1,
        "ts_updated": 1, "epoch": 1,
    }  # fmt: skip
    return OrderRecord(**(values | changes))


def steps() -> dict[str, Any]:
    """The steps of an order that was shrunk by the reviewer, as the cycle writes them."""
    intent = OrderIntent("hx-1", "d1", "BTC/ZAR", Side.BUY, Decimal("0.003"), Decimal(950_000), False, "entry", 1.0, 1)
    return {
        "data": {
            "close": 950_000.0, "last": "950000", "spread_bps": 3.2, "best_bid": "949900", "best_ask": "950200", "volume_quote": 1e6,
        },
        "prediction": view.prediction_step(Prediction("BTC/ZAR", 1, Action.BUY, 0.72, (0.72, 0.1, 0.18), (0.5, 0.3, 0.2), "starter")),
        "volatility": view.volatility_step(
            VolatilityForecast("BTC/ZAR", 1, 0.03, 0.5732, MEDIUM, "GARCH", 0.01, 0.08, 0.9, 6.0)
        ),
        "plan": view.plan_step(plan(sized())),
        "review": view.review_step(
            Verdict("d1", "BTC/ZAR", VerdictKind.MODIFY, 0.5, "Half: confidence 60 %.", ("LOW_CONFIDENCE",), "rules")
        ),
        "allocation": view.allocation_step(intent, 0.0285, "BLACK_LITTERMAN"),
        "execution": view.execution_step(OrderOutcome(record())),
    }  # fmt: skip


def decision(**changes: Any) -> dict[str, Any]:
    values = {"symbol": "BTC/ZAR", "outcome": "ORDERED", "tier": "execution", "detail": "BUY 0.003 at 950100", "steps": steps()}
    return values | changes


def test_the_worked_example_in_words() -> None:
    words = told(RiskConfig(round_trip_cost_pct=0.0))
    for part in (
        "12.00% / 6.00% = 2.", "0.72 - 0.28 / 2 = 0.5800.", "A quarter of it is 0.1450.",
        "Divided by 1 + 3.00% / 2.00% = 2.5 for daily volatility, it is 0.0580.", "The MEDIUM regime's cap is 15.00%",
        "5.8000% of 100,000.00 ZAR is 5,800.00 ZAR.", "The order is 5,800.00 ZAR.",
        "At the stop 6.00% away you lose 348.00 ZAR, 0.35% of equity.", "you gain 696.00 ZAR",
    ):  # fmt: skip
        assert part in words


@pytest.mark.parametrize(("arguments", "part"), [
    ({}, "with 0.30% of costs on both = 11.70% / 6.30% = 1.857."),
    ({"payoff_ratio": 3.0}, "b = 3, as given"),
    ({"drawdown": 0.12}, "The drawdown of 12.00% is above 10%: half of it, 0.0285."),
    ({"drawdown": math.nan}, "The drawdown is unknown: half of it"),
    ({"leverage": 1.5}, "Leverage 1.5 makes it 0.0854;"),
    ({"held_notional": Decimal(1000)}, "1,000.00 ZAR of it is held already."),
    ({"bounds": SizeBounds(0.01)}, "5.69% is cut to 1.00%."),
    ({"bounds": SizeBounds(max_notional_quote=Decimal(500))}, "One order may have 500.00 ZAR at most: the order is 500.00 ZAR."),
    ({"config": RiskConfig(volatility_rule="inverse")}, "Times 2.00% / 3.00% of daily volatility, at most 1, it is 0.0949."),
    ({"config": RiskConfig(kelly_multiplier=0.4)}, "0.4 of it is 0.2277."),
    ({"config": RiskConfig(size_method="fixed_fractional", risk_per_trade=0.005)}, "0.50% of the capital may be lost at the stop"),
    ({"config": RiskConfig(size_method="volatility_adjusted"), "volatility_ratio": 0.8}, "Times 1 / 0.8, the mean over the present"),
    ({"config": RiskConfig(size_method="volatility_adjusted")}, "Times 2.00% / 3.00%, at most 1, it is 0.0200."),
    ({"config": RiskConfig(size_method="half_kelly", win_rate=0.6, average_win_pct=0.02, average_loss_pct=0.01)}, "is 0.2000."),
    ({"config": RiskConfig(ramp_step=2, reserve=0.2)}, "sizing sees 20,000.00 ZAR: less a reserve of 20% and at 25% of the ramp."),
])  # fmt: skip
def test_each_reason_to_take_less_has_its_sentence(arguments: dict[str, Any], part: str) -> None:
    assert part in told(**arguments)


def test_nothing_is_said_of_a_ramp_where_there_is_none() -> None:
    assert "ramp" not in told()
    assert "reserve" not in told()


def test_an_order_is_told_tier_by_tier() -> None:
    chapters = explain(decision())
    assert [c.tier for c in chapters] == [*steps(), "outcome"]
    words = {c.tier: " ".join(c.sentences) for c in chapters}
    assert "BUY 72.00%, SELL 10.00%, HOLD 18.00%" in words["prediction"]
    assert "GARCH expects 3.00% a day, 57.32% a year" in words["volatility"]
    assert "BUY at 950,000.00 ZAR" in words["plan"]
    assert "left after 24 h" in words["plan"]
    assert "5,692.31 x 0.5 = 2,846.15 ZAR, at the stop 170.77 ZAR" in words["review"]
    assert f"LOW_CONFIDENCE: {SENTENCES['LOW_CONFIDENCE']}" in words["review"]
    assert "(BLACK_LITTERMAN) wants a weight of 2.85% of equity" in words["allocation"]
    assert "FILLED: 0.003 at 950,100.00 ZAR, fees 2.85 ZAR" in words["execution"]
    assert words["outcome"].startswith("Ended in the tier execution as ORDERED: The order went out.")


def test_the_text_of_the_command_wraps_and_names_each_tier() -> None:
    text = _explanation(decision(decision_id="d1", bar_time=datetime(2026, 1, 2, 3, 5, tzinfo=UTC)))
    lines = text.splitlines()
    assert lines[0] == "decision d1  BTC/ZAR  bar closed 2026-01-02 03:05:00 UTC"
    assert [line for line in lines[1:] if line and not line.startswith(" ")] == [*steps(), "outcome"]
    assert max(map(len, lines)) <= 118


def test_a_denied_order_gives_each_limit_its_sentence() -> None:
    denied = record(status=OrderStatus.REJECTED, filled_base=Decimal(0), deny_codes=("MAX_SECTOR", "ENTRY_INTERVAL"))
    chapter = explain(decision(steps={"execution": view.execution_step(OrderOutcome(denied))}))[0]
    assert chapter.sentences == (
        "The order was not sent: MAX_SECTOR, the sector would be too large a share of equity; "
        "ENTRY_INTERVAL, the last entry in this symbol is too recent.",
    )


def test_an_order_near_a_limit_says_which_and_by_how_much() -> None:
    near = "MAX_POSITION, near its limit, holding with the order exceeds max_position_size: 0.17 against 0.2"
    chapter = explain(decision(steps={"execution": view.execution_step(OrderOutcome(record(), warnings=(near,)))}))[0]
    assert f"It comes near a limit: {near}." in chapter.sentences


def test_a_broker_that_refused_is_quoted() -> None:
    refused = record(status=OrderStatus.REJECTED, filled_base=Decimal(0), reason="NO_PRICE")
    words = " ".join(explain(decision(steps={"execution": view.execution_step(OrderOutcome(refused))}))[0].sentences)
    assert "REJECTED, nothing filled" in words
    assert "there is no price to trade at" in words


def test_a_veto_and_an_approval() -> None:
    def words(kind: VerdictKind, multiplier: float) -> str:
        step = view.review_step(Verdict("d1", "BTC/ZAR", kind, multiplier, "", (), "rules"))
        return explain(decision(steps={"review": step}))[0].sentences[0]

    assert "vetoed" in words(VerdictKind.REJECT, 0.0)
    assert "approved the whole size" in words(VerdictKind.APPROVE, 1.0)


def stored(**changes: Any) -> dict[str, Any]:
    """A row of the ledger's orders as the database returns it: the side is a number."""
    row = {"side": 1, "reduce_only": False, "reason": "", "filled_base": "0.003", "average_price": "950100", "fee_quote": "2.85"}
    return {name: Decimal(v) if name not in ("side", "reduce_only", "reason") else v for name, v in (row | changes).items()}


def test_how_the_position_was_left_and_what_is_left_of_it() -> None:
    sold = stored(side=-1, reduce_only=True, reason="TARGET", average_price="1064112", fee_quote="3.19")
    chapter = explain(decision(orders=[stored(), sold]))[-1]
    assert chapter.tier == "closing"
    assert chapter.sentences == (
        "Closed 0.003 at 1,064,112.00 ZAR: the target was reached.",
        "Of it all 342.04 ZAR less fees of 6.04 ZAR is left: 336.00 ZAR.",
    )


def test_a_short_that_was_stopped_lost() -> None:
    bought = stored(side=1, reduce_only=True, reason="STOP", average_price="960100")
    last = explain(decision(orders=[stored(side=-1), bought]))[-1].sentences[-1]
    assert last == "Of it all -30.00 ZAR less fees of 5.70 ZAR is left: -35.70 ZAR."


def test_an_exit_that_closed_more_than_this_decision_has_no_result_of_its_own() -> None:
    sold = stored(side=-1, reduce_only=True, reason="TIMEOUT", filled_base="0.005")
    assert explain(decision(orders=[stored(), sold]))[-1].sentences == ("Closed 0.005 at 950,100.00 ZAR: its time was up.",)


@pytest.mark.parametrize("orders", [[], None, [stored()], [stored(side=-1, reduce_only=True, filled_base="0")]])
def test_nothing_closed_has_no_chapter(orders: list[dict[str, Any]] | None) -> None:
    assert explain(decision(orders=orders))[-1].tier == "outcome"


def test_every_reason_to_leave_has_words() -> None:
    assert {reason.value for reason in ExitReason} <= set(EXIT_REASONS)


def test_a_closing_plan_has_no_size_to_explain() -> None:
    closing = TradePlan(
        "d1", "BTC/ZAR", 1, Side.SELL, 0.8, Decimal(1250), 1.0, Decimal(100), 0.0, 0.0, Decimal(0), 1, 0.0, 0.0, 0.0, math.nan,
        VolatilityRegime.EXTREME, reduce_only=True, notes=("SIGNAL against the long of 12.5: close all of it",),
    )  # fmt: skip
    words = explain(decision(steps={"plan": view.plan_step(closing)}))[0].sentences
    assert words == (
        "SELL 1,250.00 ZAR to close what is held: no size or stop is needed.",
        "SIGNAL against the long of 12.5: close all of it.",
    )


@pytest.mark.parametrize("code", sorted(SENTENCES))
@pytest.mark.parametrize("tier", ["plan", "allocation"])
def test_a_refusal_of_any_tier_and_code_is_told_with_its_detail(code: str, tier: str) -> None:
    step = view.refusal_step(NoTrade("d1", "BTC/ZAR", tier, code, "the numbers behind it"))
    chapters = explain(decision(outcome=code, tier=tier, detail="the numbers behind it", steps={tier: step}))
    assert chapters[0].sentences == (f"No trade ({code}). {SENTENCES[code]}", "The numbers behind it.")
    assert SENTENCES[code] in chapters[-1].sentences[0]


def codes_of(path: Path) -> set[str]:
    strings = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {text for text in strings if CODE.fullmatch(text)}


@pytest.mark.parametrize("name", SOURCES)
def test_every_code_in_the_source_has_a_sentence(name: str) -> None:
    found = codes_of(ROOT / name) - NO_CODES - set(EXIT_REASONS)
    assert found - set(SENTENCES) == set()


def test_every_tier_that_may_not_answer_has_a_sentence() -> None:
    source = (ROOT / "helios/pipeline/cycle.py").read_text()
    tiers = re.findall(r'_end_open\(traces, "(\w+)", result\)', source)
    assert set(tiers) == {"risk", "review", "portfolio"}
    assert {f"{tier.upper()}_UNAVAILABLE" for tier in tiers} <= set(SENTENCES)


def test_sentences_are_sentences_and_no_two_alike() -> None:
    assert all(text[0].isupper() and text.endswith(".") for text in SENTENCES.values())
    assert len(set(SENTENCES.values())) == len(SENTENCES)


def test_a_code_nobody_wrote_a_sentence_for_is_still_said() -> None:
    assert sentence("MADE_UP_TODAY") == "Made up today."


@pytest.mark.parametrize("name", ["plan", "review", "allocation", "execution", "prediction", "volatility", "data"])
def test_a_trace_without_some_of_its_numbers_is_told_without_them(name: str) -> None:
    whole = steps()
    for key in whole[name]:
        lacking = whole | {name: {k: v for k, v in whole[name].items() if k != key}}
        unknown = whole | {name: whole[name] | {key: None}}
        for each in (lacking, unknown):
            assert len(explain(decision(steps=each))) == len(whole) + 1


def test_numbers_of_the_sizing_may_lack_too() -> None:
    values = dict(sized().values())
    for key in values:
        assert size_sentences({k: v for k, v in values.items() if k != key})


def test_traces_from_before_the_sizing_was_kept_are_told_in_short() -> None:
    old = {k: v for k, v in view.plan_step(plan(sized())).items() if k not in ("sizing", "volatility_ratio", "horizon_h")}
    words = " ".join(explain(decision(steps={"plan": old}))[0].sentences)
    assert "The order is 5,692.31 ZAR. At the stop 6.00% away you lose 341.54 ZAR." in words


def test_a_decision_without_steps_says_how_it_ended() -> None:
    assert explain({"symbol": "BTC/ZAR", "outcome": "DATA_MISSING", "tier": "data", "detail": "x", "steps": {}})[0].tier == "outcome"


@pytest.mark.parametrize(("value", "text"), [
    ("5800", "5,800.00 ZAR"), ("0.5", "0.5 ZAR"), ("0.85453219", "0.854532 ZAR"), ("-3.5", "-3.50 ZAR"),
    ("0.99999999", "1 ZAR"), ("0", "0.00 ZAR"), ("0.00001234", "0.00001234 ZAR"), (None, "an unknown amount"),
    ("Infinity", "any amount"), (1234.5, "1,234.50 ZAR"),
])  # fmt: skip
def test_amounts_are_written_to_the_cent_and_tiny_ones_in_full(value: object, text: str) -> None:
    assert money(value, "ZAR") == text


def test_quantities_lose_only_the_zeros_at_their_end() -> None:
    assert (plain("0.00300000"), plain("1200"), plain("x")) == ("0.003", "1,200", "x")


def test_a_trim_is_told_after_the_decision_with_its_reason_whatever_order_the_store_keeps() -> None:
    trim = {
        "why": "RISK_EVENT", "side": "SELL", "target_weight": 0.2, "status": "FILLED", "filled_base": "5", "average_price": "100",
        "fee_quote": "0.5", "deny_codes": [], "reason": "RISK_EVENT",
    }  # fmt: skip
    steps = {"rebalance": trim, "plan": {"no_trade": "HOLD", "detail": ""}, "data": {"close": 100.0, "last": "100"}}
    chapters = explain({"symbol": "BTC/ZAR", "outcome": "HOLD", "tier": "risk", "detail": "", "steps": steps})
    assert [c.tier for c in chapters] == ["data", "plan", "rebalance", "outcome"]
    assert "towards its target of 20.00% of equity: what is held had outgrown a limit" in chapters[2].sentences[0]
    assert "FILLED: 5 at 100.00 ZAR" in chapters[2].sentences[1]
