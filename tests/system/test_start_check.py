"""The shipped policy brought up where something is wrong: it proposes nothing and says why until that is put right."""

import signal
import time
from pathlib import Path

import cv2
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.decoding import values_of

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "models" / "policies" / "grasp"


class Heard:
    """What the policy node says of itself, and what it proposes."""

    def __init__(self, node) -> None:
        self.sentence, self.start_check, self.actions = "", "", 0
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_health, 50)
        node.create_subscription(JointTrajectory, "policy/action", self._take_action, 1)

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "policy":
                self.sentence, self.start_check = status.message, values_of(status)["start_check"]

    def _take_action(self, _message: JointTrajectory) -> None:
        self.actions += 1


@pytest.fixture
def state_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "policy_bringup" / "starts"


def test_behind_a_black_cloth_it_waits_and_goes_on_when_the_cloth_is_gone(deploy, listener, state_folder):
    heard, cover = Heard(listener.node), listener.node.create_client(SetBool, "sim/cover")
    with deploy(source="bundle", bundle=BUNDLE) as runner:
        runner.children["policy"].send_signal(signal.SIGSTOP)  # the cloth comes first
        assert listener.call(cover, SetBool.Request(data=True), 60.0).success
        runner.children["policy"].send_signal(signal.SIGCONT)
        listener.wait(lambda: "put right" in heard.sentence, 60.0, "a refusal")
        assert "no action before this is put right: camera 'front': the picture is black" in heard.sentence
        (sheet,) = state_folder.iterdir()
        assert str(sheet) in heard.sentence
        assert cv2.imread(str(sheet)).shape[2] == 3
        assert (heard.actions, heard.start_check) == (0, "not passed")
        assert listener.call(cover, SetBool.Request(data=False)).success
        listener.wait(lambda: heard.actions > 3 and heard.start_check == "passed", 20.0, "actions")
        assert all(child.poll() is None for child in runner.children.values())
        log = runner.log.getvalue()
    assert str(sheet) in log
    assert "the policy goes on" in log


def test_swapped_cameras_keep_the_policy_silent(deploy, listener, state_folder, site):
    sim = yaml.safe_load((site / "config" / "sim.yaml").read_text())
    first, second = sim["cameras"]
    first["name"], second["name"] = second["name"], first["name"]
    (site / "config" / "sim.yaml").write_text(yaml.safe_dump(sim))
    heard = Heard(listener.node)
    with deploy(deployment=site / "config" / "grasp.yaml", source="bundle", bundle=BUNDLE):
        listener.wait(lambda: "put right" in heard.sentence, 60.0, "a refusal")
        until = time.monotonic() + 2.0
        listener.comes(lambda: time.monotonic() > until, 5.0)
        assert "camera 'front': shows what camera 'wrist' showed in training, the cameras are swapped" in heard.sentence
        assert (heard.actions, heard.start_check) == (0, "not passed")
    assert len(list(state_folder.iterdir())) == 1
