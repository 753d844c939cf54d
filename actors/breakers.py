"""The Supervisor's side of the circuit breakers: who is silent, what tripped, and a person's reset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actors.remote import call
from helios.domain.enums import TradingState
from helios.domain.events import EngineEvent
from helios.domain.orders import AccountSnapshot
from helios.errors import HeliosError
from helios.store.engine_store import EngineStore

TIMEOUT_S = 5.0


class BreakerWatch:
    """Carries news between the breakers in execution and the event log.

    An event that cannot be stored is tried again at the next look; an execution that was restarted counts its trips anew.

    Parameters
    ----------
    execution : callable
        Returns the handle of the execution actor.
    log : logging.Logger
    """

    def __init__(self, execution: Callable[[], Any], log: logging.Logger) -> None:
        self._execution = execution
        self._log = log
        self._told: tuple[tuple[str, ...], int] = ((), 0)
        self._of_pid = 0
        self._written = 0

    async def reset(self, code: str | None, store: EngineStore, market_time_ns: int) -> AccountSnapshot:
        """Release what tripped under `code` (None: all) and no longer holds; return the account after it.

        Raises
        ------
        RejectedError
            If there is no such breaker.
        TransportError
            If execution does not answer; repeating it is safe.
        """
        account: AccountSnapshot = await call(self._execution().reset_breakers.remote(code), TIMEOUT_S, "execution")
        await self._store(
            store, EngineEvent("BREAKERS_RESET", "WARNING", "supervisor", f"reset: {code or 'all'}", market_time_ns, {})
        )
        return account

    async def tell_silent(self, components: Sequence[str], pid: int) -> None:
        """Tell the process `pid` of execution who does not answer, once per change."""
        news = (tuple(components), pid)
        if news == self._told or (not components and not self._told[0]):
            self._told = news
            return
        try:
            await call(self._execution().set_unhealthy.remote(list(components)), TIMEOUT_S, "execution")
        except HeliosError as error:
            self._log.warning("execution not told yet: %s", error)
            return
        self._told = news

    async def write(self, status: Mapping[str, Any], store: EngineStore) -> None:
        """Make events of what tripped or was released since the last look at execution's `status`."""
        if status.get("pid", 0) != self._of_pid:
            self._of_pid, self._written = status.get("pid", 0), 0
        for number, trip in status.get("trip_log", []):
            if number > self._written:
                if not await self._store(store, _event(trip)):
                    return
                self._written = number

    async def _store(self, store: EngineStore, event: EngineEvent) -> bool:
        try:
            await store.add_event(event)
        except HeliosError as error:
            self._log.warning("event not stored yet: %s", error)
            return False
        return True


def _event(trip: Mapping[str, Any]) -> EngineEvent:
    is_open, is_halt = trip["released_at"] == 0, trip["state"] == TradingState.HALTED.value
    severity = "INFO" if not is_open else "CRITICAL" if is_halt else "WARNING"
    at = trip["tripped_at"] if is_open else trip["released_at"]
    return EngineEvent(
        trip["code"], severity, "execution", f"{'tripped' if is_open else 'released'}: {trip['detail']}", at, dict(trip)
    )
