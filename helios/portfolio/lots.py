"""Tax lots: what was acquired when and at what cost, and what each disposal of it gained.

A pure fold of fills (and of funding) by one of four methods. Every amount is exact: sums and products run with 60 digits, and a share
of a fee, of funding or of an average cost is cut at 1e-12 with the rest staying in the lot. So the gains of the disposals, the marked
value of the open lots and funding that came after a close add up to the account's profit to the last digit, whatever the method:

    sum(gain + funding) + sum(value - cost) of open lots + orphan funding == realised + unrealised - currency P&L

A short is disposed of in the opposite order: its proceeds come first and its cost when it is bought back. Nothing here is tax advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from enum import StrEnum

from helios.domain.enums import MovementKind, Side
from helios.domain.orders import Fill, Movement
from helios.portfolio.currency import book_fill, quote_of

ZERO = Decimal(0)
EXACT = Context(prec=60)
SHARE = Decimal("1e-12")
NS_PER_DAY = 86_400 * 1_000_000_000


class LotMethod(StrEnum):
    """Which lot a disposal takes first."""

    FIFO = "fifo"  # the oldest
    LIFO = "lifo"  # the newest
    HIFO = "hifo"  # the one whose disposal gains least: the dearest bought, the cheapest sold short
    AVERAGE = "average"  # no lot: a share of the pool of all that is held


@dataclass(frozen=True, slots=True)
class Lot:
    """What is left of one opening fill (of the whole pool under AVERAGE).

    Amounts are positive and belong to what is left; `value_quote` is quantity x price without fees. `fees_quote` and
    `funding_quote` are the shares not yet taken out by disposals.
    """

    lot_id: str
    order_id: str
    symbol: str
    side: Side
    opened_at: int
    quantity_base: Decimal
    value_quote: Decimal
    fees_quote: Decimal
    funding_quote: Decimal = ZERO

    def unrealised(self, mark: Decimal) -> Decimal:
        """Return what closing at `mark` would bring, after the fees of the opening and with the funding so far."""
        with localcontext(EXACT):
            return self.side * (self.quantity_base * mark - self.value_quote) - self.fees_quote + self.funding_quote


@dataclass(frozen=True, slots=True)
class Disposal:
    """One lot, or a part of it, closed by one fill.

    Attributes
    ----------
    entry_value_quote, exit_value_quote : Decimal
        Quantity x price of the opening and of the closing, without fees.
    entry_fees_quote, exit_fees_quote : Decimal
        Their fees, this part's share.
    funding_quote : Decimal
        Funding received (below zero: paid) by this part; income of its own, not in `gain_quote`.
    """

    symbol: str
    side: Side
    lot_id: str
    entry_order_id: str
    exit_fill_id: str
    exit_order_id: str
    opened_at: int
    closed_at: int
    quantity_base: Decimal
    entry_value_quote: Decimal
    exit_value_quote: Decimal
    entry_fees_quote: Decimal
    exit_fees_quote: Decimal
    funding_quote: Decimal

    @property
    def proceeds_quote(self) -> Decimal:
        """What the sale brought after its fees: the exit of a long, the opening of a short."""
        with localcontext(EXACT):
            if self.side is Side.BUY:
                return self.exit_value_quote - self.exit_fees_quote
            return self.entry_value_quote - self.entry_fees_quote

    @property
    def cost_quote(self) -> Decimal:
        """What the purchase took, fees included."""
        with localcontext(EXACT):
            if self.side is Side.BUY:
                return self.entry_value_quote + self.entry_fees_quote
            return self.exit_value_quote + self.exit_fees_quote

    @property
    def gain_quote(self) -> Decimal:
        """Proceeds less cost."""
        with localcontext(EXACT):
            return self.proceeds_quote - self.cost_quote

    @property
    def pnl_quote(self) -> Decimal:
        """Gain and funding: what the closed part brought in all."""
        with localcontext(EXACT):
            return self.gain_quote + self.funding_quote

    @property
    def held_days(self) -> int:
        """Whole days between opening and closing."""
        return (self.closed_at - self.opened_at) // NS_PER_DAY

    @property
    def quote(self) -> str:
        """The currency of all amounts."""
        return quote_of(self.symbol)


@dataclass(frozen=True, slots=True)
class LotReport:
    """Everything a fold of fills found out. `orphan_funding` came, by symbol, while nothing was open."""

    method: LotMethod
    disposals: tuple[Disposal, ...]
    open_lots: tuple[Lot, ...]
    orphan_funding: Mapping[str, Decimal]
    unvalued_fees: tuple[str, ...]
    """Fills whose fee in another currency nobody valued: it counts as nothing."""


@dataclass(slots=True)
class _Open:
    lot_id: str
    order_id: str
    side: Side
    opened_at: int
    price: Decimal
    quantity: Decimal
    value: Decimal
    fees: Decimal
    funding: Decimal = ZERO

    def take(self, quantity: Decimal) -> tuple[Decimal, Decimal, Decimal]:
        """Take a part out; return its value, fees and funding. The last part takes what is left."""
        if quantity == self.quantity:
            parts = self.value, self.fees, self.funding
        else:
            value = quantity * self.price if self.price else _share(self.value, quantity, self.quantity)
            parts = value, _share(self.fees, quantity, self.quantity), _share(self.funding, quantity, self.quantity)
        self.quantity -= quantity
        self.value, self.fees, self.funding = (
            own - part for own, part in zip((self.value, self.fees, self.funding), parts, strict=True)
        )
        return parts


def fold_lots(fills: Iterable[Fill], movements: Iterable[Movement] = (), method: LotMethod = LotMethod.FIFO) -> LotReport:
    """Return open lots and disposals of `fills`.

    Events count in the order of their own times; equal times keep the order given (commit order), fills before funding. A fill or
    movement id that was seen is ignored. A fee in the base asset makes the lot smaller, as in the account.

    Parameters
    ----------
    fills : iterable of Fill
    movements : iterable of Movement
        Funding is shared over the lots open in its symbol by quantity; transfers have no part in this.
    method : LotMethod, default=FIFO

    Raises
    ------
    InvariantError
        If a fill has no positive price or quantity.
    """
    fold = LotFold(method)
    events: list[tuple[int, int, Fill | Movement]] = [(f.ts_event, 0, f) for f in fills]
    events += [(m.ts_event, 1, m) for m in movements if m.kind is MovementKind.FUNDING]
    with localcontext(EXACT):
        for _, _, event in sorted(events, key=lambda e: e[:2]):
            if isinstance(event, Fill):
                fold.fill(event)
            else:
                fold.fund(event)
    return fold.report()


class LotFold:
    """The fold of `fold_lots`, event by event: each symbol's must come in the order of their times, inside the context EXACT.

    Parameters
    ----------
    method : LotMethod
    is_unique : bool
        Whether no event comes twice: then no id has to be remembered.
    """

    def __init__(self, method: LotMethod, is_unique: bool = False) -> None:
        self._method = method
        self._seen: set[tuple[type, str]] | None = None if is_unique else set()
        self._books: dict[str, list[_Open]] = {}  # in the order in which they were opened, all of one side
        self._disposals: list[Disposal] = []
        self._orphans: dict[str, Decimal] = {}
        self._unvalued: list[str] = []

    def fill(self, fill: Fill) -> None:
        """Open lots or dispose of them."""
        if not self._is_new(Fill, fill.fill_id):
            return
        booked = book_fill(fill)
        if booked.foreign is not None and booked.foreign[2] is None:
            self._unvalued.append(fill.fill_id)
        lots = self._books.setdefault(fill.symbol, [])
        left, fee = booked.quantity_base, booked.fee_quote
        while left > 0 and lots and lots[0].side is not fill.side:
            lot = self._next(lots)
            part = min(left, lot.quantity)
            exit_fee = fee if part == left else _share(fee, part, left)
            self._dispose(fill, lot, part, exit_fee)
            left, fee = left - part, fee - exit_fee
            if lot.quantity == 0:
                lots.remove(lot)
        if left > 0:
            self._acquire(fill, lots, left, fee)

    def fund(self, movement: Movement) -> None:
        """Share funding over the lots open in its symbol."""
        if not self._is_new(Movement, movement.movement_id):
            return
        lots = self._books.get(movement.symbol, [])
        left, quantity = movement.amount, sum((lot.quantity for lot in lots), ZERO)
        for lot in lots:
            part = left if lot is lots[-1] else _share(left, lot.quantity, quantity)
            lot.funding += part
            left, quantity = left - part, quantity - lot.quantity
        if not lots:
            self._orphans[movement.symbol] = self._orphans.get(movement.symbol, ZERO) + movement.amount

    def take_disposals(self) -> list[Disposal]:
        """Return the disposals since the last call, and forget them."""
        taken, self._disposals = self._disposals, []
        return taken

    def open_order_ids(self) -> set[str]:
        """Return the orders whose fills opened what is open now."""
        return {lot.order_id for lots in self._books.values() for lot in lots}

    def report(self) -> LotReport:
        """Return what the fold has found out."""
        lots = [
            Lot(o.lot_id, o.order_id, symbol, o.side, o.opened_at, o.quantity, o.value, o.fees, o.funding)
            for symbol in sorted(self._books)
            for o in self._books[symbol]
        ]
        return LotReport(
            self._method, tuple(self._disposals), tuple(lots), dict(sorted(self._orphans.items())), tuple(self._unvalued)
        )

    def _is_new(self, kind: type, event_id: str) -> bool:
        if self._seen is None:
            return True
        if (kind, event_id) in self._seen:
            return False
        self._seen.add((kind, event_id))
        return True

    def _next(self, lots: list[_Open]) -> _Open:
        if self._method is LotMethod.LIFO:
            return lots[-1]
        if self._method is LotMethod.HIFO:
            return max(lots, key=lambda lot: lot.side * lot.price)  # the first of equals is the oldest
        return lots[0]

    def _acquire(self, fill: Fill, lots: list[_Open], quantity: Decimal, fee: Decimal) -> None:
        value = quantity * fill.price
        if self._method is LotMethod.AVERAGE and lots:
            pool = lots[0]
            pool.quantity, pool.value, pool.fees = pool.quantity + quantity, pool.value + value, pool.fees + fee
            return
        # A pool has no price of its own: zero makes `take` share the value by quantity.
        price = ZERO if self._method is LotMethod.AVERAGE else fill.price
        lots.append(_Open(fill.fill_id, fill.client_order_id, fill.side, fill.ts_event, price, quantity, value, fee))

    def _dispose(self, fill: Fill, lot: _Open, quantity: Decimal, exit_fee: Decimal) -> None:
        value, entry_fee, funding = lot.take(quantity)
        self._disposals.append(
            Disposal(
                fill.symbol, lot.side, lot.lot_id, lot.order_id, fill.fill_id, fill.client_order_id, lot.opened_at, fill.ts_event,
                quantity, value, quantity * fill.price, entry_fee, exit_fee, funding,
            )
        )  # fmt: skip


def _share(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    return (total * part / whole).quantize(SHARE)
