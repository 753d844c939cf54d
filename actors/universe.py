"""The Supervisor's side of the desk's symbols: adds and removes them while it runs, and follows what is held.

Everything is told by level, not by edge: who was restarted, or did not answer, is told again at the next look. A change is stored
before it is made; with the database away it is refused. What is held and not followed (the desk was started with other symbols) is
followed all the same, database or not: its stop must be watched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from actors.base import DeskSpec
from actors.budget import request_budget
from actors.peers import PeerLookup
from actors.remote import call
from helios.domain.events import EngineEvent
from helios.domain.market import Instrument, quote_currency
from helios.domain.orders import AccountSnapshot
from helios.domain.universe import Member, choose_symbols
from helios.errors import HeliosError, RejectedError, TransportError
from helios.pipeline.universe import OWNER_PREFIX, Universe
from helios.store.engine_store import EngineStore
from helios.store.universe import UniverseStore
from helios.venues.factory import make_venue

FOLLOWERS = ("execution", "risk", "portfolio", "signal")
TELL_TIMEOUT_S = 3.0
VENUE_TIMEOUT_S = 8.0
ASK_AGAIN_S = 60.0
"""How long a venue that does not offer what is held is left alone before it is asked again."""


class UniverseWatch:
    """The one writer of the desk's universe.

    Parameters
    ----------
    spec : DeskSpec
    instruments : mapping
        Of the symbols the desk was started with.
    peers : PeerLookup
    log : logging.Logger
    """

    def __init__(self, spec: DeskSpec, instruments: Mapping[str, Instrument], peers: PeerLookup, log: logging.Logger) -> None:
        self._spec = spec
        self._configured = dict(instruments)
        self._peers = peers
        self._log = log
        self._universe = Universe(self._configured)
        self._store: UniverseStore | None = None
        self._events: EngineStore | None = None
        self._turn = asyncio.Lock()
        self._told: dict[str, tuple[int, tuple[Member, ...]]] = {}
        self._not_offered_until: dict[str, float] = {}
        self._knows_owners = False
        self._held: set[str] | None = None

    async def load(self, store: UniverseStore, events: EngineStore) -> None:
        """Go on with what this run had before a crash of this process."""
        self._store, self._events = store, events
        self._universe = Universe(self._configured, await store.load())

    @property
    def members(self) -> tuple[Member, ...]:
        """The symbols of the desk."""
        return self._universe.members

    @property
    def owners(self) -> tuple[str, ...]:
        """Names of the actors that own symbols which came later."""
        return tuple(m.owner for m in self._universe.wanted() if m.owner)

    # ---- commands ------------------------------------------------------------------------------------------------------

    async def add(self, name: str, market_time_ns: int) -> Member:
        """Trade a symbol from now on.

        Raises
        ------
        RejectedError
            If the venue does not offer it, it is traded already, has another quote currency, or the desk replays a recording.
        RetryableError
            If the venue or the database does not answer; nothing has changed.
        """
        self._check_live()
        instrument = await self._offered(name)
        async with self._turn:
            before = self._universe.get(instrument.symbol)
            member = self._universe.add(instrument)
            await self._save(member.symbol, before)
        await self._note("SYMBOL_ADDED", "INFO", f"{member.symbol} is traded from now on", market_time_ns)
        return member

    async def remove(self, name: str, market_time_ns: int) -> Member:
        """Open nothing more in a symbol; what is held of it is closed by its own rules.

        Raises
        ------
        RejectedError
            If it is not traded.
        StoreUnavailableError
            If the database is away; nothing has changed.
        """
        self._check_live()
        (symbol,) = choose_symbols([name], {m.symbol: m.instrument for m in self.members})
        async with self._turn:
            before = self._universe.get(symbol)
            member = self._universe.remove(symbol)
            await self._save(symbol, before)
        await self._note("SYMBOL_REMOVED", "INFO", f"nothing more is opened in {symbol}", market_time_ns)
        return member

    def _check_live(self) -> None:
        if self._spec.replay_path is not None:
            raise RejectedError("the symbols of a replay are those of its recording")

    async def _save(self, symbol: str, before: Member | None) -> None:
        assert self._store is not None
        try:
            await self._store.save(self._universe.to_save())
        except HeliosError:
            self._universe.restore(before, symbol)
            raise

    async def _offered(self, name: str) -> Instrument:
        offered = await self._instruments()
        (symbol,) = choose_symbols([name], offered)
        quote_currency(self._configured | {symbol: offered[symbol]})
        return offered[symbol]

    async def _instruments(self) -> dict[str, Instrument]:
        venue = make_venue(self._spec.config.venue, request_budget(self._spec))
        try:
            return {i.symbol: i for i in await asyncio.wait_for(venue.instruments(), VENUE_TIMEOUT_S)}
        except TimeoutError:
            raise TransportError(f"the venue did not answer within {VENUE_TIMEOUT_S:g} s") from None
        finally:
            with suppress(OSError):
                await venue.aclose()

    # ---- what the Supervisor's loop does -------------------------------------------------------------------------------

    async def look(self, account: AccountSnapshot | None, pids: Mapping[str, int]) -> None:
        """Follow what is held, let go of what is not held any more, and tell who does not know yet."""
        if account is not None and self._spec.replay_path is None:
            held = {position.symbol for position in account.open_positions}  # dust cannot be closed: nobody need watch it
            self._held = held
            await self._hold(held, account.ts_event)
            async with self._turn:
                await self._retire(held, account.ts_event)
        await self._tell(pids)

    def own(self, owners: Sequence[str]) -> list[tuple[str, tuple[Instrument, ...]]]:
        """Note which owners of later symbols exist; return those that should, with their symbols.

        Before this process knows the account, and while something of its symbol is held, no owner that exists is let go: a new
        incarnation has first to learn from the venue what is held.
        """
        self._knows_owners = True
        self._universe.own(owners)
        wanted = {OWNER_PREFIX + m.symbol: (m.instrument,) for m in self._universe.wanted()}
        kept = {name: () for name in owners if self._held is None or name.removeprefix(OWNER_PREFIX) in self._held}
        return list((kept | wanted).items())

    async def _hold(self, held: set[str], market_time_ns: int) -> None:
        now_s = time.monotonic()
        strangers = sorted(s for s in held if s not in self._universe and self._not_offered_until.get(s, 0.0) <= now_s)
        if not strangers:
            return
        self._not_offered_until |= dict.fromkeys(strangers, now_s + ASK_AGAIN_S)
        try:
            offered = await self._instruments()
        except HeliosError as error:
            self._log.warning("the venue's symbols are not known: %s", error)
            offered = {}
        for symbol in strangers:
            if symbol in offered:
                self._universe.hold(offered[symbol])
                words = f"{symbol} is held but was not asked for: it is followed until it is closed, and nothing is opened in it"
                await self._note("SYMBOL_HELD", "WARNING", words, market_time_ns)
            else:
                words = f"{symbol} is held, but the venue does not offer it now: nobody can watch or close it"
                await self._note("POSITION_WITHOUT_MARKET", "CRITICAL", words, market_time_ns)

    async def _retire(self, held: set[str], market_time_ns: int) -> None:
        for member in self._universe.retire(held):
            self._peers.forget(member.owner)
            self._told.pop(member.owner, None)
            await self._note("SYMBOL_RETIRED", "INFO", f"{member.symbol} is not followed any more", market_time_ns)
            with suppress(HeliosError):  # saved with the next change; until then a crash brings it back, to be retired again
                assert self._store is not None
                await self._store.save(self._universe.to_save())

    async def _tell(self, pids: Mapping[str, int]) -> None:
        members = self.members
        if self._is_as_started(members) and not self._told:
            return
        if self._universe.wanted() and not self._knows_owners:
            return  # just started: told now, everybody would let go of owners that have been there all along
        await asyncio.gather(*(self._tell_one(name, (pids.get(name, 0), members)) for name in FOLLOWERS))

    def _is_as_started(self, members: Sequence[Member]) -> bool:
        return tuple(members) == tuple(Member(i) for i in self._configured.values())

    async def _tell_one(self, name: str, news: tuple[int, tuple[Member, ...]]) -> None:
        if self._told.get(name) == news:
            return
        try:
            await call(self._peers(name).follow.remote(news[1]), TELL_TIMEOUT_S, name)
        except HeliosError as error:
            self._log.warning("%s does not know the symbols yet: %s", name, error)
            return
        self._told[name] = news

    async def _note(self, kind: str, severity: str, message: str, market_time_ns: int) -> None:
        self._log.warning("%s", message) if severity != "INFO" else self._log.info("%s", message)
        assert self._events is not None
        try:
            await self._events.add_event(EngineEvent(kind, severity, "supervisor", message, market_time_ns, {}))
        except HeliosError as error:
            self._log.warning("event not stored: %s", error)
