"""Models on disk: weights, scaler and card, and the registry that says which one is active."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from helios.domain.decisions import N_FEATURES, Payoff
from helios.domain.enums import Action
from helios.errors import ConfigError, DataError, ModelUnavailableError, RejectedError
from helios.features.definitions import schema_hash
from helios.learn.calibration import Calibration
from helios.learn.network import N_TIMEFRAMES, PRESETS, TimeframeAttentionNet, parameter_count
from helios.learn.scaling import FeatureScaler

Phase = Literal["learning", "shadow", "active", "retired"]
PACKAGED = Path(__file__).parent / "models"
CARD, WEIGHTS, SCALER, STATE = "card.json", "weights.pt", "scaler.json", "registry.json"


class ModelCard(BaseModel):
    """What a model is, what it was trained on and how good it really is.

    Attributes
    ----------
    version, preset, parameter_count
        Name in the registry, size by name, trainable numbers.
    data_hash, feature_schema, trained_on, train_ranges
        Lineage: hash of the training arrays, hash of the feature definitions, the source in words, first and last decision
        time (ns UTC) and row count of each split.
    barriers, class_weights, class_counts
        Label definition, loss weights and label counts of the training split (BUY, SELL, HOLD).
    payoffs
        Per side, what trades of the calibrated model gave on the calibration slice under these barriers; see
        `helios.learn.metrics.payoffs_at`. Empty where nobody measured it.
    temperature, candles_temperature, logit_offset
        Calibration, see `helios.learn.calibration.Calibration`.
    metrics, baselines
        On the untouched test slice, the network and each baseline ("not installed" where a baseline could not run).
    beats_baselines, verdict
        Whether the network has a lower log loss and a higher MCC than every baseline, and that in words.
    weights_sha256, scaler_sha256
        Digests of the weight and the scaler file; filled in by `save_model`. They tie both to this card and so to its feature
        schema. A card from before scalers had one leaves the second empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    preset: str
    parameter_count: int = 0
    feature_schema: str = ""
    data_hash: str = ""
    trained_on: str = "nothing: untrained weights"
    made_by: str = ""
    created: str = ""
    phase: Phase = "learning"
    barriers: dict[str, float] = {}
    payoffs: dict[str, dict[str, float]] = {}
    train_ranges: dict[str, tuple[int, int, int]] = {}
    class_counts: tuple[int, int, int] = (0, 0, 0)
    class_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    temperature: float = 1.0
    candles_temperature: float = 1.0
    logit_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    settings: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    beats_baselines: bool = False
    verdict: str = "Not evaluated."
    weights_sha256: str = ""
    scaler_sha256: str = ""

    def payoff(self, action: Action) -> Payoff | None:
        """Return what trades of one side gave on the calibration slice; None for HOLD or where that is not known."""
        measured, exits = self.payoffs.get(action.name), self.barriers
        if measured is None or exits.get("bars_per_day", 0.0) <= 0.0:
            return None
        return Payoff(
            win_stops=measured["win_stops"],
            loss_stops=measured["loss_stops"],
            n_trades=int(measured["n_trades"]),
            stop_daily_volatilities=exits["stop_multiple"],
            reward_to_risk=exits["reward_to_risk"],
            timeout_h=24.0 * exits["horizon_bars"] / exits["bars_per_day"],
        )

    @property
    def calibration(self) -> Calibration:
        """The map from logits to probabilities."""
        return Calibration(self.temperature, self.candles_temperature, self.logit_offset)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model in memory: network in evaluation mode, its scaler and its card."""

    net: TimeframeAttentionNet
    scaler: FeatureScaler
    card: ModelCard


def save_model(directory: Path, net: TimeframeAttentionNet, scaler: FeatureScaler, card: ModelCard) -> ModelCard:
    """Write weights, scaler and card into `directory` and return the completed card.

    The card is written last and by rename, so that a directory with a card is a whole model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    buffer, scaling = io.BytesIO(), json.dumps(scaler.to_dict()).encode()
    torch.save({name: value.detach().cpu() for name, value in net.state_dict().items()}, buffer)
    filled = {
        "weights_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "scaler_sha256": hashlib.sha256(scaling).hexdigest(),
        "parameter_count": parameter_count(net),
        "feature_schema": schema_hash(),
    }
    complete = card.model_copy(update=filled)
    (directory / WEIGHTS).write_bytes(buffer.getvalue())
    (directory / SCALER).write_bytes(scaling)
    _replace(directory / CARD, complete.model_dump_json(indent=2) + "\n")
    return complete


