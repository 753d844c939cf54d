"""Configuration: defaults, then the profile's preset, then `helios.toml`, then `HELIOS__SECTION__KEY`, then command-line options.

One frozen object per component; unknown keys are refused. The environment is read only here. Secrets (API keys, database
passwords) come from the environment alone and never enter the objects that are shown or hashed.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from helios.errors import ConfigError
from helios.risk.profiles import fill_preset

Share = Annotated[float, Field(gt=0, le=1)]
"""A fraction that must not be written in percent: 15 for 15 % would be a limit that nothing ever reaches."""
Distance = Annotated[float, Field(ge=0, lt=1)]
"""A distance as a fraction of the price; 0 is none."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)  # a NaN limit would limit nothing


class DeskConfig(_Section):
    """What is traded and with how much."""

    symbols: tuple[str, ...] = ()
    decision_timeframe: Literal["1m", "5m", "15m"] = "5m"
    initial_cash_quote: Decimal = Decimal(100_000)
    symbols_per_actor: int = Field(1, ge=1)
    gather_deadline_ms: int = Field(1_500, ge=10)
    candle_close_grace_ms: int = Field(150, ge=0)
    max_data_age_s: float = Field(5.0, gt=0)


class VenueConfig(_Section):
    """Where market data come from.

    `market_kind` and `sandbox` (the venue's own test site) are for the venues behind ccxt, docs/venues.md; `rest_url` and
    `ws_url` replace the addresses of any venue; `speed` is the built-in exchange's.
    """

    name: str = "sandbox"
    market_kind: Literal["spot", "perp"] = "spot"
    sandbox: bool = False
    rest_url: str = ""
    ws_url: str = ""
    speed: float = Field(60.0, gt=0)
    rest_timeout_s: float = Field(10.0, gt=0)
    rest_requests_per_s: float = Field(20.0, gt=0)
    silence_timeout_s: float = Field(5.0, gt=0)


class SandboxConfig(_Section):
    """The built-in exchange.

    `symbols` are any BASE/QUOTE, its usual six if empty. `faults` is "all", JSON or a file with it (docs/sandbox.md); `admin` serves
    faults and truth over HTTP.
    """

    port: int = Field(0, ge=0, le=65535)
    seed: int = 34
    flow_strength: float = Field(1.0, ge=0)
    symbols: tuple[str, ...] = ()
    faults: str = ""
    admin: bool = False


class ModelConfig(_Section):
    """Which model predicts and how. `num_gpus` below 0: one where the cluster has any, else the CPU."""

    version: str = "starter"
    registry_dir: str = ""
    num_gpus: float = Field(-1.0, ge=-1)
    num_threads: int = Field(1, ge=1)
    deadline_ms: int = Field(2_000, ge=10)


