"""Which stage of a decision made the money: signal, size, review, portfolio, execution, costs.

Each closed part of a trade (a FIFO disposal: one entry order, one exit order) is valued at a ladder of sizes and prices. Every rung
changes one thing that one stage decided, and a stage's effect is the step between two rungs, so the effects add up to the realised
P&L of the part to the last digit, whatever is rounded on the way. With the entry's reference price p (the price at the decision), the
exit's reference price x (the price that triggered it), s = +1 for a long and -1 for a short, r = s (x - p) / p, and w the part of
the entry's fill that this disposal closes:

    rung        value                                   step from the rung before
    signal      w N0 r                                  the view at a standard notional N0
    size        w N_plan r                              tier 3 made the position larger or smaller than N0
    review      w N_plan m r                            the reviewer's multiplier m
    portfolio   s q_ordered w (x - p)                   what allocation, cash and lot size cut away
    unfilled    s q (x - p)                             what the venue did not fill
    entry       s q (x - p_fill)                        slippage of the entry against p
    exit        s q (x_fill - p_fill)                   slippage of the exit against x
    fees        less the fees of both orders
    funding     plus the funding received               = realised P&L

A rung that is not known (an order without a decision, a step that is missing) is skipped: the step to the next known rung can be
given to no single stage and goes to `unexplained`, and `missing` names what was not known. With everything known it is exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any, Protocol

from helios.domain.orders import Fill, Movement, OrderRecord
from helios.portfolio.lots import EXACT, SHARE, ZERO, Disposal, fold_lots

STAGES = ("signal", "size", "review", "portfolio", "unfilled", "entry_slippage", "exit_slippage", "fees", "funding", "unexplained")
Steps = Mapping[str, Mapping[str, Any]]


class Ordered(Protocol):
    """What the stages read of an order."""

    @property
    def client_order_id(self) -> str: ...
    @property
    def decision_id(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def reference_price(self) -> Decimal: ...
    @property
    def leg(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StageEffects:
    """The realised P&L of what one exit order closed of one entry order, by stage.

    `effects` holds every name of STAGES in quote currency and adds up to `pnl_quote` exactly. `missing` names rungs that were not
    known; `exit_reason` is the exit's own (STOP, TARGET, ...) or the leg of a signal's exit.
    """

    entry_order_id: str
    exit_order_id: str
    decision_id: str
    symbol: str
    side: str
    quantity_base: Decimal
    opened_at: int
    closed_at: int
    exit_reason: str
    pnl_quote: Decimal
    effects: Mapping[str, Decimal]
    missing: tuple[str, ...]


def stage_effects(
    history: Sequence[tuple[OrderRecord, Fill]],
    movements: Iterable[Movement],
    decisions: Mapping[str, Steps],
    unit_notional_quote: Decimal,
) -> list[StageEffects]:
    """Return one line per pair of entry and exit order, in the order in which they closed.

    Parameters
    ----------
    history : sequence of (OrderRecord, Fill)
        All fills with their orders, commit order: the whole past, for what was closed first was opened first.
    movements : iterable of Movement
        Funding is shared over the lots open when it came.
    decisions : mapping
        Trace steps by decision id, as `helios.pipeline.trace` writes them.
    unit_notional_quote : Decimal
        N0, quote currency: what "the signal alone" is valued at. It moves money between `signal` and `size` only.

    Raises
    ------
    InvariantError
        If a fill has no positive price or quantity.
    """
    orders = {order.client_order_id: order for order, _ in history}
    filled: dict[str, Decimal] = {}
    for fill in {fill.fill_id: fill for _, fill in history}.values():
        filled[fill.client_order_id] = filled.get(fill.client_order_id, ZERO) + fill.quantity_base
    disposals = fold_lots((fill for _, fill in history), movements).disposals
    pairs: dict[tuple[str, str], list[Disposal]] = {}
    for disposal in disposals:
        pairs.setdefault((disposal.entry_order_id, disposal.exit_order_id), []).append(disposal)
    with localcontext(EXACT):
        return [
            stage_line(ClosedPart.of(parts, orders[entry], orders[exit_], filled[entry]), decisions, unit_notional_quote)
            for (entry, exit_), parts in pairs.items()
        ]


def stage_totals(lines: Iterable[StageEffects]) -> dict[str, Decimal]:
    """Return the sum of every stage and of `pnl_quote`."""
    totals = dict.fromkeys((*STAGES, "pnl_quote"), ZERO)
    with localcontext(EXACT):
        for line in lines:
            totals["pnl_quote"] += line.pnl_quote
            for name, value in line.effects.items():
                totals[name] += value
    return totals


@dataclass(frozen=True, slots=True)
class ClosedPart:
    """One pair of orders: what was closed, at which prices, and what of the entry was filled in all."""

    disposals: tuple[Disposal, ...]
    entry: Ordered
    exit: Ordered
    filled: Decimal
    quantity: Decimal
    side: int
    step: Decimal | None
    """From the entry's reference price to the exit's; None where one is not known."""

    @classmethod
    def of(cls, disposals: Sequence[Disposal], entry: Ordered, exit_: Ordered, filled: Decimal) -> ClosedPart:
        """Return the part of an entry, filled by `filled` in all, that `disposals` closed."""
        p, x = entry.reference_price, exit_.reference_price
        quantity = sum((d.quantity_base for d in disposals), ZERO)
        return cls(tuple(disposals), entry, exit_, filled, quantity, int(disposals[0].side), x - p if p > 0 and x > 0 else None)

    def at(self, notional: Decimal | None) -> Decimal | None:
        """P&L of this part's share of a notional between the two reference prices."""
        if notional is None or self.step is None:
            return None
        return (notional * self.quantity * self.side * self.step / (self.filled * self.entry.reference_price)).quantize(SHARE)

    def ordered(self, quantity: Decimal | None) -> Decimal | None:
        """P&L of this part's share of the ordered quantity, without any division where it was filled whole."""
        if quantity is None:
            return None
        share = self.quantity if quantity == self.filled else (quantity * self.quantity / self.filled).quantize(SHARE)
        return self.between(share)

    def between(self, quantity: Decimal) -> Decimal | None:
        """P&L of a quantity between the two reference prices."""
        return None if self.step is None else self.side * quantity * self.step