def read_card(directory: Path) -> ModelCard:
    """Return the card of a model directory.

    Raises
    ------
    ModelUnavailableError
        If there is none or it cannot be read.
    """
    try:
        return ModelCard.model_validate_json((directory / CARD).read_text())
    except OSError as error:
        raise ModelUnavailableError(f"no model in {directory}: {error.strerror}") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelUnavailableError(f"model card {directory / CARD} is corrupt: {str(error).splitlines()[0]}") from None


def load_model(directory: Path) -> LoadedModel:
    """Read a model and check that it is whole and fits these features.

    Raises
    ------
    ModelUnavailableError
        If a file is missing or corrupt, the weights do not fit the preset, or the feature schema is another one. One line that
        names the cause; nobody may trade on this model.
    """
    card = read_card(directory)
    if card.feature_schema != schema_hash():
        raise ModelUnavailableError(
            f"model {card.version} was trained on feature schema {card.feature_schema}, this version computes {schema_hash()}"
        )
    if card.preset not in PRESETS:
        raise ModelUnavailableError(f"model {card.version} has an unknown preset: {card.preset}")
    return LoadedModel(_load_net(directory, card), _load_scaler(directory, card), card)


def _load_net(directory: Path, card: ModelCard) -> TimeframeAttentionNet:
    try:
        raw = (directory / WEIGHTS).read_bytes()
    except OSError as error:
        raise ModelUnavailableError(f"weights of model {card.version} are missing: {error.strerror}") from None
    if hashlib.sha256(raw).hexdigest() != card.weights_sha256:
        raise ModelUnavailableError(f"weights of model {card.version} are corrupt: digest differs from the card")
    net = TimeframeAttentionNet(PRESETS[card.preset])
    try:
        net.load_state_dict(torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ModelUnavailableError(f"weights of model {card.version} do not fit: {str(error).splitlines()[0]}") from None
    return net.eval()


def _load_scaler(directory: Path, card: ModelCard) -> FeatureScaler:
    try:
        raw = (directory / SCALER).read_bytes()
        scaler = FeatureScaler.from_dict(json.loads(raw))
    except (OSError, ValueError, DataError) as error:
        raise ModelUnavailableError(f"scaler of model {card.version} cannot be used: {error}") from None
    if card.scaler_sha256 and hashlib.sha256(raw).hexdigest() != card.scaler_sha256:
        raise ModelUnavailableError(
            f"scaler of model {card.version} is not the one it was trained with: digest differs from the card"
        )
    if scaler.mean.shape != (N_TIMEFRAMES, N_FEATURES):
        raise ModelUnavailableError(f"scaler of model {card.version} has shape {scaler.mean.shape}")
    return scaler


class Registry:
    """Versions under a root directory, and those shipped with the package.

    Which version is active, and which ones were before, is kept in `registry.json` under the root; without one the card's own
    phase holds. A version under the root hides a packaged one of the same name.

    Parameters
    ----------
    root : Path or None
        Registry directory; None gives the packaged models alone, read-only.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def list(self) -> list[ModelCard]:
        """Return the cards of all readable versions, sorted by version, with their present phase."""
        return [self._with_phase(read_card(path)) for _, path in sorted(self._paths().items())]

    def path(self, version: str) -> Path:
        """Return the directory of a version.

        Raises
        ------
        ModelUnavailableError
            If it is not in the registry.
        """
        paths = self._paths()
        if version not in paths:
            raise ModelUnavailableError(f"no model version {version!r} (known: {', '.join(sorted(paths)) or 'none'})")
        return paths[version]

    def get(self, version: str) -> LoadedModel:
        """Load a version, see `load_model`."""
        model = load_model(self.path(version))
        return LoadedModel(model.net, model.scaler, self._with_phase(model.card))

    def card(self, version: str) -> ModelCard:
        """Return the card of a version with its present phase."""
        return self._with_phase(read_card(self.path(version)))

    def active(self) -> str | None:
        """Return the active version, if any."""
        return next((card.version for card in self.list() if card.phase == "active"), None)

    def add(self, net: TimeframeAttentionNet, scaler: FeatureScaler, card: ModelCard) -> ModelCard:
        """Store a new version under the root.

        Raises
        ------
        RejectedError
            If the version exists: a version is never overwritten.
        """
        directory = self._writable() / card.version
        if (directory / CARD).exists():
            raise RejectedError(f"model version exists already: {card.version}")
        return save_model(directory, net, scaler, card)

    def promote(self, version: str, force: bool = False) -> ModelCard:
        """Make a version active; the one before is retired and stays available for `rollback`.

        Raises
        ------
        RejectedError
            If it does not pass the gate (see `promotion_objection`) and `force` is not set.
        """
        self._writable()
        card, active = self.card(version), self.active()
        load_model(self.path(version))  # a model that cannot be loaded must not become active
        objection = promotion_objection(card, self.card(active) if active and active != version else None)
        if objection is not None and not force:
            raise RejectedError(f"model {version} is not promoted: {objection}")
        earlier = self._history() or ((active,) if active is not None else ())
        history = [v for v in earlier if v != version]
        self._write_state([*history, version])
        return self.card(version)

    def rollback(self) -> ModelCard:
        """Make the version before the active one active again.

        Raises
        ------
        RejectedError
            If there is none.
        """
        history = self._history()
        if len(history) < 2:
            raise RejectedError("there is no earlier model to go back to")
        self._write_state(history[:-1])
        return self.card(history[-2])

    def _paths(self) -> dict[str, Path]:
        roots = [PACKAGED, *([self._root] if self._root is not None else [])]
        return {card.parent.name: card.parent for root in roots for card in sorted(root.glob(f"*/{CARD}"))}

    def _writable(self) -> Path:
        if self._root is None:
            raise ConfigError("model.registry_dir is not set: the packaged models cannot be changed")
        return self._root

    def _history(self) -> tuple[str, ...]:
        """Versions that were active, oldest first; the last one is active now."""
        if self._root is None or not (self._root / STATE).exists():
            return ()
        try:
            state: Mapping[str, Any] = json.loads((self._root / STATE).read_text())
            return tuple(str(v) for v in state["history"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailableError(f"model registry {self._root / STATE} is corrupt: {error}") from None

    def _write_state(self, history: Sequence[str]) -> None:
        root = self._writable()
        root.mkdir(parents=True, exist_ok=True)
        _replace(root / STATE, json.dumps({"history": list(history)}))

    def _with_phase(self, card: ModelCard) -> ModelCard:
        history = self._history()
        if not history:
            return card
        phase: Phase = "active" if card.version == history[-1] else "retired" if card.phase == "active" else card.phase
        return card.model_copy(update={"phase": "retired" if card.version in history[:-1] else phase})


def promotion_objection(card: ModelCard, active: ModelCard | None) -> str | None:
    """Return why a model may not become active, or None.

    It must beat the baselines on its own test slice and, where the active model was tested on the same data, have a lower log
    loss than that one.
    """
    if not card.beats_baselines:
        return "it does not beat the baselines on its test slice"
    if active is None or active.data_hash != card.data_hash:
        return None
    mine, theirs = card.metrics.get("log_loss"), active.metrics.get("log_loss")
    if mine is not None and theirs is not None and mine >= theirs:
        return f"log loss {mine:.4f} is not below {theirs:.4f} of the active model {active.version}"
    return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
