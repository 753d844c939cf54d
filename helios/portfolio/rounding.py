"""From weights to orders a venue accepts: whole lots, no trade too small to be worth its cost, and still within the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal

import numpy as np

from helios.domain.decisions import FloatArray
from helios.errors import SolverError
from helios.portfolio.constraints import Constraints

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Row:
    shares: tuple[Decimal, ...]
    is_gross: bool
    most: Decimal

    def part(self, i: int, value: Decimal) -> Decimal:
        return self.shares[i] * (abs(value) if self.is_gross else value)

    def total(self, values: Sequence[Decimal]) -> Decimal:
        return sum((self.part(i, value) for i, value in enumerate(values)), _ZERO)


def round_to_lots(
    w: FloatArray,
    w0: FloatArray,
    prices: Sequence[Decimal],
    lots: Sequence[Decimal],
    min_trade: Decimal,
    equity: Decimal,
    limits: Constraints,
) -> tuple[Decimal, ...]:
    """Return the quantities to trade to come from `w0` as near to `w` as whole lots allow.

    Every trade is rounded towards no trade, and dropped below `min_trade`. A sale that is rounded away may have been meant to
    pay for a purchase, or to make room in its sector: where a sum of weights would exceed its limit (or what it is at `w0`, if
    that is more), the trades that add to it lose lots, the largest first, until it does not.

    Parameters
    ----------
    w, w0 : ndarray of shape (n_assets,)
        Wanted and present weights, both within the bounds of `limits`.
    prices, lots : sequence of Decimal
        Quote currency per unit; smallest step of each asset's quantity, in units.
    min_trade, equity : Decimal
        In quote currency.
    limits : Constraints
        Its sectors, leverage, budget and cash are kept exactly. The bounds and the trade limits need no look: every quantity
        lies between none and the wanted one.

    Returns
    -------
    quantities : tuple of Decimal
        Signed, multiples of the lots. A position that is no multiple of its lot leaves the remainder behind when closed.

    Raises
    ------
    SolverError
        If a price, a lot or the equity is not positive and finite, a weight is not finite, or the lengths differ.
    """
    if {len(w), len(w0), len(prices), len(lots), len(limits.funded)} != {len(w)} or not np.isfinite([w, w0]).all():
        raise SolverError("weights, prices and lots do not fit together, or a weight is not finite")
    if not all(x.is_finite() and x > 0 for x in (*prices, *lots, equity)) or not (min_trade.is_finite() and min_trade >= 0):
        raise SolverError("a price, a lot or the equity is not positive, or the smallest trade is negative")
    held = [_exact(x) * equity for x in w0.tolist()]
    moved = [_exact(x) * equity - h for x, h in zip(w.tolist(), held, strict=True)]
    q = [_worth(_whole(x / p, lot), p, min_trade) for x, p, lot in zip(moved, prices, lots, strict=True)]
    rows = _limited(limits, held, equity)
    while any(_shrink(row, q, held, prices, lots, min_trade) for row in rows):
        pass  # a trade that loses lots for one row may have made room in another; every round has fewer lots, so it ends
    return tuple(q)


def _limited(limits: Constraints, held: Sequence[Decimal], equity: Decimal) -> list[_Row]:
    gross = [*zip(limits.sector_matrix.tolist(), limits.sector_cap.tolist(), strict=True), ([1.0] * len(held), limits.gross_cap)]
    given = [(shares, cap, True) for shares, cap in gross] + [(limits.funded.tolist(), limits.spendable, False)]
    rows = [_Row(tuple(map(_exact, shares)), is_gross, _exact(cap) * equity) for shares, cap, is_gross in given]
    return [_Row(row.shares, row.is_gross, max(row.most, row.total(held))) for row in rows]


def _shrink(
    row: _Row,
    q: list[Decimal],
    held: Sequence[Decimal],
    prices: Sequence[Decimal],
    lots: Sequence[Decimal],
    min_trade: Decimal,
) -> bool:
    """Take lots from the trades that add to `row` until it is within its limit; say whether any were taken."""
    has_shrunk = False
    while True:
        after = [h + x * p for h, x, p in zip(held, q, prices, strict=True)]
        excess = row.total(after) - row.most
        added = [row.part(i, a) - row.part(i, h) for i, (a, h) in enumerate(zip(after, held, strict=True))]
        i = max(range(len(q)), key=added.__getitem__)
        if excess <= 0 or added[i] <= 0:
            return has_shrunk
        lot_value = row.shares[i] * prices[i] * lots[i]
        lost = max((excess / lot_value).to_integral_value(ROUND_CEILING), Decimal(1)) * lots[i]
        left = max(abs(q[i]) - lost, _ZERO).copy_sign(q[i])
        q[i] = _worth(left, prices[i], min_trade)
        has_shrunk = True


def _exact(share: float) -> Decimal:
    return Decimal(repr(float(share)))  # the number as written: 0.3 of 1000 are 30 lots of 10, not 29


def _whole(quantity: Decimal, lot: Decimal) -> Decimal:
    return (quantity / lot).to_integral_value(ROUND_DOWN) * lot


def _worth(quantity: Decimal, price: Decimal, min_trade: Decimal) -> Decimal:
    return quantity if quantity != 0 and abs(quantity) * price >= min_trade else _ZERO
