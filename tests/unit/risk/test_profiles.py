from __future__ import annotations

import itertools
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest

from helios.cli.queries import _toml
from helios.config import HeliosConfig, LimitConfig, PortfolioConfig, RiskConfig, load_config
from helios.domain.decisions import TradePlan, Verdict
from helios.domain.enums import Side, VerdictKind, VolatilityRegime
from helios.domain.market import Instrument, MarketSnapshot
from helios.domain.orders import OrderIntent
from helios.errors import ConfigError
from helios.pipeline.ports import AllocationRequest, SymbolContext
from helios.portfolio.build import make_portfolio_desk
from helios.risk.build import make_risk_desk
from helios.risk.profiles import PRESETS, SHARED_KEYS
from helios.risk.sizing import SizeBounds, SizeDecision, SizeRequest, size_bounds, size_position
from tests.unit.risk.builders import account

SECTIONS = {"risk": RiskConfig, "limits": LimitConfig, "portfolio": PortfolioConfig}
SET_BY_PRESETS = sorted((p, s, k) for p, preset in PRESETS.items() for s, values in preset.items() for k in values)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(profile: str, **overrides: Any) -> HeliosConfig:
    return load_config(env={}, overrides={"risk.profile": profile} | {k.replace("__", "."): v for k, v in overrides.items()})


def test_every_profile_of_the_configuration_has_a_preset_and_the_other_way_round() -> None:
    assert set(PRESETS) == set(get_args(RiskConfig.model_fields["profile"].annotation))


@pytest.mark.parametrize("profile", sorted(PRESETS))
def test_presets_name_keys_that_exist_and_values_that_are_taken_as_they_stand(profile: str) -> None:
    config = loaded(profile)
    for section, values in PRESETS[profile].items():
        assert set(values) <= set(SECTIONS[section].model_fields)
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value


def test_moderate_is_the_configuration_itself() -> None:
    assert loaded("moderate") == load_config(env={}) == HeliosConfig()
    assert loaded("moderate").digest() == HeliosConfig().digest()


def test_each_profile_changes_the_digest() -> None:
    assert len({loaded(profile).digest() for profile in PRESETS}) == len(PRESETS)


def other(value: Any) -> Any:
    """A value that is neither the preset's nor the default, of the same kind."""
    if isinstance(value, str):
        return {"fixed_fractional": "half_kelly", "volatility_adjusted": "half_kelly"}[value]
    if isinstance(value, tuple):
        return (0.11, 0.09, 0.07, 0.03)
    if isinstance(value, int):
        return value + 3
    return value * 11 / 10 if isinstance(value, float) and value < 1 else value + 1


@pytest.mark.parametrize(("profile", "section", "key"), SET_BY_PRESETS)
def test_file_environment_and_option_each_beat_the_preset(tmp_path: Path, profile: str, section: str, key: str) -> None:
    preset = PRESETS[profile][section][key]
    given = other(preset)
    text = f"[{section}]\n{key} = {list(given) if isinstance(given, tuple) else repr(given) if isinstance(given, str) else given}\n"
    (tmp_path / "given.toml").write_text(text)
    toml = text.split(" = ")[1].strip()
    ways = [
        load_config(tmp_path / "given.toml", {}, {"risk.profile": profile}),
        load_config(env={f"HELIOS__{section.upper()}__{key.upper()}": toml, "HELIOS__RISK__PROFILE": profile}),
        load_config(env={}, overrides={"risk.profile": profile, f"{section}.{key}": given}),
    ]
    for config in ways:
        found = getattr(getattr(config, section), key)
        assert found == pytest.approx(given) if isinstance(given, float) else found == given
        assert found != preset


@pytest.mark.parametrize(("profile", "section", "key"), [c for c in SET_BY_PRESETS if c[0] == "conservative"])
def test_what_is_given_as_the_default_is_given_too(profile: str, section: str, key: str) -> None:
    # whoever writes the default down wants the default, not the preset
    default = getattr(getattr(HeliosConfig(), section), key)
    config = load_config(env={}, overrides={"risk.profile": profile, f"{section}.{key}": default})
    assert getattr(getattr(config, section), key) == default


def test_an_option_that_is_none_leaves_the_preset(tmp_path: Path) -> None:
    assert loaded("swing", risk__min_confidence=None).risk.min_confidence == 0.65


def test_the_profile_may_come_from_file_environment_or_option_the_last_of_them(tmp_path: Path) -> None:
    (tmp_path / "helios.toml").write_text('[risk]\nprofile = "swing"\n')
    assert load_config(env={}).limits.max_daily_loss == 0.04
    assert load_config(env={"HELIOS__RISK__PROFILE": "conservative"}).limits.max_daily_loss == 0.02
    assert load_config(env={"HELIOS__RISK__PROFILE": "conservative"}, overrides={"risk.profile": "moderate"}) == HeliosConfig()


@pytest.mark.parametrize("text", ['[risk]\nprofile = "reckless"', "[risk]\nprofile = 3", '[risk]\nprofile = ["swing"]'])
def test_an_unknown_profile_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "helios.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"risk\.profile"):
        load_config(env={})


