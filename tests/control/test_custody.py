"""Against a controller manager in memory that switches as ros2_control does: a strict request is checked as a whole,
then what is to stop stops, then what is to start starts; what fails to start stays stopped, and nothing is undone."""

import pytest

from policy_bringup.control.compliance import Roles, Switch
from policy_bringup.control.custody import Custody
from policy_bringup.core.errors import DeviceError

HELD, LED = {"arm_controller": "active", "gravity": "inactive"}, {"arm_controller": "inactive", "gravity": "active"}


class Manager:
    """`broken` fail to start; `silent`: it answers nothing; `deaf`: it says that it switched, and does not."""

    def __init__(self, **states: str) -> None:
        self.now = dict(states)
        self.broken: set[str] = set()
        self.silent = self.deaf = False
        self.requests: list[Switch] = []

    def states(self, until: float) -> dict[str, str]:
        if self.silent:
            raise DeviceError("list_controllers has not answered in time")
        return dict(self.now)

    def switch(self, switch: Switch, timeout_s: float, until: float) -> str:
        self.requests.append(switch)
        if self.silent:
            raise DeviceError("switch_controller has not answered in time")
        if self.deaf:
            return "switched"
        if any(self.now.get(name) != "inactive" for name in switch.activate):
            return "refused: not inactive"
        if any(self.now.get(name) != "active" for name in switch.deactivate):
            return "refused: not active"
        self.now.update(dict.fromkeys(switch.deactivate, "inactive"))
        if failed := self.broken & set(switch.activate):
            return f"unable to activate {' '.join(sorted(failed))}"
        self.now.update(dict.fromkeys(switch.activate, "active"))
        return "switched"


@pytest.fixture
def manager() -> Manager:
    return Manager(**HELD)


@pytest.fixture
def custody(manager: Manager) -> Custody:
    return Custody(Roles(("arm_controller",), "gravity"), 0.2, manager, manager.states(0.0))


def test_the_arm_is_lent_and_taken_back_with_one_request_each(custody: Custody, manager: Manager):
    assert custody.lend(0.0) == ""
    assert manager.now == LED
    assert custody.lent
    assert custody.health()[:2] == ("ok", "gravity: the arm yields to a hand")
    assert custody.take_back(0.0) == ""
    assert manager.now == HELD
    assert not custody.lent
    assert custody.health() == ("ok", "arm_controller: the arm is held", HELD)
    assert len(manager.requests) == 2


def test_asking_twice_requests_once(custody: Custody, manager: Manager):
    for _ in range(2):
        assert custody.lend(0.0) == ""
    assert len(manager.requests) == 1
    for _ in range(2):
        assert custody.take_back(0.0) == ""
    assert len(manager.requests) == 2


def test_where_the_compliant_controller_fails_to_start_the_arm_is_held_again_at_once(
    custody: Custody, manager: Manager
):
    manager.broken = {"gravity"}
    reason = custody.lend(0.0)
    assert reason.startswith("NO CONTROLLER HOLDS THE ARM")
    assert reason.endswith("(controller_manager: unable to activate gravity); the arm is held")
    assert manager.now == HELD
    assert not custody.lent


def test_where_neither_starts_it_is_said_loudly_and_holding_is_owed_until_it_is_seen(
    custody: Custody, manager: Manager
):
    manager.broken = {"gravity", "arm_controller"}
    assert "the arm is not seen to be held: NO CONTROLLER HOLDS THE ARM" in custody.lend(0.0)
    assert custody.owed
    level, sentence, values = custody.health()
    assert (level, set(values.values())) == ("error", {"inactive"})
    assert sentence.startswith("the arm should be held; NO CONTROLLER HOLDS THE ARM")
    assert custody.take_back(0.0)
    assert custody.owed
    manager.broken = set()
    assert custody.take_back(0.0) == ""
    assert manager.now == HELD
    assert not custody.owed
    assert custody.health()[0] == "ok"


def test_an_arm_that_cannot_be_taken_back_stays_lent_and_owed(custody: Custody, manager: Manager):
    custody.lend(0.0)
    manager.broken = {"arm_controller"}
    assert custody.take_back(0.0).startswith("NO CONTROLLER HOLDS THE ARM")
    assert custody.lent
    assert custody.owed


def test_an_answer_that_all_is_well_is_not_believed(custody: Custody, manager: Manager):
    manager.deaf = True
    assert custody.lend(0.0) == "nothing was switched (controller_manager: switched); the arm is held"
    assert not custody.lent


def test_a_switch_that_comes_about_after_nobody_waits_for_it_is_taken_back(custody: Custody, manager: Manager):
    manager.silent = True
    assert custody.lend(0.0) == (
        "list_controllers has not answered in time; "
        "the arm is not seen to be held: list_controllers has not answered in time"
    )
    assert custody.owed
    custody.look(0.0)
    assert custody.health()[:2] == ("error", "list_controllers has not answered in time")
    manager.silent, manager.now = False, dict(LED)
    custody.look(0.0)
    assert custody.health()[:2] == ("error", "the arm should be held; gravity: the arm yields to a hand")
    assert custody.take_back(0.0) == ""
    assert manager.now == HELD


def test_lending_settles_what_was_owed(custody: Custody, manager: Manager):
    custody.lend(0.0)
    manager.silent = True
    custody.take_back(0.0)
    manager.silent = False
    assert custody.owed
    assert custody.lend(0.0) == ""
    assert not custody.owed
    assert custody.lent


def test_who_starts_while_a_hand_leads_owes_holding():
    left = Manager(**LED)
    custody = Custody(Roles(("arm_controller",), "gravity"), 0.2, left, left.states(0.0))
    assert custody.owed
    assert custody.take_back(0.0) == ""
    assert left.now == HELD
    assert not custody.owed


def test_controllers_that_somebody_else_switches_are_seen_and_left_alone(custody: Custody, manager: Manager):
    manager.now = {"arm_controller": "inactive", "gravity": "inactive"}
    custody.look(0.0)
    assert custody.health()[0] == "error"
    assert not custody.lent
    assert not manager.requests


def test_a_compliant_controller_that_was_unloaded_is_named_and_the_arm_stays_held(custody: Custody, manager: Manager):
    del manager.now["gravity"]
    reason = custody.lend(0.0)
    assert reason.startswith("controller 'gravity' is not loaded")
    assert reason.endswith("; the arm is held")
    assert not manager.requests
