"""What one trade-socket client has subscribed to; no I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from helios.venues.sandbox import wire

Channel = tuple[str, str]
"""Event and pair."""


class Subscriptions:
    """VALR's subscribe protocol: a SUBSCRIBE replaces the pair list of each event it names.

    Parameters
    ----------
    pairs : collection of str
        Pairs that exist, upper case.
    """

    def __init__(self, pairs: Collection[str]) -> None:
        self._pairs = list(pairs)
        self.channels: set[Channel] = set()

    def receive(self, text: str | bytes) -> tuple[list[bytes], list[Channel]]:
        """Take a client's message.

        Returns
        -------
        replies : list of bytes
            Frames to send first.
        opened : list of (event, pair)
            Channels whose present state must be sent after the replies.
        """
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            return [wire.error_frame("Invalid message - Invalid JSON")], []
        kind = message.get("type")
        if kind == "PING":
            return [wire.dump(self._pong())], []
        if kind != "SUBSCRIBE" or not isinstance(message.get("subscriptions"), list):
            return [wire.error_frame(f"Invalid message - unsupported type {kind}")], []
        return self._subscribe(message["subscriptions"])

    def _pong(self) -> dict[str, str]:
        return {"type": "PONG"} if self.channels else {"type": "PONG", "message": "NO_SUBSCRIPTIONS"}

    def _subscribe(self, subscriptions: list[Any]) -> tuple[list[bytes], list[Channel]]:
        replies: list[bytes] = []
        opened: list[Channel] = []
        for item in subscriptions:
            if not isinstance(item, dict) or not isinstance(item.get("pairs", []), list):
                replies.append(wire.error_frame("Invalid message - malformed subscription"))
                continue
            wanted = [str(pair).upper() for pair in item.get("pairs", self._pairs)]
            self._replace(str(item.get("event")), list(dict.fromkeys(wanted)), replies, opened)
        return replies, opened

    def _replace(self, event: str, wanted: list[str], replies: list[bytes], opened: list[Channel]) -> None:
        for channel in sorted(c for c in self.channels if c[0] == event and c[1] not in wanted):
            self.channels.discard(channel)
            replies.append(_ack("UNSUBSCRIBED", channel))
        for pair in wanted:
            if event not in wire.EVENTS or pair not in self._pairs:
                replies.append(wire.error_frame(f"Channel {event}, pair {pair} combination invalid"))
                continue
            self.channels.add((event, pair))
            replies.append(_ack("SUBSCRIBED", (event, pair)))
            opened.append((event, pair))


def _ack(kind: str, channel: Channel) -> bytes:
    return wire.dump({"type": kind, "message": f"{channel[0]}:{channel[1]}"})
