"""Whether an order may go out: the engine's own rules, every limit and the open breakers, all asked, all answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent
from helios.execution.checks import TRADING_PAUSED, UNRESOLVED_ORDER, PreTradeCheck, structural_codes
from helios.execution.guard import AccountGuard
from helios.portfolio.accounting import Account
from helios.risk.limits import Severity, Violation

Findings = Callable[[str], Sequence[Violation]]
"""(client order id) -> what the check found at its last look at that order, with limits and values."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What stands against an order (`codes`; none lets it go), the figures of it in words, and the limits it comes near to."""

    codes: tuple[str, ...] = ()
    reason: str = ""
    warnings: tuple[str, ...] = ()


class OrderGate:
    """Rules on one order at a time; sends and remembers nothing.

    Parameters
    ----------
    check : callable
        The limits, see `PreTradeCheck`.
    findings : callable or None
        What the limits found, for words; None leaves rulings without.
    instruments : mapping
        By symbol.
    account : Account
        Knows the newest prices.
    guard : AccountGuard
        The circuit breakers.
    """

    def __init__(
        self,
        check: PreTradeCheck,
        findings: Findings | None,
        instruments: Mapping[str, Instrument],
        account: Account,
        guard: AccountGuard,
    ) -> None:
        self._check = check
        self._findings = findings or (lambda _id: ())
        self._instruments = instruments
        self._account = account
        self._guard = guard
        self.entries_allowed = True

    def rule(self, intent: OrderIntent, account: AccountSnapshot, market: MarketSnapshot | None, is_blocked: bool) -> Ruling:
        """Return everything that stands against an order for this account; `is_blocked`: an order before it has no end yet."""
        limits = self._check(intent, account, self._present(market), intent.ts_event)
        found = self._findings(intent.client_order_id)
        codes = [*structural_codes(intent, account, market, self._instruments.get(intent.symbol)), *limits]
        words = [f"{v.code}, {v.detail}" for v in found if v.severity is Severity.REFUSE]
        if not intent.reduce_only:
            trips = self._guard.open_trips(intent.symbol)
            codes += [trip.code.value for trip in trips]
            words += [f"{trip.code.value}, {trip.detail}" for trip in trips if trip.code.value not in limits]
            codes += [] if self.entries_allowed else [TRADING_PAUSED]
        codes += [UNRESOLVED_ORDER] if is_blocked else []
        near = tuple(f"{v.code}, {v.detail}" for v in found if v.severity is Severity.WARN)
        return Ruling(tuple(dict.fromkeys(codes)), "; ".join(words), near)

    def _present(self, market: MarketSnapshot | None) -> MarketSnapshot | None:
        # Deciding takes seconds: the price an order was sized at is compared with the newest one, not with that of its own moment.
        newest = None if market is None else self._account.last_price(market.symbol)
        return market if market is None or newest is None or newest[1] <= market.ts_event else replace(market, last=newest[0])
