"""The rules of an exit plan as functions of the best price so far: where the stop is now, and how much a scale-out may close."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal

from helios.domain.enums import ExitReason
from helios.domain.market import Instrument
from helios.domain.orders import ExitPlan

SCALE_OUT_LEG = "exit-scale"
"""The leg of the one order that closes a part: its client order id can exist once per position."""


def protective_stop(plan: ExitPlan, water: float) -> tuple[float, ExitReason]:
    """Return the stop that holds now and its name: the nearest of the fixed, the break-even and the trailing stop.

    `water` is the best price since the opening, so a stop never moves back. NaN where there is none at all. Of stops at the
    same price the earlier one of that order gives the name.
    """
    side = plan.side
    gain = side * (water / plan.entry_price - 1.0)
    found = (plan.stop_price, ExitReason.STOP)
    if 0 < plan.breakeven_activate_pct <= gain:
        found = _nearer(side, found, (plan.breakeven_price, ExitReason.BREAKEVEN))
    if plan.trailing_pct > 0 and 0 < plan.trailing_activate_pct <= gain:
        found = _nearer(side, found, (water * (1.0 - side * plan.trailing_pct), ExitReason.TRAILING_STOP))
    return found


def scale_out_quantity(plan: ExitPlan, held_base: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Return what a scale-out closes, in base units; 0 where it is skipped.

    The plan's fraction of everything opened, cut to the lot grid. It is skipped where the part, or what would be left of
    `held_base` (unsigned), is below the venue's minimum quantity, or below its minimum notional at `price`: a rest that nobody
    accepts could not be protected by a stop.
    """
    wanted = Decimal(str(plan.scale_out_fraction)) * plan.opened_base
    lot = instrument.lot_size_base
    part = (wanted / lot).to_integral_value(ROUND_FLOOR) * lot if lot > 0 else wanted
    return part if all(_is_accepted(quantity, price, instrument) for quantity in (part, held_base - part)) else Decimal(0)


def exit_quantity(held_base: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Return what one order that closes a position may carry, in base units: on the lot grid, and no more than the venue takes.

    What is left of a larger position goes out with the next attempt. 0 where the venue takes no order at all: then what is held
    is dust.

    Parameters
    ----------
    held_base : Decimal
        Unsigned.
    price : Decimal
        Quote currency per base unit, for the venue's minimum notional.
    """
    largest, lot = min(held_base, instrument.max_quantity_base), instrument.lot_size_base
    lots = (largest / lot).to_integral_value(ROUND_FLOOR) * lot if lot > 0 else largest
    return lots if _is_accepted(lots, price, instrument) else Decimal(0)


def is_dust(quantity_base: Decimal, price: Decimal, instrument: Instrument | None) -> bool:
    """Whether no order that the venue takes can close any of a position (signed quantity); never of an unknown instrument."""
    return instrument is not None and quantity_base != 0 and exit_quantity(abs(quantity_base), price, instrument) == 0


def _is_accepted(quantity: Decimal, price: Decimal, instrument: Instrument) -> bool:
    fits = instrument.min_quantity_base <= quantity <= instrument.max_quantity_base
    return quantity > 0 and fits and quantity * price >= instrument.min_notional_quote


def _nearer(side: int, a: tuple[float, ExitReason], b: tuple[float, ExitReason]) -> tuple[float, ExitReason]:
    return b if math.isnan(a[0]) or side * b[0] > side * a[0] else a
