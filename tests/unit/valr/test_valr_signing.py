"""Published and computed signature vectors."""

from __future__ import annotations

import pytest

from helios.venues.valr.signing import sign

SECRET = "4961b74efac86b25cce8fbe4c9811c4c7a787b7a5996660afcc2e287ad864363"
T = 1558014486185
MARKET_ORDER = '{"customerOrderId":"ORDER-000001","pair":"BTCUSDC","side":"BUY","quoteAmount":"80000"}'
VECTORS = {
    "official balances": (
        (SECRET, T, "GET", "/v1/account/balances", "", ""),
        "9d52c181ed69460b49307b7891f04658e938b21181173844b5018b2fe783a6d4"
        "c62b8e67a03de4d099e7437ebfabe12c56233b73c6a0cc0f7ae87e05f6289928",
    ),
    "official market order": (
        (
            SECRET,
            1558017528946,
            "POST",
            "/v1/orders/market",
            MARKET_ORDER,
            "",
        ),
        "09f536e3dfdad58443f16010a97a0a21ad27486b7b8d6d4103170d885410ed77"
        "f037f1fa628474190d4f5c08ca12c1acc850901f1c2e75c6d906ec3b32b008d0",
    ),
    "older market order": (
        (
            SECRET,
            1558017528946,
            "POST",
            "/v1/orders/market",
            MARKET_ORDER.replace("BTCUSDC", "BTCZAR"),
            "",
        ),
        "be97d4cd9077a9eea7c4e199ddcfd87408cb638f2ec2f7f74dd44aef70a49fdc"
        "49960fd5de9b8b2845dc4a38b4fc7e56ef08f042a3c78a3af9aed23ca80822e8",
    ),
    "account socket": (
        (SECRET, T, "GET", "/ws/account", "", ""),
        "7c8893b201ee0a38e4fbc0e15aa30a5bab18a9e6c1e9c4f1c50ab7d1403bd8e1"
        "923d068f21be6b2a2717c43abb014a41ef762a113bb6d323393637dae9ac02fb",
    ),
    "trade socket": (
        (SECRET, T, "GET", "/ws/trade", "", ""),
        "819a2650ba597a17da05cd5fb4a41b914de46abed43e267c1d905f4414c8fa2b"
        "45a8a94080b71ff19f16e845b29ae2869e9edb51afba6610dc5508db37494568",
    ),
    "short secret": (
        ("superdupersecret", 1577572690093, "GET", "/v1/account/balances", "", ""),
        "647d276537b952fe37f349422a4a60a76ecc2e3fad509a523b03dccd1a940525"
        "f8ff06314ad1adc5625000223c514637cd9682ee89ffc285b7493e7c64e746aa",
    ),
    "sub-account": (
        (SECRET, T, "GET", "/v1/account/balances", "", "12345"),
        "08b2e1d0fb5a0a4200df313d09a4d458c5ef7e51e9af2fd665526dcde3d17769"
        "d11e53f2a46c2c2af328dc7752040a6c409de1499aa62a6464b3d906dfb2c153",
    ),
    "query string": (
        (SECRET, T, "GET", "/v1/account/balances?excludeZeroBalances=true", "", ""),
        "b252adbf9ebb62f1a9043d15bee8a0f66fc77f139ca5a406c08a7ae56b626a17"
        "531aafbbd4899db44286f81784b366a42807b3875433702bb8a5b51df58720f5",
    ),
    "delete with body": (
        (SECRET, T, "DELETE", "/v1/orders/order", '{"orderId":"be752651-a0ce-47e6-83c5-381992e3aca6","pair":"BTCZAR"}', ""),
        "4270f35af9b2ffbe41b97d27e1df78a4343ec82618d415454126a5c333c8315e"
        "bf0a12f2c145510399f7e8405ed1852d9eac7535bcf1145d7a8f64990dd3af0f",
    ),
}


@pytest.mark.parametrize(("arguments", "signature"), VECTORS.values(), ids=VECTORS.keys())
def test_signature_equals_the_vector(arguments: tuple[str, int, str, str, str, str], signature: str) -> None:
    assert sign(*arguments) == signature


def test_verb_is_signed_in_upper_case() -> None:
    assert sign(SECRET, T, "get", "/ws/account") == sign(SECRET, T, "GET", "/ws/account")
