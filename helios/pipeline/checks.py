"""The pre-trade check of the execution engine, made of the risk limits."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping

from helios.config import LimitConfig
from helios.domain.enums import TradingMode
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, OrderIntent
from helios.errors import RejectedError
from helios.risk.limits import LimitRequest, PastOrder, Violation, limit_findings
from helios.risk.sectors import DEFAULT_SECTORS

REMEMBERED_ORDERS = 16
"""So many orders of a symbol are looked through for a duplicate: more than a desk sends within the window."""


class LimitCheck:
    """Every limit, with the memory of what was let through that the search for duplicates needs.

    Parameters
    ----------
    limits : LimitConfig
    instruments : mapping
        By symbol.
    mode : TradingMode, default=PAPER
        LIVE tolerates fewer losses in a row.
    sectors : mapping
        Base asset to sector.
    """

    def __init__(
        self,
        limits: LimitConfig,
        instruments: Mapping[str, Instrument],
        mode: TradingMode = TradingMode.PAPER,
        sectors: Mapping[str, str] = DEFAULT_SECTORS,
    ) -> None:
        self._limits = limits
        self._instruments = instruments
        self._mode = mode
        self._sectors = sectors
        self._found: tuple[str, tuple[Violation, ...]] = ("", ())
        self._passed: dict[str, deque[tuple[str, PastOrder]]] = defaultdict(lambda: deque(maxlen=REMEMBERED_ORDERS))

    def set_mode(self, mode: TradingMode) -> None:
        """Follow the engine's trading mode."""
        self._mode = mode

    def __call__(self, intent: OrderIntent, account: AccountSnapshot, market: MarketSnapshot | None, now_ns: int) -> tuple[str, ...]:
        """Return the codes of every limit the order would break, each once; empty means it may go out."""
        self._found = (intent.client_order_id, ())
        if intent.symbol not in self._instruments:
            return ("UNKNOWN_INSTRUMENT",)
        if market is None and intent.reduce_only:
            return ()
        try:
            request = self._request(intent, account, market, now_ns)
        except RejectedError:
            quantity = intent.quantity_base
            return ("BAD_PRICE",) if quantity.is_finite() and quantity > 0 else ("BAD_QUANTITY",)
        violations, warnings = limit_findings(request, self._limits, self._sectors)
        self._found = (intent.client_order_id, violations + warnings)
        if not violations and not intent.reduce_only:
            self._passed[intent.symbol].append((intent.client_order_id, _past(intent, now_ns)))
        return tuple(dict.fromkeys(violation.code for violation in violations))

    def findings(self, client_order_id: str) -> tuple[Violation, ...]:
        """Return the violations and warnings of the order looked at last, where it was this one; each has limit and value."""
        order_id, found = self._found
        return found if order_id == client_order_id else ()

    def _request(self, intent: OrderIntent, account: AccountSnapshot, market: MarketSnapshot | None, now_ns: int) -> LimitRequest:
        return LimitRequest(
            symbol=intent.symbol,
            side=intent.side,
            quantity_base=intent.quantity_base,
            price=intent.reference_price,
            reduce_only=intent.reduce_only,
            leverage=intent.leverage,
            mode=self._mode,
            instrument=self._instruments[intent.symbol],
            account=account,
            market=market,
            data_age_s=math.nan if market is None else max(0, now_ns - market.ts_event) / 1e9,
            now_ns=now_ns,
            correlations=dict(intent.correlations),
            volatility_ratio=intent.volatility_ratio,
            recent=tuple(past for order_id, past in self._passed[intent.symbol] if order_id != intent.client_order_id),
        )


def make_check(
    limits: LimitConfig,
    instruments: Mapping[str, Instrument],
    mode: TradingMode = TradingMode.PAPER,
    sectors: Mapping[str, str] = DEFAULT_SECTORS,
) -> LimitCheck:
    """Return the check an execution engine is given."""
    return LimitCheck(limits, instruments, mode, sectors)


def _past(intent: OrderIntent, now_ns: int) -> PastOrder:
    return PastOrder(intent.symbol, intent.side, intent.quantity_base, now_ns)
