"""Shows an operator what the robot does and why it stopped, and hands on the buttons of the page."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool, Trigger

from policy_bringup.console.config import ConsoleConfig
from policy_bringup.console.drawing import load_drawing
from policy_bringup.console.page import Commands, Page
from policy_bringup.console.server import is_loopback
from policy_bringup.console.words import Health, Transition
from policy_bringup.core import decoding, graph
from policy_bringup.core.rotations import from_quaternion
from policy_bringup.core.types import Pose
from policy_bringup.nodes import endpoints, image_messages, messages
from policy_bringup.nodes.inbox import Inbox
from policy_bringup.nodes.parameters import choice_parameter, load_parameters
from policy_bringup.nodes.runtime import WATCHER, BringupNode, received_now, run

REFRESH_HZ = 10.0
QUEUE = 50
"""Messages kept between two refreshes: no verdict goes uncounted if one of them is late."""
RECORDER = ("start", "stop", "discard")
SERVICES = (
    "safety/arm", "safety/stop", "safety/reset", "arm/home", "recorder/success", "sim/cover",
    *(f"recorder/{name}" for name in RECORDER),
)  # fmt: skip


class ConsoleNode(BringupNode):
    """The page is fed by the executor; its buttons wait for their answers in threads of their own."""

    niceness = WATCHER

    def __init__(self) -> None:
        super().__init__("console")

    def open(self) -> None:
        """Starts to serve the page; an address that cannot be had refuses the start."""
        self._config = load_parameters(self, self.config_path, ConsoleConfig)
        self._mode = choice_parameter(self, "mode", "sim", graph.MODES)
        links = load_drawing(self.config_folder / self.robot.urdf)
        self._robot_services = {name: endpoints.client(self, name) for name in SERVICES}
        title = f"{self.robot.name}: {self.deployment.task}"
        self._page = Page(self._config, title, links, self.deployment.camera_names, self._commands())
        self.get_logger().info(f"operator page: {self._page.url}")
        if not is_loopback(self._config.host):
            self.get_logger().warning(
                f"the operator page has no authentication: whoever reaches {self._page.url} can arm the robot"
            )
        self._watched = False
        self._views, self._heard = Inbox(self), Inbox(self)
        self._heard.hear("sim/state", self._take_sim)
        self._heard.hear("safety/state", self._take_state)
        self._heard.hear("recorder/state", self._take_recorder)
        self._heard.hear("safety/verdict", self._take_verdict, QUEUE)
        self._heard.hear("/diagnostics", self._take_diagnostics, QUEUE)
        self.create_timer(1.0 / REFRESH_HZ, self._refresh)

    def close(self) -> None:
        """Stops serving."""
        if hasattr(self, "_page"):
            self._page.close()

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level, sentence and values."""
        return "ok", "serving", {"url": self._page.url, "watched": self._page.watched}

    def _refresh(self) -> None:
        if self._page.watched != self._watched:
            self._watched = not self._watched
            self._watch(self._watched)
        self._heard.take()
        self._views.take()
        self._page.refresh(received_now())

    def _watch(self, watched: bool) -> None:
        """Pictures, joints and object are a lot of data: it is received only while a browser shows the page."""
        self._views.clear()
        if watched:
            for camera in self.deployment.camera_names:
                self._views.hear(f"camera/{camera}/image_raw", partial(self._take_image, camera))
            self._views.hear("joint_states", self._take_joints)
            self._views.hear("sim/object_pose", self._take_object)

    def _take_image(self, camera: str, message: Image) -> None:
        now_ns = received_now()
        if self._page.wants_picture(camera, now_ns):
            self._page.picture(image_messages.image_sample(message, now_ns, camera))

    def _take_joints(self, message: JointState) -> None:
        self._page.joints(dict(zip(message.name, message.position, strict=False)), received_now())

    def _take_object(self, message: PoseStamped) -> None:
        sample = decoding.pose_sample(message, received_now(), "object")
        with contextlib.suppress(ValueError):  # without an orientation it cannot be drawn, and fades
            self._page.object_pose(Pose(sample.values[:3], from_quaternion(*sample.values[3:])), sample.received_ns)

    def _take_sim(self, message: DiagnosticArray) -> None:
        entry = decoding.entry_of(message)
        if entry is not None:
            self._page.trial(decoding.values_of(entry))

    def _take_recorder(self, message: DiagnosticArray) -> None:
        entry = decoding.entry_of(message)
        if entry is not None:
            self._page.recorder(entry.message, decoding.values_of(entry))

    def _take_state(self, message: DiagnosticArray) -> None:
        entry = decoding.entry_of(message, "state", "source")
        if entry is not None:
            self._page.state(entry.message, decoding.values_of(entry), received_now())

    def _take_verdict(self, message: DiagnosticArray) -> None:
        verdict = decoding.entry_of(message)
        if verdict is not None:
            self._page.verdict(decoding.values_of(verdict))
        for status in message.status[1:]:
            values = decoding.values_of(status)
            who, before, after, rule = (values.get(key, "") for key in ("who", "from", "to", "rule"))
            self._page.transition(Transition(self.stamp_now(), status.message, who, before, after, rule))

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        words = {level: word for word, level in messages.LEVELS.items()}
        for status in message.status:
            level = words.get(status.level, "error")
            values = decoding.values_of(status)
            self._page.health(Health(status.name, level, status.message, received_now(), values))

    def _commands(self) -> Commands:
        def reset() -> str:
            # The button's own stop is let go first: ESTOP only resets while released, and a reset never moves the arm.
            released = self._ask("safety/stop", SetBool.Request(data=False))
            return f"stop released: {released}; reset: {self._ask('safety/reset', Trigger.Request())}"

        return Commands(
            on_arm=lambda: self._ask("safety/arm", SetBool.Request(data=True)),
            on_disarm=lambda: self._ask("safety/arm", SetBool.Request(data=False)),
            on_stop=lambda: self._ask("safety/stop", SetBool.Request(data=True)),
            on_reset=reset,
            on_home=lambda: self._ask("arm/home", Trigger.Request()),
            recording=self._recording(),
            simulation=self._simulation(),
        )

    def _simulation(self) -> dict[str, Callable[[], str]]:
        if self._mode != "sim":
            return {}
        buttons = (("Cover the cameras", True), ("Uncover the cameras", False))
        return {label: partial(self._ask, "sim/cover", SetBool.Request(data=data)) for label, data in buttons}

    def _recording(self) -> dict[str, Callable[[], str]]:
        buttons: dict[str, Callable[[], str]] = {
            f"{name.capitalize()} recording": partial(self._ask, f"recorder/{name}", Trigger.Request())
            for name in RECORDER
        }
        for label, success in (("Success", True), ("Failure", False)):
            buttons[label] = partial(self._ask, "recorder/success", SetBool.Request(data=success))
        return buttons

    def _ask(self, name: str, request: Any) -> str:
        """Calls a service from a button's thread; the executor's thread delivers the answer."""
        client = self._robot_services[name]
        if not client.service_is_ready():
            return f"nobody serves {name}: is its node running?"
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(self._config.answer_timeout_s):
            client.remove_pending_request(future)
            return f"{name} did not answer within {self._config.answer_timeout_s:g} s"
        response = future.result()
        return f"{'done' if response.success else 'refused'}: {response.message}"


def main() -> None:
    """Entry point."""
    run(ConsoleNode)


if __name__ == "__main__":
    main()
