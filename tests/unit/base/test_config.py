from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from helios.config import HeliosConfig, anthropic_api_key, database_url, load_config
from helios.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "helios.toml"
    path.write_text(text)
    return path


def refused(path: Path | None = None, env: dict[str, str] | None = None, overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, env or {}, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("text", "key"), [("[risk]\nmin_confidense = 0.6", "risk.min_confidense"), ("[rysk]\nx = 1", "rysk")])
def test_unknown_keys_are_named(tmp_path: Path, text: str, key: str) -> None:
    assert refused(written(tmp_path, text)) == f"unknown configuration key: {key}"


@pytest.mark.parametrize(("text", "key"), [
    ('[risk]\nmin_confidence = "high"', "risk.min_confidence"),
    ("[risk]\nmin_confidence = 1.5", "risk.min_confidence"),
    ("[risk]\nmin_confidence = nan", "risk.min_confidence"),
    ("[limits]\nmax_drawdown = nan", "limits.max_drawdown"),
    ("[limits]\nmax_daily_loss = inf", "limits.max_daily_loss"),
    ('[desk]\ndecision_timeframe = "7m"', "desk.decision_timeframe"),
    # percent where fractions are meant: each would be a limit that nothing reaches
    ("[limits]\nmax_drawdown = 15", "limits.max_drawdown"),
    ("[limits]\nmax_daily_loss = 5.0", "limits.max_daily_loss"),
    ("[limits]\nmax_position = 20", "limits.max_position"),
    ("[limits]\nmax_sector = 60", "limits.max_sector"),
    ("[limits]\nmax_correlation = 90", "limits.max_correlation"),
    ("[limits]\nmax_price_deviation = 5", "limits.max_price_deviation"),
    ("[limits]\nmax_portfolio_leverage = 300", "limits.max_portfolio_leverage"),
    ("[risk]\nregime_caps = [20, 15, 10, 5]", "risk.regime_caps"),
    ("[risk]\nvolatility_reference = 2", "risk.volatility_reference"),
    ("[risk]\ntrailing_pct = 1", "risk.trailing_pct"),
    ("[risk]\ntrailing_activate_pct = 2", "risk.trailing_activate_pct"),
    # the wrong way round or below nothing
    ("[risk]\nregime_caps = [0.05, 0.1, 0.15, 0.2]", "risk.regime_caps"),
    ("[limits]\nmax_drawdown = -0.1", "limits.max_drawdown"),
    ("[limits]\nmin_entry_interval_s = -1", "limits.min_entry_interval_s"),
    ("[limits]\nmax_consecutive_losses = 0", "limits.max_consecutive_losses"),
    ("[limits]\nmin_notional_quote = 500\nmax_notional_quote = 100", "limits"),
    ("[risk]\nregime_caps = [0.1, 0.2]", "risk.regime_caps"),
    ("[risk]\nramp_step = 6", "risk.ramp_step"),
    ("[risk]\nramp_step = 0.5", "risk.ramp_step"),
    ('[risk]\nsize_method = "martingale"', "risk.size_method"),
    ("[risk]\nreserve = 1.0", "risk.reserve"),
    ("[risk]\nrisk_per_trade = 0.5", "risk.risk_per_trade"),
    ("[risk]\nfixed_stop_pct = 1.0", "risk.fixed_stop_pct"),
    ("risk = 3", "risk"),
    ("[api]\nport = 70000", "api.port"),
])  # fmt: skip
def test_values_of_the_wrong_kind_are_named(tmp_path: Path, text: str, key: str) -> None:
    assert key in refused(written(tmp_path, text))


@pytest.mark.parametrize("text", ["[risk", "a = 1\na = 2", "x = "])
def test_broken_toml_is_one_line_with_the_file(tmp_path: Path, text: str) -> None:
    assert "helios.toml" in refused(written(tmp_path, text))


def test_bytes_that_are_no_text_a_directory_and_an_absent_file_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "b.toml", tmp_path, tmp_path / "absent.toml"):
        assert str(path) in refused(path)


def test_environment_beats_file_and_options_beat_both(tmp_path: Path) -> None:
    path, env = written(tmp_path, "[risk]\nmin_confidence = 0.6"), {"HELIOS__RISK__MIN_CONFIDENCE": "0.7", "OTHER": "1"}
    assert load_config(path, {}).risk.min_confidence == 0.6
    assert load_config(path, env).risk.min_confidence == 0.7
    assert load_config(path, env, {"risk.min_confidence": 0.8, "risk.kelly_multiplier": None}).risk.min_confidence == 0.8


def test_the_file_of_the_working_directory_is_read_where_none_is_named(tmp_path: Path) -> None:
    written(tmp_path, '[venue]\nname = "valr"')
    assert load_config(env={}).venue.name == "valr"


@pytest.mark.parametrize(("name", "value", "wanted"), [
    ("HELIOS__DESK__SYMBOLS", '["BTC/ZAR", "ETH/ZAR"]', ("BTC/ZAR", "ETH/ZAR")),
    ("HELIOS__DESK__INITIAL_CASH_QUOTE", "1234.56", Decimal("1234.56")),
    ("HELIOS__DESK__DECISION_TIMEFRAME", "15m", "15m"),
])  # fmt: skip
def test_environment_values_are_toml_where_they_can_be(name: str, value: str, wanted: object) -> None:
    desk = load_config(env={name: value}).desk
    assert wanted in (desk.symbols, desk.initial_cash_quote, desk.decision_timeframe)


def test_the_ramp_step_is_read_and_unset_by_default() -> None:
    assert load_config(env={"HELIOS__RISK__RAMP_STEP": "2"}).risk.ramp_step == 2
    assert HeliosConfig().risk.ramp_step is None


@pytest.mark.parametrize("name", ["HELIOS__RISK", "HELIOS__RISK__A__B", "HELIOS__RISK__NO_SUCH"])
def test_environment_names_that_fit_nothing_are_refused(name: str) -> None:
    assert "isk" in refused(env={name: "1"}).lower()


def test_digest_changes_with_every_value_and_only_then() -> None:
    base = HeliosConfig().digest()
    assert load_config(env={}).digest() == base
    changes = {"risk.min_confidence": 0.56, "store.state_dir": "other", "desk.symbols": ("BTC/ZAR",), "limits.max_drawdown": 0.2}
    assert len({base, *(load_config(env={}, overrides={k: v}).digest() for k, v in changes.items())}) == 5


def test_secrets_are_read_from_the_environment_and_enter_no_dump() -> None:
    env = {"DATABASE_URL": "postgres://u:hunter2@h/d", "ANTHROPIC_API_KEY": "sk-ant-hunter2"}
    assert "hunter2" not in load_config(env=env).model_dump_json()
    assert (database_url(env), anthropic_api_key(env)) == (env["DATABASE_URL"], env["ANTHROPIC_API_KEY"])
    assert (database_url({"DATABASE_URL": ""}), anthropic_api_key({})) == (None, None)


def test_configuration_cannot_be_changed_while_it_is_used() -> None:
    with pytest.raises(ValidationError):
        HeliosConfig().risk.min_confidence = 0.1  # type: ignore[misc]
