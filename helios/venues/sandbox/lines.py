"""A client's socket with what may go wrong on it."""

from __future__ import annotations

import asyncio

from helios.venues.sandbox.clients import Client
from helios.venues.sandbox.subscriptions import Channel
from helios.venues.sandbox.switch import FaultSwitch


class Line:
    """Carries out the socket faults of one client.

    Parameters
    ----------
    client : Client
    switch : FaultSwitch
    speed : float
        Market seconds per wall second.
    now_s : float
        Monotonic wall time.
    """

    def __init__(self, client: Client, switch: FaultSwitch, speed: float, now_s: float) -> None:
        self.client = client
        self._switch = switch
        self._chaos = switch.new_socket()
        self._speed = speed
        self._looked_s = now_s
        self._silent_until_s = now_s

    def offer(self, channel: Channel, frame: bytes, now_s: float) -> None:
        """Send a market frame, or what becomes of it."""
        if self._switch.is_quiet:
            self.client.offer(frame)
            return
        for delivery in self._chaos.deliveries(self._switch.plan, channel, frame):
            if delivery.late_market_s > 0.0:
                asyncio.get_running_loop().call_later(delivery.late_market_s / self._speed, self._send, delivery.frame)
            elif not self._is_silent(now_s):
                self.client.offer(delivery.frame, delivery.pause_wall_s)

    def reply(self, frame: bytes, now_s: float) -> None:
        """Send an answer to something the client said; a silent socket does not answer."""
        if not self._is_silent(now_s):
            self.client.offer(frame)

    def look(self, now_s: float) -> None:
        """Cut the socket or let it fall silent if its time has come; call often."""
        elapsed, self._looked_s = now_s - self._looked_s, now_s
        plan = self._switch.plan
        if self._chaos.is_cut(plan, elapsed):
            self.client.cut()
        elif not self._is_silent(now_s) and self._chaos.falls_silent(plan, elapsed):
            self._silent_until_s = now_s + plan.silence_wall_s

    def _send(self, frame: bytes) -> None:
        if not self._is_silent(asyncio.get_running_loop().time()):
            self.client.offer(frame)

    def _is_silent(self, now_s: float) -> bool:
        # Switching the plan off ends a silence too.
        return now_s < self._silent_until_s and self._switch.plan.silence_every_s > 0.0
