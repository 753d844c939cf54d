"""The transition table and what a broker's report does to a record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helios.domain.enums import OrderStatus
from helios.errors import InvariantError
from helios.execution.lifecycle import TERMINAL, TRANSITIONS, advance_to, transition, with_fills
from tests.support.execution_fakes import T0, D, fill, record

S = OrderStatus


def test_four_statuses_are_terminal() -> None:
    assert {S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED} == TERMINAL


def test_cancel_after_fill_is_refused() -> None:
    with pytest.raises(InvariantError):
        transition(replace(record(), status=S.FILLED), S.CANCELED, T0)


def test_pending_order_cannot_be_filled_unsent() -> None:
    with pytest.raises(InvariantError):
        transition(record(), S.FILLED, T0)


def test_time_of_update_never_goes_back() -> None:
    assert transition(record(), S.SUBMITTED, T0 - 5).ts_updated == T0


def test_report_walks_through_every_status_between() -> None:
    ours = record(quantity="1")
    report = replace(ours, status=S.CANCELED, filled_base=D("0.4"), average_price=D(100))
    steps = advance_to(ours, report)
    assert [step.status for step in steps] == [S.SUBMITTED, S.PARTIALLY_FILLED, S.CANCELED]
    assert steps[-1].filled_base == D("0.4")


def test_report_that_is_behind_changes_nothing() -> None:
    ours = replace(record(quantity="1"), status=S.PARTIALLY_FILLED, filled_base=D("0.6"))
    assert advance_to(ours, replace(ours, status=S.PARTIALLY_FILLED, filled_base=D("0.4"))) == []
    assert advance_to(ours, replace(ours, status=S.ACCEPTED, filled_base=D(0))) == []


def test_more_fills_than_ordered_are_refused() -> None:
    order = record(quantity="1")
    with pytest.raises(InvariantError):
        with_fills(order, [fill(order, 0, "0.6"), fill(order, 1, "0.6")])


def test_every_status_has_a_row() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)
