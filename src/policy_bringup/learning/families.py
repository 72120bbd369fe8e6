"""The policy families that can be trained, by the name that a training configuration gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policy_bringup.core.errors import LearningError
from policy_bringup.core.types import Contract
from policy_bringup.learning.bc_cnn import BcCnn, BcCnnConfig
from policy_bringup.learning.bc_resnet import BcResnet, BcResnetConfig
from policy_bringup.learning.bc_spatial import BcSpatial, BcSpatialConfig
from policy_bringup.learning.normalise import Normaliser
from policy_bringup.learning.policy import LearnedPolicy


@dataclass(frozen=True, slots=True)
class Family:
    """config: its configuration class; policy: (contract, configuration, normaliser) -> a policy with fresh weights."""

    config: type[Any]
    policy: Callable[[Contract, Any, Normaliser], LearnedPolicy]


FAMILIES: dict[str, Family] = {
    "bc_cnn": Family(BcCnnConfig, BcCnn),
    "bc_spatial": Family(BcSpatialConfig, BcSpatial),
    "bc_resnet": Family(BcResnetConfig, BcResnet),
}


def make_policy(name: str, contract: Contract, config: Any, normaliser: Normaliser) -> LearnedPolicy:
    """A policy of family `name` with fresh weights. `config` is of the family's configuration class.

    Raises LearningError for an unknown family, another family's configuration, or a contract it cannot serve.
    """
    if name not in FAMILIES:
        raise LearningError(f"family: must be one of {', '.join(FAMILIES)}, found '{name}'")
    family = FAMILIES[name]
    if not isinstance(config, family.config):
        raise LearningError(f"family '{name}': needs a {family.config.__name__}, found a {type(config).__name__}")
    return family.policy(contract, config, normaliser)