def stage_line(part: ClosedPart, decisions: Mapping[str, Steps], unit: Decimal) -> StageEffects:
    """Return the effects of one pair of orders; to be called inside the context EXACT."""
    disposals, entry, exit_ = part.disposals, part.entry, part.exit
    steps = decisions.get(entry.decision_id, {})
    rungs = _rungs(part, steps, unit)
    effects, missing = _climb(rungs)
    return StageEffects(
        entry_order_id=entry.client_order_id,
        exit_order_id=exit_.client_order_id,
        decision_id=entry.decision_id,
        symbol=entry.symbol,
        side=disposals[0].side.name,
        quantity_base=part.quantity,
        opened_at=min(d.opened_at for d in disposals),
        closed_at=max(d.closed_at for d in disposals),
        exit_reason=exit_.reason or exit_.leg,
        pnl_quote=rungs[-1][1] or ZERO,
        effects=effects,
        missing=missing,
    )


def _rungs(part: ClosedPart, steps: Steps, unit: Decimal) -> list[tuple[str, Decimal | None]]:
    notional = _number(steps, "plan", "notional_quote")
    multiplier = _number(steps, "review", "multiplier")
    reviewed = None if notional is None or multiplier is None else notional * multiplier
    exit_reference = part.exit.reference_price
    at_entry_fill = None
    if exit_reference > 0:
        at_entry_fill = sum((d.side * (d.quantity_base * exit_reference - d.entry_value_quote) for d in part.disposals), ZERO)
    gross = sum((d.side * (d.exit_value_quote - d.entry_value_quote) for d in part.disposals), ZERO)
    fees = sum((d.entry_fees_quote + d.exit_fees_quote for d in part.disposals), ZERO)
    funding = sum((d.funding_quote for d in part.disposals), ZERO)
    return [
        ("signal", None if notional is None else part.at(unit)),  # without a plan there was no view to value
        ("size", part.at(notional)),
        ("review", part.at(reviewed)),
        ("portfolio", part.ordered(_number(steps, "allocation", "quantity_base"))),
        ("unfilled", part.between(part.quantity)),
        ("entry_slippage", at_entry_fill),
        ("exit_slippage", gross),
        ("fees", gross - fees),
        ("funding", gross - fees + funding),
    ]


def _climb(rungs: Sequence[tuple[str, Decimal | None]]) -> tuple[dict[str, Decimal], tuple[str, ...]]:
    effects = dict.fromkeys(STAGES, ZERO)
    missing: list[str] = []
    level, gap = ZERO, False
    for name, value in rungs:
        if value is None:
            missing.append(name)
            gap = True
            continue
        effects["unexplained" if gap else name] += value - level
        level, gap = value, False
    return effects, tuple(missing)


def _number(steps: Steps, tier: str, name: str) -> Decimal | None:
    # Steps are JSON that any version of the program may have written: text, number, null or not there.
    value = (steps.get(tier) or {}).get(name)
    try:
        number = None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None
