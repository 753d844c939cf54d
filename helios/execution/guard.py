"""The circuit breakers as the execution engine keeps them: fed with every account, asked before every entry, saved with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from helios.config import LimitConfig
from helios.domain.enums import TradingMode
from helios.domain.orders import AccountSnapshot
from helios.errors import DataError
from helios.risk.breakers import BreakerBoard
from helios.risk.trips import Trip, TripCode

TripListener = Callable[[Trip], None]


class AccountGuard:
    """One board of breakers for one account.

    Parameters
    ----------
    limits : LimitConfig
    on_trip : callable or None
        Told of everything that trips or is released, once.

    Attributes
    ----------
    reduce_only : tuple of str
        Symbols in which nothing new may be opened, by a person's hand.
    """

    def __init__(self, limits: LimitConfig, on_trip: TripListener | None = None) -> None:
        self._limits = limits
        self._board = BreakerBoard(limits)
        self._tell = on_trip or (lambda _trip: None)
        self._mode = TradingMode.PAPER
        self._unhealthy: tuple[str, ...] = ()
        self._ratios: Mapping[str, float] = {}
        self.reduce_only: tuple[str, ...] = ()

    @property
    def trips(self) -> tuple[Trip, ...]:
        """What has tripped and not been released, oldest first."""
        return self._board.trips

    def restore(self, saved: str, now_ns: int) -> None:
        """Take over what `to_json` wrote; what cannot be read halts the account until a person has looked."""
        if not saved:
            return
        try:
            self._board = BreakerBoard.from_json(saved, self._limits, self._mode)
        except DataError as error:
            self._board = BreakerBoard.unreadable(str(error), now_ns, self._limits, self._mode)

    def to_json(self) -> str:
        """Return what must outlive a restart."""
        return self._board.to_json()

    def set_mode(self, mode: TradingMode) -> None:
        """Follow the engine's trading mode, over a `restore` too."""
        self._mode = mode
        self._board.set_mode(mode)

    def set_unhealthy(self, components: Sequence[str]) -> None:
        """Note which components of the desk do not answer; judged with the next account."""
        self._unhealthy = tuple(components)

    def set_volatility(self, ratios: Mapping[str, float]) -> None:
        """Note each symbol's present volatility over its mean; judged once, with the next account."""
        self._ratios = dict(ratios)

    def observe(self, account: AccountSnapshot) -> bool:
        """Judge the account; True where the drawdown was released and so must start anew from the present equity."""
        ratios, self._ratios = self._ratios, {}
        events = self._board.observe(account, account.ts_event, ratios, self._unhealthy)
        return self._told(events)

    def reset(self, code: str | None, account: AccountSnapshot) -> bool:
        """Release by a person's hand; True as in `observe`.

        Raises
        ------
        RejectedError
            If there is no breaker of that code.
        """
        return self._told(self._board.reset(code, account.ts_event, account))

    def stamped(self, account: AccountSnapshot) -> AccountSnapshot:
        """Return the account with what the breakers permit and which symbols are to be left."""
        codes = tuple(dict.fromkeys(trip.code.value for trip in self._board.trips))
        return replace(account, trading_state=self._board.state, trips=codes, reduce_only=self.reduce_only)

    def open_trips(self, symbol: str) -> tuple[Trip, ...]:
        """Return the open breakers that forbid an entry in `symbol`."""
        return tuple(trip for trip in self._board.trips if trip.symbol in ("", symbol))

    def _told(self, events: Sequence[Trip]) -> bool:
        for event in events:
            self._tell(event)
        return any(event.code is TripCode.MAX_DRAWDOWN and event.released_at > 0 for event in events)
