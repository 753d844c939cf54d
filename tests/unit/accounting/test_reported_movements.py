"""Money that a person reports: what is refused before it is written down."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from helios.domain.enums import MarketKind, MovementKind
from helios.domain.market import Instrument
from helios.domain.orders import Movement
from helios.errors import RejectedError
from helios.portfolio.accounting import Account
from helios.portfolio.movements import check_movement, movement_of
from tests.support.execution_fakes import T0, D

PERP = Instrument("BTC/ZAR:ZAR", "BTC", "ZAR", "v", "BTCZARPERP", kind=MarketKind.PERP)
SPOT = Instrument("BTC/ZAR", "BTC", "ZAR", "v", "BTCZAR")
DESK = {i.symbol: i for i in (PERP, SPOT)}


def test_words_become_movements_to_the_last_digit() -> None:
    coins = movement_of("a", "transfer", "-0.000000000000000001", T0, currency="btc", value="-0.9")
    assert coins == Movement("a", MovementKind.TRANSFER, D("-0.000000000000000001"), T0, "", "BTC", D("-0.9"))
    assert movement_of("b", "Funding", "-2.5", T0, PERP.symbol) == Movement("b", MovementKind.FUNDING, D("-2.5"), T0, PERP.symbol)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "gift", "1"), "transfer or funding"),
        (("", "transfer", "1"), "needs an id"),
        (("a", "transfer", "much"), "not a number"),
        (("a", "transfer", "NaN"), "not a number"),
        (("a", "transfer", "1e400"), "not a number"),
        (("a", "transfer", "0.0000000000000000001"), "18 decimals"),
        (("a", "transfer", "0"), "is nothing"),
        (("a", "funding", "1"), "belongs to a symbol"),
        (("a", "transfer", "1", "BTC/ZAR"), "belongs to no symbol"),
        (("a", "transfer", "1", "", "", "5"), "name it"),
        (("a", "transfer", "1", "", "BTC", "-5"), "another sign"),
        (("a", "transfer", "1", "", "BTC", "x"), "the value 'x' is not a number"),
    ],
)
def test_what_means_nothing_is_refused(arguments: tuple[str, ...], words: str) -> None:
    named = dict(zip(("movement_id", "kind", "amount", "symbol", "currency", "value"), arguments, strict=False))
    with pytest.raises(RejectedError, match=words):
        movement_of(ts_event=T0, **named)


def test_more_than_there_is_cannot_be_withdrawn_and_spot_has_no_funding() -> None:
    account = Account(D(100), T0, quote="ZAR")
    account.transfer(D(2), T0, "coins", currency="BTC", value_quote=D(50))
    shown = account.snapshot(T0)
    out = Movement("x", MovementKind.TRANSFER, D(-100), T0)
    for fine in (out, replace(out, amount=D(-2), currency="BTC"), replace(out, currency="ZAR"), replace(out, amount=D(10**9))):
        check_movement(fine, shown, DESK, "ZAR")
    for amount, currency in (("-100.01", ""), ("-100.01", "ZAR"), ("-2.1", "BTC"), ("-1", "ETH")):
        with pytest.raises(RejectedError, match="cannot be withdrawn: there are"):
            check_movement(replace(out, amount=Decimal(amount), currency=currency), shown, DESK, "ZAR")
    paid = Movement("f", MovementKind.FUNDING, D(-1), T0, PERP.symbol)
    check_movement(paid, shown, DESK, "ZAR")
    for symbol in (SPOT.symbol, "ETH/ZAR:ZAR"):
        with pytest.raises(RejectedError, match="no funding"):
            check_movement(replace(paid, symbol=symbol), shown, DESK, "ZAR")
