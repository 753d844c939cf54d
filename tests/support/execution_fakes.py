"""Hand-written fakes and builders for the execution engine."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from helios.config import ExecutionConfig
from helios.domain.enums import MarketKind, Side
from helios.domain.market import NAN, Instrument, MarketSnapshot
from helios.domain.orders import AccountSnapshot, ExitRule, Fill, Movement, OrderIntent, OrderRecord, client_order_id
from helios.errors import ProtocolError, StoreUnavailableError, TransportError, VenueError
from helios.execution.lifecycle import new_record
from helios.execution.memory import MemoryLedger
from helios.execution.paper import PaperBroker
from helios.execution.ports import BrokerReport

D = Decimal
NS = 1_000_000_000
DAY = 86_400 * NS
T0 = 1_700_000_000 * NS
RULE = ExitRule(0.04, 0.08, 0.02, 0.01, DAY)
SPOT = Instrument("BTC/ZAR", "BTC", "ZAR", "sandbox", "BTCZAR", tick_size=D(1), taker_fee=D(0))
PERP = Instrument("BTC/USDT:USDT", "BTC", "USDT", "sandbox", "BTCUSDTPERP", kind=MarketKind.PERP, tick_size=D(1), taker_fee=D(0))
INSTRUMENTS = {SPOT.symbol: SPOT, PERP.symbol: PERP}
EXACT_FILLS = ExecutionConfig(slippage_pct=0.0, default_half_spread_bps=0.0)


def market(
    price: str = "850000",
    symbol: str = "BTC/ZAR",
    ts: int = T0,
    bids: Sequence[tuple[str, str]] = (),
    asks: Sequence[tuple[str, str]] = (),
    spread_bps: float = NAN,
) -> MarketSnapshot:
    def levels(side: Sequence[tuple[str, str]]) -> tuple[tuple[Decimal, Decimal], ...]:
        return tuple((D(p), D(q)) for p, q in side)

    return MarketSnapshot(symbol, D(price), ts, levels(bids), levels(asks), spread_bps)


def intent(
    name: str = "d1",
    side: Side = Side.BUY,
    quantity: str = "0.5",
    symbol: str = "BTC/ZAR",
    ts: int = T0,
    reduce_only: bool = False,
    price: str = "850000",
    rule: ExitRule | None = RULE,
) -> OrderIntent:
    leg = "reduce" if reduce_only else "entry"
    return OrderIntent(
        client_order_id(name, leg),
        name,
        symbol,
        side,
        D(quantity),
        D(price),
        reduce_only,
        leg,
        1.0,
        ts,
        None if reduce_only else rule,
    )


def record(**terms: object) -> OrderRecord:
    """Build the PENDING record of `intent(**terms)`."""
    return new_record(intent(**terms), 1)  # type: ignore[arg-type]


def fill(of: OrderRecord, index: int = 0, quantity: str | None = None, price: str = "850000", fee: str = "0", ts: int = T0) -> Fill:
    amount = of.quantity_base if quantity is None else D(quantity)
    return Fill(f"{of.client_order_id}-{index}", of.client_order_id, of.symbol, of.side, amount, D(price), D(fee), "ZAR", D(fee), ts)


def allow_all(*_: object) -> tuple[str, ...]:
    return ()


def one_position_of(limit: str) -> object:
    """A check that allows at most `limit` of notional in all, to see that each intent is checked against the latest account."""

    def check(order: OrderIntent, account: AccountSnapshot, _: object, __: int) -> tuple[str, ...]:
        held = sum((position.notional_quote for position in account.positions), D(0))
        return () if order.reduce_only or held + order.quantity_base * order.reference_price <= D(limit) else ("TOO_MUCH",)

    return check


class ProcessDied(Exception):  # noqa: N818
    """Our process ended here; nothing after this line ran."""


class FlakyLedger(MemoryLedger):
    """A ledger whose database can be taken away."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.writes_until_down: int | None = None

    async def commit_intents(self, records: Sequence[OrderRecord], epoch: int) -> list[bool]:
        self._touch()
        return await super().commit_intents(records, epoch)

    async def advance(self, records: Sequence[OrderRecord], fills: Sequence[Fill], epoch: int) -> None:
        self._touch()
        await super().advance(records, fills, epoch)

    async def order(self, client_order_id: str) -> OrderRecord | None:
        self._raise_if_down()
        return await super().order(client_order_id)

    async def open_orders(self) -> list[OrderRecord]:
        self._raise_if_down()
        return await super().open_orders()

    async def record_movements(self, movements: Sequence[Movement], epoch: int) -> None:
        self._touch()
        await super().record_movements(movements, epoch)

    async def save_account(self, snapshot: AccountSnapshot, epoch: int, breakers: str = "") -> None:
        self._raise_if_down()
        await super().save_account(snapshot, epoch, breakers)

    def _touch(self) -> None:
        if self.writes_until_down is not None:
            self.writes_until_down -= 1
            if self.writes_until_down < 0:
                self.is_down, self.writes_until_down = True, None
        self._raise_if_down()

    def _raise_if_down(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("the test took the ledger away")


class ScriptedBroker:
    """A paper broker behind a bad line.

    `script` holds one word per send, then everything is "ok": "lost" (the request never arrives), "late" (it does, its answer
    is lost), "garbled", "reject", "error <HTTP status>", "crash" and "late-crash" (we die before or after it arrives).
    """

    def __init__(self, script: Sequence[str] = ()) -> None:
        self.paper = PaperBroker(EXACT_FILLS, INSTRUMENTS)
        self.script = list(script)
        self.status_is_down = False
        self.received: list[str] = []
        self.calls: list[str] = []
        self.reports: dict[str, BrokerReport] = {}

    async def send(self, record: OrderRecord, market: MarketSnapshot) -> BrokerReport:
        word = self.script.pop(0) if self.script else "ok"
        self.calls.append(f"send {record.leg}")
        if word == "lost":
            raise TransportError("the request never arrived")
        if word.startswith("error"):
            raise VenueError(int(word.split()[1]), None, "insufficient balance")
        if word == "crash":
            raise ProcessDied
        self.received.append(record.client_order_id)
        sent = MarketSnapshot(market.symbol, D(0), market.ts_event) if word == "reject" else market
        report = self.reports[record.client_order_id] = await self.paper.send(record, sent)
        if word == "late-crash":
            raise ProcessDied
        if word == "garbled":
            raise ProtocolError("the answer cannot be read")
        if word == "late":
            raise TransportError("the answer was lost")
        return report

    async def status(self, record: OrderRecord) -> BrokerReport | None:
        self.calls.append(f"status {record.leg}")
        if self.status_is_down:
            raise TransportError("status cannot be asked")
        return await self.paper.status(record)

    async def cancel(self, record: OrderRecord) -> BrokerReport:
        self.calls.append(f"cancel {record.leg}")
        return await self.paper.cancel(record)

    # test methods

    def position(self, symbol: str) -> Decimal:
        """What the broker thinks is held."""
        fills = [f for report in self.reports.values() for f in report.fills if f.symbol == symbol]
        return sum((f.side * f.quantity_base for f in fills), D(0))
