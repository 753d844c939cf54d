"""The API key of a trade socket: it spares the socket the venue's cut at 15 minutes, and the data come without it too."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidStatus

from helios.venues.valr.signing import sign

NS_PER_MS: Final = 1_000_000
REFUSED_STATUS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
BAD_SIGNATURE_CODE: Final = 1007  # seen at the live venue, with the reason "Request has an invalid signature"


class SocketKey:
    """Signs upgrades until the venue refuses the key. Never shown.

    Parameters
    ----------
    key, secret : str
        Both empty for none.
    """

    def __init__(self, key: str = "", secret: str = "") -> None:
        self._key = key
        self._secret = secret

    def __repr__(self) -> str:
        return f"SocketKey({'set' if self.is_set else 'none'})"

    @property
    def is_set(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._key and self._secret)

    def headers(self, path: str, venue_ns: int) -> dict[str, str]:
        """Return the headers of an upgrade request for `path` at the venue's time (ns UTC); none without a key."""
        if not self.is_set:
            return {}
        timestamp_ms = venue_ns // NS_PER_MS
        signature = sign(self._secret, timestamp_ms, "GET", path)
        return {"X-VALR-API-KEY": self._key, "X-VALR-SIGNATURE": signature, "X-VALR-TIMESTAMP": str(timestamp_ms)}

    def gives_up(self, error: BaseException) -> bool:
        """Forget the key if `error` says that the venue does not accept it; whether it did.

        A key that has expired, or is not allowed from this address, must not cost the public data.
        """
        if not self.is_set or not is_key_refused(error):
            return False
        self._key = self._secret = ""
        return True


def is_key_refused(error: BaseException) -> bool:
    """Return whether a socket ended because of its key: by the status of its upgrade, or by its close code."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in REFUSED_STATUS
    return isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == BAD_SIGNATURE_CODE
