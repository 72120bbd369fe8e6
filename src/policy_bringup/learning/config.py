"""What is trained and how: one YAML file per policy family in config/train/, checked key by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from policy_bringup.core.config import bounded, build, read_yaml, required
from policy_bringup.core.errors import ConfigError
from policy_bringup.learning.augment import Augmentation
from policy_bringup.learning.families import FAMILIES


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How the weights are found. `threads` and `budget_min` may change between the starts of one run, nothing else may.

    warmup_steps: steps in which the learning rate rises; gradient_clip: longest gradient, 0 for any; ema_decay: of the
    average of the weights that is kept. Every `validate_every` steps the average is judged on `validation_moments`
    moments, evenly spread over the validation episodes, and a checkpoint is written; training ends when `patience`
    judgements in a row were no better than the best. budget_min: also when this much time was spent on it in all.
    bf16: arithmetic in 16 bits where torch holds that safe; channels_last: pictures lie in memory colour by colour of
    each pixel; threads: of torch, 0 for its own choice.
    """

    batch_size: int = bounded(1, 65536, "moments")
    steps: int = bounded(1, 10_000_000)
    learning_rate: float = bounded(1e-7, 1.0)
    warmup_steps: int = bounded(0, 100_000, default=0)
    weight_decay: float = bounded(0.0, 1.0, default=0.0)
    gradient_clip: float = bounded(0.0, 1e6, default=0.0)
    ema_decay: float = bounded(0.0, 0.999999, default=0.0)
    validate_every: int = bounded(1, 1_000_000, "steps", default=500)
    validation_moments: int = bounded(1, 10_000_000, default=1024)
    patience: int = bounded(1, 1_000_000, "validations", default=10)
    budget_min: float | None = bounded(0.001, 1e6, "minutes", default=None)
    seed: int = bounded(0, 2**31 - 1, default=0)
    bf16: bool = False
    channels_last: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = bounded(0, 1024, default=0)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run. model: the configuration of the family, an object of its own class."""

    family: str
    model: Any
    augmentation: Augmentation
    optimisation: Optimisation


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is the same for every family."""

    family: str = required()
    augmentation: Augmentation = required()
    optimisation: Optimisation = required()


def load_train_config(path: Path | str, changes: Iterable[str] = ()) -> TrainConfig:
    """Reads a file of config/train/; `changes` like "optimisation.learning_rate=0.001" replace single keys.

    Raises ConfigError: one sentence with file, key and what is allowed.
    """
    data = dict(read_yaml(path))
    for change in changes:
        _apply(change, data)
    return build_train_config(data, str(path))


def build_train_config(data: Mapping[str, Any], where: str) -> TrainConfig:
    """Keys and values -> configuration. `where` is the file that errors name. Raises ConfigError."""
    for key in data:
        if key not in TrainConfig.__dataclass_fields__:
            raise ConfigError(
                f"{where}: unknown key '{key}'; allowed are {', '.join(TrainConfig.__dataclass_fields__)}"
            )
    choice = build(_Choice, {key: value for key, value in data.items() if key != "model"}, where)
    if choice.family not in FAMILIES:
        raise ConfigError(f"{where}: family: must be one of {', '.join(FAMILIES)}, found '{choice.family}'")
    model = build(FAMILIES[choice.family].config, data.get("model", {}), f"{where}: model")
    return TrainConfig(choice.family, model, choice.augmentation, choice.optimisation)


def plain(config: TrainConfig) -> dict[str, Any]:
    """Keys and values that `build_train_config` takes back, every default written out."""
    return yaml.safe_load(yaml.safe_dump(asdict(config)))  # type: ignore[no-any-return]


def _apply(change: str, data: dict[str, Any]) -> None:
    """Sets one key, e.g. "model.members=5", in nested mappings; `build_train_config` judges key and value."""
    place, equals, text = change.partition("=")
    *groups, key = place.strip().replace("-", "_").split(".")
    if not equals or not key or not all(groups):
        raise ConfigError(f"'{change}': a change must be like optimisation.learning_rate=0.001")
    for group in groups:
        inner = data.get(group) or {}
        if not isinstance(inner, Mapping):
            raise ConfigError(f"'{change}': {group} is a value, not a group of keys")
        data[group] = data = dict(inner)
    data[key] = _value(text, change)


def _value(text: str, change: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"'{change}': its value is not valid YAML") from error
    try:
        return float(value) if isinstance(value, str) else value  # YAML takes 1e-3, without a dot, for a text
    except ValueError:
        return value
