"""Which assets fall together: the default grouping for the sector limit.

A configuration default, not a finding: a coarse reading of what each asset is used for. A desk that groups otherwise passes
its own mapping to `check_limits`. What is not listed is "other", and all of "other" shares one limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OTHER = "other"
_GROUPS = {
    "store-of-value": ("BTC", "XBT", "WBTC", "BCH", "PAXG", "XAUT"),
    "smart-contract": (
        "ETH", "SOL", "ADA", "AVAX", "DOT", "ATOM", "NEAR", "TRX", "BNB", "TON", "SUI", "APT", "ALGO", "ETC", "MATIC", "POL",
    ),
    "payments": ("XRP", "XLM", "LTC", "DASH", "XMR", "ZEC", "XNO"),
    "oracle": ("LINK", "BAND", "PYTH", "API3"),
    "defi": ("UNI", "AAVE", "MKR", "CRV", "COMP", "SNX", "LDO"),
    "meme": ("DOGE", "SHIB", "PEPE", "BONK", "WIF", "FLOKI"),
    "stablecoin": ("USDT", "USDC", "DAI", "USDPC", "EURC"),
}  # fmt: skip
DEFAULT_SECTORS: Mapping[str, str] = MappingProxyType({base: name for name, bases in _GROUPS.items() for base in bases})


def sector_of(base: str, sectors: Mapping[str, str] = DEFAULT_SECTORS) -> str:
    """Return the sector of a base asset, "other" where it is in none."""
    return sectors.get(base.upper(), OTHER)