class RiskConfig(_Section):
    """Tier 3. Percentages are fractions; money is quote currency. See the decisions page for sources.

    Volatility: `ewma_daily_decay` is what an EWMA keeps of its weights over a day, `ewma_weight` its share beside a GARCH in the
    logarithm of the variance (0: the GARCH alone); `forecast_ttl_h` of market time without a
    price and a forecast is refused; `alert_rise` times the lowest forecast of four hours raises an alert; from
    `garch_tasks_from` fits at one bar on the cluster does them. `payoff`: Kelly's b and a view's expected return from what the
    model's trades gave, where its card says so for these exits, or from the exits alone.
    """

    profile: Literal["conservative", "moderate", "aggressive", "swing", "scalper", "paper-starter", "live-starter"] = "moderate"
    min_confidence: float = Field(0.55, ge=0, le=1)
    kelly_multiplier: float = Field(0.25, gt=0, le=1)
    volatility_reference: float = Field(0.02, gt=0, lt=1)
    regime_caps: tuple[Share, Share, Share, Share] = (0.20, 0.15, 0.10, 0.05)
    stop_daily_volatilities: float = Field(2.0, gt=0)
    reward_to_risk: float = Field(2.0, gt=0)
    timeout_h: float = Field(24.0, gt=0)
    trailing_activate_pct: Distance = 0.02
    trailing_pct: Distance = 0.01
    breakeven_activate_pct: Distance = 0.0
    breakeven_offset_pct: Distance = 0.003
    scale_out_fraction: float = Field(0.0, ge=0, lt=1)
    scale_out_at: float = Field(0.5, gt=0, lt=1)
    exit_price: Literal["held", "last"] = "held"
    round_trip_cost_pct: Distance = 0.003
    garch_refit_h: float = Field(4.0, gt=0)
    garch_min_returns: int = Field(500, ge=100)
    garch_max_returns: int = Field(8_640, ge=100)
    garch_tasks_from: int = Field(16, ge=2)
    forecast_ttl_h: float = Field(4.0, gt=0)
    alert_rise: float = Field(2.0, gt=1)
    ewma_daily_decay: float = Field(0.5, gt=0, lt=1)
    ewma_weight: float = Field(0.5, ge=0, le=1)
    max_leverage: float = Field(3.0, ge=1, le=10)
    min_addition: float = Field(0.01, ge=0, lt=1)
    size_method: Literal["kelly", "half_kelly", "fixed_fractional", "volatility_adjusted"] = "kelly"
    volatility_rule: Literal["damped", "inverse"] = "damped"
    risk_per_trade: float = Field(0.02, gt=0, le=0.10)
    base_fraction: float = Field(0.03, gt=0, le=1)
    win_rate: float = Field(0.0, ge=0, le=1)
    average_win_pct: float = Field(0.0, ge=0)
    average_loss_pct: float = Field(0.0, ge=0)
    stop_method: Literal["volatility", "fixed"] = "volatility"
    payoff: Literal["measured", "exits"] = "measured"
    fixed_stop_pct: float = Field(0.02, gt=0, lt=1)
    fixed_target_pct: float = Field(0.05, gt=0)
    reserve: float = Field(0.0, ge=0, lt=1)
    ramp_step: int | None = Field(None, ge=0, le=5)

    @model_validator(mode="after")
    def _breakeven_lies_below_its_activation(self) -> Self:
        if 0 < self.breakeven_activate_pct <= self.breakeven_offset_pct:
            raise ValueError("breakeven_offset_pct must be below breakeven_activate_pct, or the stop would fire as it is moved")
        return self

    @field_validator("regime_caps")
    @classmethod
    def _calm_first(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(value, reverse=True):
            raise ValueError("regime_caps go from LOW to EXTREME and must not rise")
        return value


class LimitConfig(_Section):
    """Checked before every order. Fractions of equity unless the name says otherwise.

    Off by default: `min_balance_quote` and `max_daily_loss_quote` at 0 (a sum of money means nothing before the quote currency is
    known), `trading_hours_utc` empty (else from, to; from above to wraps midnight), `auto_reset_h` at 0 (a person ends a halt).

    `max_trades_in_window` lies above `max_open_positions`, so that a desk may fill its whole book in its first hour, and well below
    `max_entries_per_day`, without which it could never trip. `max_account_age_s` is two of the slowest decision bars.
    """

    max_drawdown: Share = 0.15
    max_daily_loss: Share = 0.05
    max_position: Share = 0.20
    max_sector: Share = 0.60
    max_correlation: Share = 0.90
    warn_correlation: Share = 0.70
    max_open_positions: int = Field(10, ge=0)
    max_portfolio_leverage: float = Field(3.0, gt=0, le=10)
    max_entries_per_day: int = Field(20, ge=0)
    min_entry_interval_s: float = Field(300.0, ge=0)
    max_consecutive_losses: int = Field(5, ge=1)
    max_volatility_ratio: float = Field(3.0, ge=1)
    max_price_deviation: float = Field(0.05, gt=0, lt=1)
    min_notional_quote: Decimal = Field(Decimal(10), ge=0)
    max_notional_quote: Decimal = Field(Decimal(100_000), gt=0)
    balance_cushion: float = Field(0.05, ge=0, le=1)
    max_data_age_s: float = Field(5.0, gt=0)
    warn_utilisation: float = Field(0.80, gt=0, le=1)
    min_balance_quote: Decimal = Field(Decimal(0), ge=0)
    max_daily_loss_quote: Decimal = Field(Decimal(0), ge=0)
    duplicate_window_s: float = Field(60.0, ge=0)
    trading_hours_utc: tuple[int, ...] = ()
    max_trades_in_window: int = Field(12, ge=1)
    trade_window_s: float = Field(3_600.0, gt=0)
    trade_cooldown_s: float = Field(3_600.0, ge=0)
    volatility_release: float = Field(0.90, gt=0, le=1)
    max_unhealthy: int = Field(2, ge=1)
    max_account_age_s: float = Field(1_800.0, gt=0)
    auto_reset_h: float = Field(0.0, ge=0)
    crisis_correlation: float = Field(0.80, gt=0, le=1)
    coupled_correlation: float = Field(0.50, gt=0, le=1)

    @field_validator("trading_hours_utc")
    @classmethod
    def _hours(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value and not (len(value) == 2 and min(value) >= 0 and max(value) <= 24 and value[0] != value[1]):
            raise ValueError("trading hours are none or two different hours of 0 to 24")
        return value

    @model_validator(mode="after")
    def _some_order_fits(self) -> Self:
        if self.min_notional_quote > self.max_notional_quote:
            raise ValueError("min_notional_quote is above max_notional_quote: no order would fit")
        return self


class ReviewConfig(_Section):
    """Tier 4."""

    reviewer: Literal["auto", "rules", "anthropic"] = "auto"
    model: str = "claude-sonnet-4-5"
    deadline_s: float = Field(3.0, gt=0)
    on_failure: Literal["rules", "reject", "proceed"] = "rules"
    daily_cost_cap_usd: float = Field(5.0, ge=0)


class PortfolioConfig(_Section):
    """Tier 5. `rebalance_calendar` adds fixed times (Monday, the first of the month) to the drift rule, docs/portfolio.md."""

    risk_aversion: float = Field(2.5, gt=0)
    tau: float = Field(0.025, gt=0)
    max_position: float = Field(0.20, gt=0, le=1)
    max_sector: float = Field(0.60, gt=0, le=1)
    cost_pct: float = Field(0.0015, ge=0)
    min_trade_quote: Decimal = Decimal(50)
    covariance_days: int = Field(90, ge=10)
    rebalance_drift: float = Field(0.05, gt=0)
    covariance: Literal["sample", "ledoit_wolf", "oas", "constant_correlation", "ewma", "denoised"] = "ledoit_wolf"
    covariance_half_life_days: float = Field(30.0, gt=0)
    rebalance_calendar: Literal["none", "daily", "weekly", "monthly"] = "none"
    rebalance_hour_utc: int = Field(0, ge=0, le=23)
    min_cash: float = Field(0.0, ge=0, lt=1)
    max_turnover: float | None = Field(None, gt=0)


class ExecutionConfig(_Section):
    """Paper broker and ledger."""

    slippage_pct: float = Field(0.0005, ge=0)
    default_half_spread_bps: float = Field(2.0, ge=0)
    taker_fee: Decimal = Decimal("0.001")


class ApiConfig(_Section):
    """HTTP and WebSocket API."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    push_interval_ms: int = Field(500, ge=50)


class StoreConfig(_Section):
    """State directory and buffers. The database address comes from DATABASE_URL, else the embedded server is used."""

    state_dir: str = ".helios"
    candle_buffer: int = Field(10_000, ge=1)
    trade_buffer: int = Field(1_000, ge=1)
    flush_interval_ms: int = Field(500, ge=10)


class HeliosConfig(_Section):
    """Everything a run depends on."""

    desk: DeskConfig = DeskConfig()
    venue: VenueConfig = VenueConfig()
    sandbox: SandboxConfig = SandboxConfig()
    model: ModelConfig = ModelConfig()
    risk: RiskConfig = RiskConfig()
    limits: LimitConfig = LimitConfig()
    review: ReviewConfig = ReviewConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    execution: ExecutionConfig = ExecutionConfig()
    api: ApiConfig = ApiConfig()
    store: StoreConfig = StoreConfig()

    def digest(self) -> str:
        """Return a short hash of every value; stored with each run."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


ENV_PREFIX = "HELIOS__"


def load_config(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> HeliosConfig:
    """Merge defaults, preset, file, environment and overrides into one validated object.

    The preset of `risk.profile` (helios/risk/profiles.py) fills what file, environment and overrides leave open; the object that
    comes back holds the effective values, and nothing applies a profile after this.

    Parameters
    ----------
    path : Path or None
        TOML file; None reads `helios.toml` in the working directory where there is one.
    env : mapping or None
        Environment; None reads the process's own.
    overrides : mapping or None
        `{"section.key": value}`; None values are ignored.

    Raises
    ------
    ConfigError
        With one line that names the first wrong key.
    """
    tree = _read_file(path)
    for name, value in (os.environ if env is None else env).items():
        if name.startswith(ENV_PREFIX):
            _put(tree, [part.lower() for part in name.removeprefix(ENV_PREFIX).split("__")], _parse(value), name)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(tree, dotted.split("."), value, dotted)
    fill_preset(tree)
    try:
        return HeliosConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        kind = "unknown configuration key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(f"{kind}: {key}") from None


def database_url(env: Mapping[str, str] | None = None) -> str | None:
    """Return DATABASE_URL where it is set."""
    return (os.environ if env is None else env).get("DATABASE_URL") or None


def venue_credentials(name: str, env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return `<NAME>_API_KEY` and `<NAME>_API_SECRET`, empty where they are not both set."""
    source = os.environ if env is None else env
    key, secret = (source.get(f"{name.upper()}_API_{part}", "") for part in ("KEY", "SECRET"))
    return (key, secret) if key and secret else ("", "")


def anthropic_api_key(env: Mapping[str, str] | None = None) -> str | None:
    """Return ANTHROPIC_API_KEY where it is set."""
    return (os.environ if env is None else env).get("ANTHROPIC_API_KEY") or None


def _read_file(path: Path | None) -> dict[str, Any]:
    chosen = path or Path("helios.toml")
    if not chosen.exists():
        if path is not None:
            raise ConfigError(f"configuration file not found: {path}")
        return {}
    try:
        return tomllib.loads(chosen.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"cannot read {chosen}: {error}") from None


def _put(tree: dict[str, Any], keys: list[str], value: Any, source: str) -> None:
    if len(keys) != 2:
        raise ConfigError(f"{source} does not name section and key")
    section = tree.setdefault(keys[0], {})
    if not isinstance(section, dict):
        raise ConfigError(f"unknown configuration key: {keys[0]}")
    section[keys[1]] = value


def _parse(text: str) -> Any:
    """Read an environment value as TOML where it is valid TOML, else as plain text."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
