"""What was added to a run's symbols, from a real database."""

from __future__ import annotations

from decimal import Decimal

import asyncpg

from helios.domain.enums import MarketKind
from helios.domain.market import Instrument
from helios.domain.universe import Member, Origin
from helios.store.universe import UniverseStore

BTC = Instrument("BTC/ZAR", "BTC", "ZAR", "valr", "BTCZAR", tick_size=Decimal("1"), lot_size_base=Decimal("0.00000001"))
PERP = Instrument("ETH/USDT:USDT", "ETH", "USDT", "bybit", "ETHUSDT", MarketKind.PERP, max_leverage=Decimal("12.50"))


async def test_what_is_saved_comes_back_whole_and_in_order_and_only_in_its_own_run(pg_pool: asyncpg.Pool) -> None:
    store = UniverseStore(pg_pool, "run-1")
    assert await store.load() == []
    members = [Member(PERP, Origin.ADDED), Member(BTC, Origin.CONFIGURED, reduce_only=True)]
    await store.save(members)
    await store.save(members)
    assert await store.load() == members
    assert str((await store.load())[0].instrument.max_leverage) == "12.50"
    assert await UniverseStore(pg_pool, "run-2").load() == []
    await store.save(members[1:])
    assert await store.load() == members[1:]
    await UniverseStore(pg_pool, "run-2").save(members[:1])
    assert await store.load() == []
