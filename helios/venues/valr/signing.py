"""Request signatures of the VALR API (REST calls and the WebSocket upgrade)."""

from __future__ import annotations

import hashlib
import hmac


def sign(secret: str, timestamp_ms: int, verb: str, path: str, body: str = "", sub_account_id: str = "") -> str:
    """Return the lowercase hexadecimal HMAC-SHA512 that VALR expects in `X-VALR-SIGNATURE`.

    The signed text is timestamp, verb, path, body and sub-account id joined without separators; the key is the ASCII text
    of the secret (its hexadecimal digits are not decoded).

    Parameters
    ----------
    secret : str
        API secret as VALR shows it.
    timestamp_ms : int
        Epoch milliseconds, the same digits as in `X-VALR-TIMESTAMP`.
    verb : str
        HTTP method, any case; `GET` for a WebSocket upgrade.
    path : str
        Path with the query string exactly as sent, without the host.
    body : str, default=""
        The exact text sent; empty for none.
    sub_account_id : str, default=""
        Given only if `X-VALR-SUB-ACCOUNT-ID` is sent.

    Returns
    -------
    signature : str
        128 hexadecimal digits.

    References
    ----------
    .. [1] VALR API documentation, "Authentication", docs.valr.com, read 2026-11.
    """
    text = f"{timestamp_ms}{verb.upper()}{path}{body}{sub_account_id}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha512).hexdigest()
