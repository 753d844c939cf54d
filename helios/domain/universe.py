"""Which symbols a desk trades: those it was started with, those added while it runs, and those it may only leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from helios.domain.market import Instrument
from helios.errors import ConfigError


class Origin(StrEnum):
    """Why a symbol is followed: the configuration names it, a person added it, or the account holds it."""

    CONFIGURED = "CONFIGURED"
    ADDED = "ADDED"
    HELD = "HELD"


@dataclass(frozen=True, slots=True)
class Member:
    """One symbol of the universe.

    Attributes
    ----------
    reduce_only : bool
        Nothing new is opened; what is held is watched, and closed by its rules.
    owner : str
        Name of the actor that was started for it alone; empty while there is none, and for the configured ones.
    """

    instrument: Instrument
    origin: Origin = Origin.CONFIGURED
    reduce_only: bool = False
    owner: str = ""

    @property
    def symbol(self) -> str:
        """In ccxt's form."""
        return self.instrument.symbol


def choose_symbols(wanted: Sequence[str], offered: Mapping[str, Instrument], default: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the symbols to trade, in ccxt's form; `BTC-ZAR`, `BTCZAR` and `btc/zar` are understood.

    Without a wish the default's that are offered, else the first six of the first one's quote currency.

    Raises
    ------
    ConfigError
        Naming the first unknown symbol and what is offered.
    """
    by_plain = {_plain(s): s for s in offered} | {_plain(i.venue_symbol): s for s, i in offered.items()}
    chosen = []
    first_quote = next((i.quote for i in offered.values()), "")
    alike = [s for s, i in offered.items() if i.quote == first_quote]
    for name in wanted or [s for s in default if s in offered] or alike[:6]:
        symbol = by_plain.get(_plain(name))
        if symbol is None:
            raise ConfigError(f"unknown symbol {name!r}; offered: {', '.join(sorted(offered)[:12])}")
        if symbol not in chosen:
            chosen.append(symbol)
    return tuple(chosen)


def reference_symbol(symbols: Sequence[str], instruments: Mapping[str, Instrument]) -> str | None:
    """Return the venue's BTC pair among the traded symbols."""
    return next((s for s in symbols if instruments[s].base == "BTC"), None)


def _plain(symbol: str) -> str:
    return symbol.upper().replace("/", "").replace("-", "").replace(":", "")
