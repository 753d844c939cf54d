from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helios.domain.decisions import Payoff
from helios.domain.enums import Action
from helios.errors import ConfigError, ModelUnavailableError, RejectedError
from helios.features import definitions
from helios.learn.artifact import CARD, SCALER, WEIGHTS, ModelCard, Registry, load_model, save_model
from helios.learn.labels import BarrierSpec
from helios.learn.network import TimeframeAttentionNet, parameter_count, preset
from helios.learn.scaling import FeatureScaler


@pytest.fixture(scope="module")
def net() -> TimeframeAttentionNet:
    torch.manual_seed(0)
    return TimeframeAttentionNet(preset("starter")).eval()


@pytest.fixture(scope="module")
def scaler() -> FeatureScaler:
    rng = np.random.default_rng(0)
    return FeatureScaler(rng.normal(size=(3, 30)), rng.uniform(0.5, 2, (3, 30)))


def card(version: str = "v1", **more) -> ModelCard:
    return ModelCard(version=version, preset="starter", **more)


@pytest.fixture
def saved(tmp_path: Path, net: TimeframeAttentionNet, scaler: FeatureScaler) -> Path:
    save_model(tmp_path / "v1", net, scaler, card(temperature=1.3, metrics={"log_loss": 0.9}))
    return tmp_path / "v1"


def test_what_was_saved_comes_back_whole(saved: Path, net: TimeframeAttentionNet, scaler: FeatureScaler) -> None:
    model = load_model(saved)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(model.net.state_dict()[name], value, rtol=0, atol=0)
    np.testing.assert_array_equal(model.scaler.std, scaler.std)
    assert model.card.temperature == 1.3
    assert model.card.parameter_count == parameter_count(net)
    assert not model.net.training


def test_starter_files_are_small(saved: Path) -> None:
    assert sum(path.stat().st_size for path in saved.iterdir()) < 2_000_000


@pytest.mark.parametrize("name", [CARD, WEIGHTS, SCALER])
def test_missing_file_means_no_model(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [CARD, WEIGHTS, SCALER])
@pytest.mark.parametrize("junk", [b"", b"{}", b"\x00\xff junk"])
def test_corrupt_file_means_no_model(saved: Path, name: str, junk: bytes) -> None:
    (saved / name).write_bytes(junk)
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_truncated_weights_are_noticed(saved: Path) -> None:
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ModelUnavailableError, match="corrupt"):
        load_model(saved)


def _edit(saved: Path, **changes) -> None:
    (saved / CARD).write_text(json.dumps({**json.loads((saved / CARD).read_text()), **changes}))


def test_other_feature_schema_is_refused(saved: Path) -> None:
    _edit(saved, feature_schema="0000000000000000")
    with pytest.raises(ModelUnavailableError, match="schema"):
        load_model(saved)


@pytest.mark.parametrize("change", ["order", "formulas"])
def test_scaler_and_weights_are_refused_once_the_features_mean_something_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    load_model(saved)
    if change == "order":
        monkeypatch.setattr(definitions, "FEATURE_NAMES", definitions.FEATURE_NAMES[::-1])
    else:
        monkeypatch.setattr(definitions, "_FORMULAS_VERSION", definitions._FORMULAS_VERSION + 1)
    with pytest.raises(ModelUnavailableError, match="feature schema"):
        load_model(saved)


def test_scaler_of_another_model_is_refused(saved: Path, tmp_path: Path, net: TimeframeAttentionNet, scaler: FeatureScaler) -> None:
    save_model(tmp_path / "v2", net, FeatureScaler(scaler.mean + 1.0, scaler.std), card("v2"))
    (saved / SCALER).write_bytes((tmp_path / "v2" / SCALER).read_bytes())
    with pytest.raises(ModelUnavailableError, match="not the one it was trained with"):
        load_model(saved)


def test_card_from_before_scalers_had_a_digest_still_loads(saved: Path) -> None:
    _edit(saved, scaler_sha256="")
    assert load_model(saved).card.version == "v1"


@pytest.mark.parametrize("changes", [{"preset": "huge"}, {"preset": "compact"}, {"surprise": 1}, {"phase": "perfect"}])
def test_card_that_does_not_fit_is_refused(saved: Path, changes: dict) -> None:
    _edit(saved, **changes)
    with pytest.raises(ModelUnavailableError):
        load_model(saved)


