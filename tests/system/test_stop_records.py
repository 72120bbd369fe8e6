"""Every stop of a running robot leaves a record, over real topics and services."""

import json
import time
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from policy_bringup.core.decoding import values_of
from policy_bringup.episodes.stop_record import default_folder, read_record, records
from policy_bringup.why_cli import Why


def test_pressing_stop_leaves_a_record_of_what_safety_had_heard(
    deploy, listener, small_deployment: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    node, states, actions = listener.node, [""], []
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(
        DiagnosticArray, "safety/state", lambda m: states.append(values_of(m.status[0])["state"]), latched
    )
    node.create_subscription(JointTrajectory, "policy/action", actions.append, 1)
    stop = node.create_client(SetBool, "safety/stop")

    def pressed() -> list[Path]:
        found = records(default_folder()) if default_folder().is_dir() else ()
        return [path for path in found if path.name.endswith("_estop.jsonl")]

    with deploy(deployment=small_deployment) as runner:
        listener.wait(lambda: states[-1] not in ("", "INIT"), 60.0, "a monitor that knows where the arm is")
        count = len(actions)  # half a second of them; safety may have heard of the joints later than the policy has
        listener.wait(lambda: len(actions) > count + 10, 60.0, "a policy that proposes")
        assert listener.call(stop, SetBool.Request(data=True)).success
        listener.wait(lambda: states[-1] == "ESTOP", 5.0, "ESTOP")
        listener.wait(pressed, 20.0, "a record of it")
        assert runner.children["safety"].poll() is None
    (path,) = pressed()
    record = read_record(path)
    change = record.change
    assert (change.who, change.after, change.sentence) == ("operator", "ESTOP", "the e-stop is pressed")
    assert record.cut == {}
    assert abs(record.stamp_ns - time.time_ns()) < 120e9
    heard = {name: [e for e in record.inputs if e.name == name] for name in {e.name for e in record.inputs}}
    assert all(-2.0 <= entry.at_s < 1.0 for entry in record.inputs)
    (button,) = heard["safety/stop"]
    assert button.values == {"data": True, "accepted": True, "sentence": "accepted"}
    assert len(heard["joint_states"]) > 20
    sample = heard["joint_states"][-1].values
    assert sample["joints"].shape == (len(record.joints),) == (7,)
    assert np.isfinite(sample["columns"]).all()
    chunk = heard["policy/action"][-1].values
    assert chunk["values"].shape == (16, len(record.columns))
    assert tuple(chunk["names"]) == record.columns
    assert Why(path)() == 0
    assert "The emergency stop was pressed" in capsys.readouterr().out
    for line in path.read_text().splitlines():
        json.loads(line)