@pytest.mark.parametrize("text", ["risk = 3", "limits = 3", "portfolio = []"])
def test_a_section_that_is_none_is_still_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "helios.toml").write_text(text)
    with pytest.raises(ConfigError, match=text.split(" ")[0]):
        load_config(env={})


@pytest.mark.parametrize("profile", sorted(PRESETS))
def test_both_tiers_agree_on_shared_figures(profile: str) -> None:
    config = loaded(profile)
    for key in SHARED_KEYS:
        assert getattr(config.limits, key) == getattr(config.portfolio, key)


@pytest.mark.parametrize(("profile", "given"), itertools.product(("moderate", "conservative", "aggressive"), ("limits", "portfolio")))
def test_one_given_figure_holds_in_both_tiers(profile: str, given: str) -> None:
    config = load_config(env={}, overrides={"risk.profile": profile, f"{given}.max_position": 0.12, f"{given}.max_sector": 0.33})
    assert (config.limits.max_position, config.portfolio.max_position) == (0.12, 0.12)
    assert (config.limits.max_sector, config.portfolio.max_sector) == (0.33, 0.33)


def test_two_given_figures_stand_as_given() -> None:
    config = load_config(env={}, overrides={"limits.max_position": 0.3, "portfolio.max_position": 0.1})
    assert (config.limits.max_position, config.portfolio.max_position) == (0.3, 0.1)


@pytest.mark.parametrize("profile", sorted(PRESETS))
def test_what_is_shown_reads_back_as_the_same_run(tmp_path: Path, profile: str) -> None:
    config = loaded(profile)
    shown = _toml(config)
    assert tomllib.loads(shown)["risk"]["profile"] == profile
    (tmp_path / "helios.toml").write_text(shown)
    assert load_config(env={}) == config
    assert load_config(env={}).digest() == config.digest()


def test_a_desk_takes_the_effective_values_and_applies_nothing_again() -> None:
    # a preset applied a second time would overwrite what was given
    config = loaded("aggressive", risk__kelly_multiplier=0.1, limits__max_position=0.02)
    desk = make_risk_desk(config, {})
    assert (desk._config.kelly_multiplier, desk._limits.max_position) == (0.1, 0.02)


def first_size(profile: str) -> SizeDecision | None:
    config = loaded(profile, risk__ramp_step=5) if profile == "live-starter" else loaded(profile)
    request = SizeRequest(0.80, 0.03, VolatilityRegime.MEDIUM, Decimal(100_000))
    bounds = SizeBounds(config.limits.max_position, max_notional_quote=config.limits.max_notional_quote)
    result = size_position(request, config.risk, bounds)
    return result if isinstance(result, SizeDecision) else None


def test_presets_are_ordered_by_what_they_may_lose_at_the_stop() -> None:
    loss = {p: size.loss_at_stop_quote for p in PRESETS if (size := first_size(p)) is not None}
    assert loss["live-starter"] < loss["scalper"] < loss["moderate"] < loss["aggressive"]
    assert loss["conservative"] <= 450  # 5 % of equity behind a stop of 9 %
    assert loss["moderate"] < loss["swing"]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_what_a_ramp_step_permits_can_be_bought_even_if_the_reviewer_halves_it(step: int) -> None:
    config = loaded("live-starter", risk__ramp_step=step)
    sol = Instrument("SOL/ZAR", "SOL", "ZAR", "test", "SOLZAR", lot_size_base=Decimal("0.001"), min_notional_quote=Decimal(10))
    price = Decimal("3450.5")  # a lot is 3.45: what is left of a halved order must still hold three of them
    size = size_position(
        SizeRequest(0.72, 0.03, VolatilityRegime.MEDIUM, Decimal(100_000)), config.risk, size_bounds(config.limits, sol)
    )
    assert isinstance(size, SizeDecision)
    plan = TradePlan(
        "d1", sol.symbol, 0, Side.BUY, 0.72, size.notional_quote, 1.0, price, size.stop_pct, size.target_pct, size.loss_at_stop_quote,
        86_400 * 10**9, size.kelly_full, 0.01, size.payoff_ratio, 0.03, VolatilityRegime.MEDIUM,
    )  # fmt: skip
    halved = Verdict("d1", sol.symbol, VerdictKind.MODIFY, 0.5, "", (), "rules")
    context = SymbolContext(sol.symbol, 0, float(price), 1e6, MarketSnapshot(sol.symbol, price, 0))
    desk = make_portfolio_desk(config, {sol.symbol: sol})
    [intent] = desk.allocate(AllocationRequest(0, (plan,), (halved,), {sol.symbol: context}, account())).intents
    assert isinstance(intent, OrderIntent), intent
    assert 10 <= intent.quantity_base * price <= size.notional_quote / 2


def test_live_starter_begins_by_watching_and_may_be_stepped_on() -> None:
    assert loaded("live-starter").risk.ramp_step == 0
    assert loaded("live-starter", risk__ramp_step=1).risk.ramp_step == 1
    assert HeliosConfig().risk.ramp_step is None
    with pytest.raises(ConfigError, match="ramp_step"):
        loaded("live-starter", risk__ramp_step=6)