@pytest.fixture
def registry(tmp_path: Path, net: TimeframeAttentionNet, scaler: FeatureScaler) -> Registry:
    registry = Registry(tmp_path)
    for version, loss in (("a", 0.95), ("b", 0.90), ("c", 0.99)):
        registry.add(net, scaler, card(version, beats_baselines=True, data_hash="d", metrics={"log_loss": loss}))
    registry.add(net, scaler, card("weak"))
    return registry


def test_promotion_makes_one_active_and_retires_the_other(registry: Registry) -> None:
    registry.promote("a")
    assert registry.promote("b").phase == "active"
    assert (registry.active(), registry.card("a").phase) == ("b", "retired")
    assert registry.get("b").card.phase == "active"


def test_rollback_returns_to_the_version_before(registry: Registry) -> None:
    registry.promote("a")
    registry.promote("b")
    assert registry.rollback().version == "a"
    assert (registry.active(), registry.card("b").phase) == ("a", "learning")
    with pytest.raises(RejectedError):
        registry.rollback()


def test_gate_refuses_a_model_that_beats_nothing(registry: Registry) -> None:
    with pytest.raises(RejectedError, match="baselines"):
        registry.promote("weak")
    assert registry.promote("weak", force=True).phase == "active"


def test_gate_refuses_a_model_worse_than_the_active_one(registry: Registry) -> None:
    registry.promote("b")
    with pytest.raises(RejectedError, match=r"0\.9900"):
        registry.promote("c")


def test_model_that_cannot_be_loaded_is_never_promoted(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "a" / WEIGHTS).write_bytes(b"")
    with pytest.raises(ModelUnavailableError):
        registry.promote("a", force=True)
    assert registry.active() != "a"


def test_versions_are_never_overwritten(registry: Registry, net: TimeframeAttentionNet, scaler: FeatureScaler) -> None:
    with pytest.raises(RejectedError, match="exists"):
        registry.add(net, scaler, card("a"))


def test_unknown_version_names_the_known_ones(registry: Registry) -> None:
    with pytest.raises(ModelUnavailableError, match="weak"):
        registry.get("nope")


def test_packaged_starter_is_there_without_a_root_and_read_only() -> None:
    model = Registry(None).get("starter")
    assert model.card.preset == "starter"
    assert parameter_count(model.net) == model.card.parameter_count
    with pytest.raises(ConfigError):
        Registry(None).promote("starter")


def test_packaged_files_are_small() -> None:
    assert sum(path.stat().st_size for path in Registry(None).path("starter").iterdir()) < 2_000_000


def test_packaged_starter_is_not_fit_for_live_money() -> None:
    card = Registry(None).card("starter")
    assert card.phase == "shadow"  # trained on a synthetic market: LIVE asks for an active model
    assert "synthetic" in card.trained_on


def test_packaged_starter_says_what_its_numbers_say() -> None:
    card = Registry(None).card("starter")
    better = [card.metrics["log_loss"] < b["log_loss"] for b in card.baselines.values() if isinstance(b, dict)]
    assert card.beats_baselines == all(better)
    assert card.verdict.startswith("Beats" if card.beats_baselines else "Does NOT")


def test_a_card_tells_what_trades_of_each_side_gave_and_under_which_exits() -> None:
    measured = {"n_trades": 1219.0, "win_rate": 0.65, "win_stops": 0.59, "loss_stops": 0.43}
    made = card("t", payoffs={"BUY": measured}, barriers=BarrierSpec(horizon_bars=144).to_dict())
    assert made.payoff(Action.BUY) == Payoff(0.59, 0.43, 1219, 2.0, 2.0, 12.0)
    assert made.payoff(Action.SELL) is None
    assert made.payoff(Action.HOLD) is None
    assert card("t", payoffs={"BUY": measured}).payoff(Action.BUY) is None  # under exits that nobody knows


def test_the_starter_s_payoffs_are_far_below_target_over_stop() -> None:
    starter = Registry(None).get("starter").card
    for action in (Action.BUY, Action.SELL):
        payoff = starter.payoff(action)
        assert payoff is not None
        assert payoff.n_trades > 1_000
        assert 1.0 < payoff.win_stops / payoff.loss_stops < 1.5  # the exits alone would promise 1.9
