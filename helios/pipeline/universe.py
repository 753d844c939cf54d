"""The symbols of a running desk and how they come and go. Pure: facts come in, members go out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from helios.domain.market import Instrument
from helios.domain.universe import Member, Origin
from helios.errors import RejectedError

OWNER_PREFIX = "symbol:"


class Universe:
    """The members of a desk.

    A configured symbol stays a member until the desk stops. One that was added, or is followed because the account holds it, has
    an owner of its own and leaves once it is to be left and nothing of it is held any more.

    Parameters
    ----------
    configured : mapping
        Instruments of the configured symbols.
    saved : sequence of Member
        What `to_save` returned last.
    """

    def __init__(self, configured: Mapping[str, Instrument], saved: Sequence[Member] = ()) -> None:
        self._members = {symbol: Member(instrument) for symbol, instrument in configured.items()}
        for member in saved:
            if member.origin is not Origin.CONFIGURED or member.symbol in self._members:
                self._members[member.symbol] = replace(member, owner="")

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, in the order in which they came."""
        return tuple(self._members.values())

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._members

    def to_save(self) -> tuple[Member, ...]:
        """Return what must outlive the process that decides it: additions, and the configured ones that are to be left.

        Held ones are not among them: what is held says so by itself.
        """
        return tuple(m for m in self.members if m.origin is Origin.ADDED or (m.origin is Origin.CONFIGURED and m.reduce_only))

    def wanted(self) -> tuple[Member, ...]:
        """Return the members that need an owner of their own."""
        return tuple(m for m in self.members if m.origin is not Origin.CONFIGURED)

    def add(self, instrument: Instrument) -> Member:
        """Trade a symbol from now on, or again.

        Raises
        ------
        RejectedError
            If it is traded already.
        """
        known = self._members.get(instrument.symbol)
        if known is None:
            return self._put(Member(instrument, Origin.ADDED))
        if not known.reduce_only:
            raise RejectedError(f"{instrument.symbol} is traded already")
        origin = Origin.ADDED if known.origin is Origin.HELD else known.origin
        return self._put(replace(known, origin=origin, reduce_only=False))

    def remove(self, symbol: str) -> Member:
        """Open nothing more in a symbol.

        Raises
        ------
        RejectedError
            If it is not traded.
        """
        known = self._members.get(symbol)
        if known is None or known.reduce_only:
            raise RejectedError(f"{symbol} is not traded; traded: {', '.join(m.symbol for m in self.members if not m.reduce_only)}")
        return self._put(replace(known, reduce_only=True))

    def hold(self, instrument: Instrument) -> Member:
        """Follow a symbol that is held though nobody asked for it, until it is not."""
        return self._members.get(instrument.symbol) or self._put(Member(instrument, Origin.HELD, reduce_only=True))

    def own(self, owners: Collection[str]) -> bool:
        """Note which owners exist; whether that is news."""
        before = self.members
        for member in self.wanted():
            name = OWNER_PREFIX + member.symbol
            self._put(replace(member, owner=name if name in owners else ""))
        return self.members != before

    def retire(self, held: Collection[str]) -> tuple[Member, ...]:
        """Let go of who is to be left and of whom nothing is held; return them."""
        gone = tuple(m for m in self.wanted() if m.reduce_only and m.symbol not in held)
        for member in gone:
            del self._members[member.symbol]
        return gone

    def restore(self, member: Member | None, symbol: str) -> None:
        """Put a symbol back to what it was, None for not at all: where a change could not be saved."""
        if member is None:
            self._members.pop(symbol, None)
        else:
            self._put(member)

    def get(self, symbol: str) -> Member | None:
        """Return the member of this name."""
        return self._members.get(symbol)

    def _put(self, member: Member) -> Member:
        self._members[member.symbol] = member
        return member
