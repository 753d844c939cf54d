"""Who a trade socket's client is: VALR's three headers on the upgrade request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from enum import Enum

BAD_SIGNATURE = (1007, "Request has an invalid signature")
"""Close code and reason that VALR was seen to use."""


class Identity(Enum):
    """What the headers say."""

    ANONYMOUS = "anonymous"
    AUTHENTICATED = "authenticated"
    REFUSED = "refused"


def identify(headers: Mapping[str, str], path: str, secrets: Mapping[str, str]) -> Identity:
    """Return who asks; nobody in particular without a key header.

    Parameters
    ----------
    headers : mapping of str to str
        Of the request, names in any case if the mapping allows it.
    path : str
        Path with query as sent.
    secrets : mapping of str to str
        Secret per API key.

    Notes
    -----
    VALR does not document how old a timestamp may be, so its age is not looked at.
    """
    key = headers.get("X-VALR-API-KEY")
    if key is None:
        return Identity.ANONYMOUS
    text = headers.get("X-VALR-TIMESTAMP", "") + "GET" + path + headers.get("X-VALR-SUB-ACCOUNT-ID", "")
    wanted = hmac.new(secrets.get(key, "").encode(), text.encode(), hashlib.sha512).hexdigest()
    is_right = key in secrets and hmac.compare_digest(wanted, headers.get("X-VALR-SIGNATURE", ""))
    return Identity.AUTHENTICATED if is_right else Identity.REFUSED
