"""What the language model costs, and the cap of one day."""

from __future__ import annotations

from collections.abc import Mapping

DAY_NS = 86_400_000_000_000
USD_PER_MILLION_TOKENS: Mapping[str, tuple[float, float]] = {
    "claude-haiku-4-5": (1.0, 5.0),
    "claude-sonnet-4-5": (3.0, 15.0),
    "claude-opus-4-5": (5.0, 25.0),
    "claude-opus-4-1": (15.0, 75.0),
}
"""Input and output list prices by the start of the model's name (Anthropic's price page, 2025)."""


def call_cost_usd(model: str, input_tokens: int, output_tokens: int) -> float:
    """Return the price of one call; a model that is not in the table costs as much as the dearest in it."""
    found = [price for name, price in USD_PER_MILLION_TOKENS.items() if model.startswith(name)]
    per_input, per_output = found[0] if found else max(USD_PER_MILLION_TOKENS.values())
    return (input_tokens * per_input + output_tokens * per_output) / 1e6


class CostMeter:
    """Spending of one market day against its cap.

    A call reserves its largest cost before it is sent, and settles for what it used: concurrent calls cannot pass the cap
    together, and a call that timed out stays charged in full, because the provider may have run it.
    """

    def __init__(self, cap_usd: float) -> None:
        self._cap_usd = cap_usd
        self._day = -1
        self.spent_usd = 0.0
        self.total_usd = 0.0

    def reserve(self, now_ns: int, cost_usd: float) -> bool:
        """Charge `cost_usd` if the day's cap allows; say whether it did. A new UTC day starts from zero."""
        day = now_ns // DAY_NS
        if day > self._day:
            self._day, self.spent_usd = day, 0.0
        if self.spent_usd + cost_usd > self._cap_usd:
            return False
        self._charge(cost_usd)
        return True

    def settle(self, reserved_usd: float, used_usd: float) -> None:
        """Replace a reservation by what the call really used."""
        self._charge(used_usd - reserved_usd)

    def _charge(self, usd: float) -> None:
        self.spent_usd += usd
        self.total_usd += usd
