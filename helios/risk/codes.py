"""Every code a tier can end a decision with, as a sentence for whoever answers for the money."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SENTENCES: Mapping[str, str] = MappingProxyType({
    # data
    "DATA_MISSING": "No market data of this symbol arrived before the bar's deadline.",
    "STALE_DATA": "The market data were too old, or the feed was being repaired: nobody trades on yesterday's price.",
    "UNKNOWN_SYMBOL": "The desk has no market data or no instrument for this symbol.",
    # prediction
    "HOLD": "The model sees no reason to buy or to sell.",
    "MODEL_UNAVAILABLE": "The model did not answer in time.",
    # risk: before the size
    "LOW_CONFIDENCE": "The model is not sure enough.",
    "INVALID_CONFIDENCE": "The model's confidence is no probability; it is not believed.",
    "TRADING_HALTED": "The drawdown has reached its limit: nothing is opened until a person has looked.",
    "REDUCING": "The day's loss or the row of losses has reached its limit: positions may only be reduced.",
    "SYMBOL_REDUCE_ONLY": "The symbol was removed, or is followed only because it is held: nothing is opened in it.",
    "MAX_ENTRIES_PER_DAY": "The day's number of entries is used up.",
    "MAX_OPEN_POSITIONS": "As many positions are open as may be.",
    "SHORT_NOT_ALLOWED": "A spot market cannot be sold short, and nothing is held that could be sold.",
    "INSUFFICIENT_HISTORY": "There are too few past prices for a volatility forecast.",
    "STALE_FORECAST": "The volatility forecast is too old to size with.",
    "VOLATILITY_BREAKER": "Volatility is far above its mean: no entries until it calms down.",
    # risk: the size
    "NO_VOLATILITY": "The price hardly moves: no stop distance can be taken from it.",
    "TARGET_TOO_WIDE": "The target of the short would lie at or below a price of zero, which no price reaches.",
    "NO_EQUITY": "There is no equity to size with.",
    "NO_EDGE": "After costs the bet has no edge: Kelly's fraction is zero or below.",
    "STOP_TOO_WIDE": "The stop would lie at or below a price of zero.",
    "ALREADY_HELD": "What is held already is as much as the rule wants, or nearly.",
    "MIN_NOTIONAL": "The order would be smaller than the smallest that is permitted.",
    "RAMP_WATCH_ONLY": "The capital ramp only watches: plans are made and traced, entries are not.",
    # review
    "REVIEW_REJECTED": "The reviewer vetoed the plan.",
    "VOLATILITY_TOO_HIGH": "The reviewer found the volatility too high or unknown.",
    "EXTREME_REGIME": "The reviewer found the volatility extreme for this symbol.",
    "DRAWDOWN": "The reviewer is cautious in a drawdown.",
    "HEAVILY_INVESTED": "Much of the equity is invested already.",
    "ONE_SIDED_ATTENTION": "One timeframe carries nearly all of the model's attention.",
    "LLM_COST_CAP": "The day's budget for the language model is used up.",
    "LLM_TIMEOUT": "The language model did not answer before the deadline.",
    "LLM_PARSE_ERROR": "The language model's answer was not in the required form.",
    "LLM_ERROR": "The language model could not be asked.",
    "LLM_FALLBACK": "The configured fallback decided in place of the language model.",
    # portfolio
    "UNKNOWN_INSTRUMENT": "The venue has no such instrument.",
    "SOLVER_FAILED": "The optimiser found no solution; the present weights are kept.",
    "OPTIMISER_ZERO": "In the whole portfolio this trade is not worth its cost and risk.",
    "INSUFFICIENT_CASH": "The free cash, less its cushion, does not cover the order.",
    "BELOW_MINIMUM": "What is left of the order is below the venue's or the desk's minimum.",
    "NOTHING_HELD": "There is no holding that the order would reduce.",
    # the limits before every order
    "TICK_SIZE": "The price is not on the venue's price grid.",
    "LOT_SIZE": "The quantity is not on the venue's quantity grid.",
    "MIN_QUANTITY": "The quantity is below the venue's minimum.",
    "MAX_QUANTITY": "The quantity is above the venue's maximum.",
    "REDUCE_ONLY_WOULD_INCREASE": "An order that may only reduce would have enlarged the position.",
    "MAX_DRAWDOWN": "The drawdown has reached its limit.",
    "MAX_DAILY_LOSS": "The day's loss has reached its limit.",
    "MAX_CONSECUTIVE_LOSSES": "Too many trades in a row were lost.",
    "MAX_POSITION": "Holding and order together would be too large a share of equity.",
    "MAX_SECTOR": "The sector would be too large a share of equity.",
    "MAX_LEVERAGE": "The exposure, or the order's leverage, would be above its limit.",
    "MAX_CORRELATION": "The symbol moves too much like something that is held.",
    "ENTRY_INTERVAL": "The last entry in this symbol is too recent.",
    "PRICE_DEVIATION": "The price is too far from the market.",
    "MAX_NOTIONAL": "The order is larger than the largest that is permitted.",
    "MAX_DAILY_LOSS_QUOTE": "The day's loss has reached its limit in money.",
    "MIN_BALANCE": "The account is too small to trade.",
    "DUPLICATE_ORDER": "The same order went out a moment ago.",
    "OUTSIDE_TRADING_HOURS": "Positions are opened only within the configured hours of the day.",
    "INSUFFICIENT_BALANCE": "The cash does not cover the order and its cushion.",
    # the breakers
    "EQUITY_NOT_POSITIVE": "The equity is zero or below.",
    "TRADE_FREQUENCY": "Too many trades in too short a time; the desk cools down.",
    "COMPONENTS_UNHEALTHY": "Too many parts of the desk are not well.",
    "ACCOUNT_STALE": "What is known of the account is too old.",
    "STATE_UNREADABLE": "The state of the breakers could not be read; the cautious reading holds.",
    "MANUAL_OR_COOLDOWN": "It ends when a person ends it, or after the configured time.",
    "NEXT_DAY": "It ends at 00:00 UTC.",
    "NEXT_DAY_OR_WIN": "It ends at 00:00 UTC or with a winning trade.",
    # execution
    "BAD_PRICE": "The price is not a number above zero.",
    "BAD_QUANTITY": "The quantity is not a number above zero.",
    "NO_MARKET": "There is no market snapshot to trade against.",
    "NO_PRICE": "There is no price to trade at.",
    "NOTHING_TO_REDUCE": "The position that the order would have reduced is gone.",
    "TRADING_PAUSED": "The engine does not permit entries now.",
    "LEDGER_UNAVAILABLE": "The ledger could not be written, and nothing is sent that is not written down first.",
    "UNRESOLVED_ORDER": "An earlier order's fate is not known yet; the next one waits.",
    "NEVER_SENT": "The order was written down but never reached the venue.",
    "REJECTED": "The venue or the broker refused the order.",
    "ORDERED": "The order went out.",
    # a tier that could not answer
    "RISK_UNAVAILABLE": "The risk tier did not answer.",
    "REVIEW_UNAVAILABLE": "The reviewer did not answer, and nothing goes on without it.",
    "PORTFOLIO_UNAVAILABLE": "The portfolio tier did not answer.",
    "EXECUTION_UNKNOWN": "The execution tier did not answer; the ledger says what became of the order.",
    "OPEN": "The decision was not carried to an end.",
})  # fmt: skip

EXIT_REASONS: Mapping[str, str] = MappingProxyType({
    "STOP": "the stop was reached",
    "TRAILING_STOP": "the trailing stop was reached",
    "BREAKEVEN": "the price came back to the entry after a gain",
    "SCALE_OUT": "a part was taken off at its target",
    "TARGET": "the target was reached",
    "TIMEOUT": "its time was up",
    "SIGNAL": "the model said the opposite",
    "MANUAL": "a person closed it",
    "EMERGENCY": "the emergency stop closes everything",
})  # fmt: skip


def sentence(code: str) -> str:
    """Return what a code means; an unknown one in its own words."""
    return SENTENCES.get(code) or f"{code.replace('_', ' ').capitalize()}."
