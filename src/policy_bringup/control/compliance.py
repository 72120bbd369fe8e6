"""Which controllers of ros2_control hold the arm, which one lets a hand lead it, and how to get from one to the other.

A switch with strictness STRICT is checked as a whole before anything changes: a controller that is not loaded, or that
is already where it should go, refuses it, so a request names only what has to change. The change itself is made in one
cycle of the control loop, but not undone if it fails half-way: where a controller fails to start, the others have
stopped already, and nobody holds the arm. So an answer is not believed: the controllers are looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from policy_bringup.core.config import bounded, required
from policy_bringup.core.errors import ConfigError, DeviceError

COMMANDED = "arm_controller"
"""The trajectory controller that the arm node commands (core/graph.py)."""
RETURNS = "set_last_command_interface_value_as_state_on_activation"
"""Parameter of joint_trajectory_controller. While it is false the controller starts by holding the measured position.
While it is true, its default, it starts from the last value on the joints' command interfaces: after hand guiding that
may be the pose from before, and the arm would go back there at once."""

Stance = Literal["holds", "yields", "nobody", "mixed"]
"""Who has the arm: the trajectory controllers, the compliant one, none of them, or some of both."""
States = Mapping[str, str]
"""Every loaded controller: name -> unconfigured, inactive, active or finalized."""


@dataclass(frozen=True, slots=True)
class ComplianceConfig:
    """config/compliance.yaml.

    trajectory_controllers: what is stopped while a hand leads. timeout_s: how long the control loop may take for one
    switch; two of them and three looks must fit into the second that the arm node waits for an answer.
    """

    trajectory_controllers: tuple[str, ...] = required()
    timeout_s: float = bounded(0.02, 0.25, "s")

    def __post_init__(self) -> None:
        if COMMANDED not in self.trajectory_controllers:
            raise ValueError(f"trajectory_controllers: '{COMMANDED}' is missing, which the arm node commands")
        if len(set(self.trajectory_controllers)) != len(self.trajectory_controllers):
            raise ValueError("trajectory_controllers: a name stands twice")


@dataclass(frozen=True, slots=True)
class Switch:
    """One request: who starts, who stops."""

    activate: tuple[str, ...]
    deactivate: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roles:
    """`holding`: the trajectory controllers. `yielding`: the one that carries the arm's weight and nothing else.

    Raises ConfigError when the same one is to do both.
    """

    holding: tuple[str, ...]
    yielding: str

    def __post_init__(self) -> None:
        if self.yielding in self.holding:
            raise ConfigError(
                f"compliant_controller: '{self.yielding}' is one of trajectory_controllers: it does not yield"
            )

    def stance(self, states: States) -> Stance:
        """Who has the arm."""
        holding = [states.get(name) == "active" for name in self.holding]
        if states.get(self.yielding) == "active":
            return "mixed" if any(holding) else "yields"
        if all(holding):
            return "holds"
        return "mixed" if any(holding) else "nobody"

    def sentence(self, states: States) -> str:
        """The same for a person."""
        stance = self.stance(states)
        if stance == "holds":
            return f"{', '.join(self.holding)}: the arm is held"
        if stance == "yields":
            return f"{self.yielding}: the arm yields to a hand"
        told = ", ".join(f"{name} is {states.get(name, 'not loaded')}" for name in (*self.holding, self.yielding))
        return f"{'NO CONTROLLER HOLDS THE ARM' if stance == 'nobody' else 'the arm is held by halves'}: {told}"

    def missing(self, states: States, names: tuple[str, ...]) -> str:
        """Which of them cannot be started, why, and the command that helps; "" when all can."""
        for name in names:
            state = states.get(name)
            if state is None:
                loaded = ", ".join(sorted(states)) or "none"
                return (
                    f"controller '{name}' is not loaded (loaded are: {loaded}); "
                    f"load it: ros2 control load_controller --set-state inactive {name}"
                )
            if state not in ("active", "inactive"):
                return (
                    f"controller '{name}' is {state}; it must be inactive or active: "
                    f"ros2 control set_controller_state {name} inactive"
                )
        return ""

    def refusal(self, states: States) -> str:
        """Why hand guiding cannot be offered as things are; "" when it can: either side has the arm, and the other can
        take it."""
        if reason := self.missing(states, (*self.holding, self.yielding)):
            return reason
        if self.stance(states) in ("holds", "yields"):
            return ""
        stop = f" --deactivate {self.yielding}" if states[self.yielding] == "active" else ""
        start = " ".join(name for name in self.holding if states[name] != "active")
        start = f" --activate {start}" if start else ""
        return f"{self.sentence(states)}; first: ros2 control switch_controllers --strict{stop}{start}"

    def switch(self, states: States, yields: bool) -> Switch | None:
        """What has to change so that the arm yields, or holds; None for nothing. Raises DeviceError when a controller
        that has to start cannot."""
        wanted = dict.fromkeys(self.holding, not yields) | {self.yielding: yields}
        changed = [name for name, active in wanted.items() if active != (states.get(name) == "active")]
        start = tuple(name for name in changed if wanted[name])
        if reason := self.missing(states, start):
            raise DeviceError(reason)
        stop = tuple(name for name in changed if not wanted[name])
        return Switch(start, stop) if changed else None

    def failure(self, states: States, yields: bool, said: str) -> str:
        """Why the arm does not do what was asked, though `said` was the answer; "" when it does, whatever was said."""
        stance = self.stance(states)
        if stance == ("yields" if yields else "holds"):
            return ""
        seen = "nothing was switched" if stance == ("holds" if yields else "yields") else self.sentence(states)
        return f"{seen} (controller_manager: {' '.join(said.split()) or 'no reason given'})"


def returns_to_last_command(value: bool | None) -> str:
    """Why the commanded controller cannot take over where a hand left the arm; "" when it can.

    value: of the parameter RETURNS; None when the controller has none of that name.
    """
    if not value:
        return ""
    return (
        f"{COMMANDED}: {RETURNS} is true: it may take the arm back to its last command, "
        f"away from where the hand left it; set it to false in the controller's parameters"
    )
