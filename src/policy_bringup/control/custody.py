"""Lends the arm to a hand and takes it back, through controllers that may refuse, fail half-way or fall silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from policy_bringup.control.compliance import Roles, States, Switch
from policy_bringup.core.errors import DeviceError


class ControllerManager(Protocol):
    """Whoever lists and switches controllers. until: when to give up waiting, in whatever clock it keeps."""

    def states(self, until: float) -> Mapping[str, str]:
        """Every loaded controller -> its state. Raises DeviceError without an answer."""

    def switch(self, switch: Switch, timeout_s: float, until: float) -> str:
        """One strict request; what was answered, for a person. Raises DeviceError without an answer."""


class Custody:
    """Whose the arm is, and what is still owed.

    Lending that fails ends in taking back, at once. Taking back that fails leaves it `owed`: to be tried again until
    the trajectory controllers are seen to hold the arm. states: as last seen.
    """

    def __init__(self, roles: Roles, timeout_s: float, controllers: ControllerManager, states: States) -> None:
        self._roles, self._timeout_s, self._controllers = roles, timeout_s, controllers
        self._states = states
        self._trouble = ""
        self._led = False
        self._owed = roles.stance(states) == "yields"  # left so by one who was killed: the arm node believes it held

    @property
    def owed(self) -> bool:
        """Holding was asked for, and has not been seen."""
        return self._owed

    @property
    def lent(self) -> bool:
        """A hand leads, or may: the arm has to be taken back before this ends."""
        return self._led or self._owed

    def lend(self, until: float) -> str:
        """Why the arm does not yield; "" when it does."""
        self._led = True
        if reason := self._switch(True, until):
            again = self.take_back(until)
            return f"{reason}; {f'the arm is not seen to be held: {again}' if again else 'the arm is held'}"
        self._owed = False
        return ""

    def take_back(self, until: float) -> str:
        """Why the arm is not held; "" when it is."""
        reason = self._switch(False, until)
        self._owed = bool(reason)
        self._led = self._led and self._owed
        return reason

    def look(self, until: float) -> None:
        """Sees who has the arm, whoever changed it."""
        try:
            self._see(until)
            self._trouble = ""
        except DeviceError as error:
            self._trouble = str(error)

    def sentence(self) -> str:
        """Who has the arm, for a person."""
        return self._roles.sentence(self._states)

    def health(self) -> tuple[str, str, dict[str, str]]:
        """Level, sentence, and the state of every controller that takes part."""
        values = {name: self._states.get(name, "not loaded") for name in (*self._roles.holding, self._roles.yielding)}
        if self._trouble:
            return "error", self._trouble, values
        if self._owed:
            return "error", f"the arm should be held; {self.sentence()}", values
        return "ok" if self._roles.stance(self._states) in ("holds", "yields") else "error", self.sentence(), values

    def _switch(self, yields: bool, until: float) -> str:
        try:
            if switch := self._roles.switch(self._see(until), yields):
                said = self._controllers.switch(switch, self._timeout_s, until)
                return self._roles.failure(self._see(until), yields, said)
        except DeviceError as error:
            return str(error)
        return ""

    def _see(self, until: float) -> States:
        self._states = self._controllers.states(until)
        return self._states
