"""How the trial node asks for services whose answers may be lost, and arms an arm that does not follow yet."""

import logging
from collections import Counter
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.task import Future
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.nodes import messages, trial_node
from policy_bringup.nodes.trial_node import NoAnswer, TrialNode


class Service:
    """Seen by a client: answers the request of this number, and none before it."""

    def __init__(self, answers: int) -> None:
        self.answers, self.asked, self.forgotten = answers, 0, []

    def call_async(self, request: str) -> Future:
        self.asked += 1
        future = Future()
        if self.asked == self.answers:
            future.set_result(f"answer to {request}")
        return future

    def remove_pending_request(self, future: Future) -> None:
        self.forgotten.append(future)


@pytest.fixture
def clock(monkeypatch) -> None:
    """Goes on by 1 s in each step of a script."""
    seconds = iter(range(1000))
    monkeypatch.setattr(trial_node, "received_now", lambda: next(seconds) * 1_000_000_000)


def result(script):
    """Of a script, run to its end."""
    try:
        while next(script):
            pass
    except StopIteration as end:
        return end.value


@pytest.fixture
def ask(clock):
    """Runs the script of one call."""

    def run(service: Service):
        node = TrialNode.__new__(TrialNode)
        node._remote, node._config = {"arm/home": service}, SimpleNamespace(ready_timeout_s=30.0)
        return result(node._call("arm/home", "home"))

    return run


def test_an_answer_that_is_lost_is_asked_for_again(ask):
    service = Service(answers=3)
    assert ask(service) == "answer to home"
    assert (service.asked, len(service.forgotten)) == (3, 2)


def test_a_service_that_never_answers_ends_the_trial_with_a_sentence(ask):
    with pytest.raises(NoAnswer, match="arm/home did not answer within 30 s"):
        ask(Service(answers=99))


class Robot:
    """Safety that does as it is told, and an arm that follows from this arming on."""

    def __init__(self, follows_from: int) -> None:
        self.follows_from, self.armed = follows_from, 0
        self.node = node = TrialNode.__new__(TrialNode)
        node._config = SimpleNamespace(arm_timeout_s=5.0)
        node._safety, node._arm_state = {"state": "READY", "source": "", "offered": "policy"}, "holding"
        node._call = self.answer

    def answer(self, name: str, request: SetBool.Request):
        assert name == "safety/arm"
        state = {"state": "ACTIVE", "source": "policy"} if request.data else {"state": "READY", "source": ""}
        self.node._safety.update(state)
        self.armed += request.data
        if self.armed >= self.follows_from:
            self.node._arm_state = "following"
        yield True


@pytest.mark.parametrize(("follows_from", "armed", "state"), [(1, 1, "ACTIVE"), (3, 3, "ACTIVE"), (4, 3, "READY")])
def test_where_the_arm_does_not_follow_it_is_armed_anew_three_times_in_all(clock, follows_from, armed, state):
    robot = Robot(follows_from)
    assert result(robot.node._arm("policy")) is (state == "ACTIVE")
    assert (robot.armed, robot.node._safety["state"]) == (armed, state)


@pytest.fixture
def robot() -> Robot:
    """Before a scene that was laid out at 1 us, in which the object is grasped as soon as the policy is armed."""
    robot = Robot(follows_from=1)
    node = robot.node
    node._sim, node._stops, node._episodes, node._records = {"success": "true", "failure": ""}, [], [], False
    node._config.episode_timeout_s, node._logger, node._laid_out_ns = 20.0, logging.getLogger(), 1_000
    return robot


def test_a_policy_is_armed_only_once_it_has_acted_on_a_picture_of_the_scene_that_was_laid_out(clock, robot):
    """One that plans at its first picture would go to where the object was before."""
    robot.node._acted_ns = 1_000
    script = robot.node._episode(1)
    assert next(script)
    assert next(script)
    assert robot.armed == 0
    robot.node._acted_ns = 1_001
    result(script)
    assert robot.armed == 1
    assert [episode.outcome for episode in robot.node._episodes] == ["success"]


def table(stamp_ns: int) -> JointTrajectory:
    message = JointTrajectory()
    message.header.stamp.nanosec = stamp_ns
    return message


def test_a_scene_is_seen_once_a_table_is_stamped_later_than_the_simulator_told_of_it(clock, robot):
    node, told_ns = robot.node, 5_000

    def answer(name: str, _request):
        node._sim["episode"] = "2" if name == "sim/reset" else "1"
        yield True

    node._config.ready_timeout_s = node._config.reset_timeout_s = 5.0
    node._call, node._is_home, node.stamp_now = answer, lambda: True, lambda: told_ns
    assert result(node._prepare())
    node._take_policy_action(table(told_ns), 0)
    assert result(node._sees_scene()) is False
    node._take_policy_action(table(told_ns + 1), 0)
    assert result(node._sees_scene()) is True


def test_a_policy_that_never_acts_on_the_scene_is_not_armed(clock, robot):
    robot.node._sim["success"], robot.node._acted_ns = "false", 0
    result(robot.node._episode(1))
    assert robot.armed == 0
    assert [episode.outcome for episode in robot.node._episodes] == ["not armed"]


def state(*entries: dict[str, str]) -> DiagnosticArray:
    return messages.diagnostics(1, *(messages.status("it", "ok", "as it is", values) for values in entries))


@pytest.mark.parametrize("says_nothing", [state(), state({}), state({"other": "1"}, {"other": "2"})])
def test_a_state_that_says_nothing_of_what_is_asked_changes_nothing_of_a_trial(says_nothing):
    node = TrialNode.__new__(TrialNode)
    node._sim, node._safety, node._arm_state, node._verdicts, node._stops = {}, {}, "", Counter(), []
    sim, safety = {"episode": "3", "success": "true", "failure": ""}, {"state": "READY", "source": "", "offered": ""}
    to_fallback = {"who": "policy", "from": "RETRY", "to": "FALLBACK", "rule": "BOUNDS"}
    for said in (state(sim), says_nothing):
        node._take_sim(said)
        assert node._sim == sim
    for said in (state(safety), says_nothing):
        node._take_state(said)
        assert node._safety == {**safety, "sentence": "as it is"}
    for said in (state({"state": "holding"}), says_nothing):
        node._take_arm_state(said)
        assert node._arm_state == "holding"
    for said in (state({"rule": "BOUNDS"}, to_fallback), says_nothing):
        node._take_verdict(said)
        assert (node._verdicts, node._stops) == ({"BOUNDS": 1}, ["as it is"])
