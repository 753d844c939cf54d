"""A server connection that also takes PUT requests, which a WebSocket library has no use for."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.server import ServerConnection

MAX_PUT_BYTES = 65_536
END_OF_HEADERS = b"\r\n\r\n"


class PutConnection(ServerConnection):
    """Reads a PUT whole, keeps its body and hands it on as a GET without one; everything else passes unchanged.

    Attributes
    ----------
    body : bytes, optional
        Of a PUT; None for any other request.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.body: bytes | None = None
        self._early: bytes | None = b""  # what came so far, None once it is known what the request is

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._early is None:
            super().data_received(data)
            return
        self._early += data
        if len(self._early) < 4 and b"PUT ".startswith(self._early):
            return
        if not self._early.startswith(b"PUT "):
            data, self._early = self._early, None
            super().data_received(data)
        elif len(self._early) > MAX_PUT_BYTES:
            self.transport.abort()
        else:
            self._take_put(self._early)

    def _take_put(self, data: bytes) -> None:
        head, found, rest = data.partition(END_OF_HEADERS)
        lines = head.split(b"\r\n")
        names = [line.partition(b":")[0].strip().lower() for line in lines]
        if not found:
            return
        at = names.index(b"content-length") if b"content-length" in names else None
        text = b"0" if at is None else lines[at].partition(b":")[2].strip()
        length = int(text) if text.isdigit() else MAX_PUT_BYTES
        if len(rest) < length:
            return
        self.body, self._early = rest[:length], None
        kept = [line for i, line in enumerate(lines) if i != at]
        super().data_received(b"GET " + b"\r\n".join(kept)[4:] + END_OF_HEADERS)
