"""The page itself: takes plain values in, shows them when `refresh` is called, hands buttons to its callbacks."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import viser

from policy_bringup.console import words
from policy_bringup.console.config import ConsoleConfig
from policy_bringup.console.drawing import Link
from policy_bringup.console.scene import Scene
from policy_bringup.console.server import LocalServer
from policy_bringup.console.words import Health, Transition
from policy_bringup.core import graph
from policy_bringup.core.types import ImageSample, Pixels, Pose

Colour = Literal["red", "green", "blue", "gray"]
LOG_LENGTH = 20
MAX_NODES = 64
SILENT_S = 1.0
"""Joint states and pictures: the silence that an operator is told of. The nodes that act on them are much stricter."""
PICTURE_WIDTHS = (260, 640)
"""Pixels: narrower pictures are shown larger, wider ones thinned out; the page is for looking, not for measuring."""
VIEW_FROM, VIEW_AT = (1.7, -1.1, 1.0), (0.3, 0.0, 0.3)


@dataclass(frozen=True, slots=True)
class Commands:
    """What the buttons do. Each runs in a thread of its own, may take seconds, and returns the sentence to show.

    recording: label -> button of the recorder; simulation: of the simulated world, none on a real robot.
    """

    on_arm: Callable[[], str]
    on_disarm: Callable[[], str]
    on_stop: Callable[[], str]
    on_reset: Callable[[], str]
    on_home: Callable[[], str]
    recording: Mapping[str, Callable[[], str]]
    simulation: Mapping[str, Callable[[], str]] = field(default_factory=dict)


class Page:
    """Serves the operator page from its creation until `close`. All methods but the callbacks: from one thread.

    Times are monotonic ns unless said otherwise. Raises ConfigError or DeviceError when it cannot listen.
    """

    def __init__(
        self, config: ConsoleConfig, title: str, links: Sequence[Link], cameras: Sequence[str], commands: Commands
    ) -> None:
        self._server = LocalServer(config.host, config.port, title)
        self._links, self._config, self._commands = links, config, commands
        self._values: Mapping[str, str] = {}
        self._sentence = ""
        self._state_ns: int | None = None
        self._joints: Mapping[str, float] = {}
        self._joints_ns: int | None = None
        self._object: tuple[Pose | None, int | None] = None, None
        self._pictures_ns: dict[str, int | None] = dict.fromkeys(cameras)
        self._waiting: dict[str, ImageSample] = {}
        self._verdicts: Counter[str] = Counter()
        self._uncertainty = ""
        self._log: deque[Transition] = deque(maxlen=LOG_LENGTH)
        self._last_stop: Transition | None = None
        self._health: dict[str, Health] = {}
        self._trial: Mapping[str, str] = {}
        self._recorder: tuple[str, Mapping[str, str]] = "no recorder has been heard", {}
        self._watched_ns: int | None = None
        self._build()

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return self._server.url

    @property
    def watched(self) -> bool:
        """Whether a browser shows the page. Pictures and the arm are only drawn then."""
        return bool(self._server.get_clients())

    def state(self, sentence: str, values: Mapping[str, str], received_ns: int) -> None:
        """What safety says: its sentence, and the values of safety/state (at least `state` and `source`)."""
        self._sentence, self._values, self._state_ns = sentence, values, received_ns

    def verdict(self, values: Mapping[str, str]) -> None:
        """One verdict: counted by its `rule` (none: accepted), with its `uncertainty`."""
        self._verdicts[values.get("rule", "") or words.ACCEPTED] += 1
        self._uncertainty = values.get("uncertainty", "")

    def transition(self, transition: Transition) -> None:
        """One change of safety's state, for the log."""
        self._log.appendleft(transition)
        if transition.after in words.STOPS:
            self._last_stop = transition

    def health(self, health: Health) -> None:
        """What a node says about itself. The first 64 names are kept."""
        if health.name in self._health or len(self._health) < MAX_NODES:
            self._health[health.name] = health

    def trial(self, values: Mapping[str, str]) -> None:
        """What the simulator says about the trial under way."""
        self._trial = values

    def recorder(self, sentence: str, values: Mapping[str, str]) -> None:
        """What the recorder says: its sentence, and the values of recorder/state."""
        self._recorder = sentence, values

    def joints(self, positions: Mapping[str, float], received_ns: int) -> None:
        """Joint name -> position, rad or m."""
        self._joints, self._joints_ns = positions, received_ns

    def object_pose(self, T_base_object: Pose, received_ns: int) -> None:
        """Where the object is."""
        self._object = T_base_object, received_ns

    def wants_picture(self, camera: str, received_ns: int) -> bool:
        """To be asked for each picture that arrives: one per refresh is worth converting, if anybody looks."""
        self._pictures_ns[camera] = received_ns
        return self.watched and camera not in self._waiting

    def picture(self, sample: ImageSample) -> None:
        """The newest picture of one camera, shown at the next refresh."""
        self._waiting[sample.camera] = sample

    def refresh(self, now_ns: int) -> None:
        """Shows what has arrived, and what has fallen silent."""
        watched = self.watched
        self._watched_ns = (self._watched_ns or now_ns) if watched else None
        silent_s = _silent_s(self._state_ns, now_ns, graph.topic("safety/state").stale_s)
        self._banner.content = words.banner(
            self._values.get("state", ""), self._sentence, self._values.get("source", ""), silent_s
        )
        self._warnings.content = words.warnings(self._silent_streams(now_ns))
        self._stop_reason.content = words.last_stop(self._last_stop)
        self._log_table.content = words.log(self._log)
        self._verdict_table.content = words.verdicts(self._verdicts, self._uncertainty)
        self._node_table.content = words.nodes(self._health.values(), now_ns, graph.topic("/diagnostics").stale_s)
        self._trial_table.content = words.facts(self._trial)
        sentence, values = self._recorder
        self._recorder_table.content = words.facts({"recorder": sentence, **values})
        if watched:
            self._draw(now_ns)

    def close(self) -> None:
        """Stops serving."""
        self._server.stop()

    def _draw(self, now_ns: int) -> None:
        self._scene.show_joints(self._joints)
        T_base_object, received_ns = self._object
        self._scene.show_object(None if _silent_s(received_ns, now_ns, SILENT_S) is not None else T_base_object)
        for camera, sample in self._waiting.items():
            self._views[camera].image = _fitted(sample.pixels)
        self._waiting.clear()

    def _silent_streams(self, now_ns: int) -> Iterator[str]:
        """Only while somebody looks, and not from the first moment: nobody has to send to a page that nobody sees."""
        if self._watched_ns is None:
            return
        heard = {"joint states": self._joints_ns, **{f"camera {c}": ns for c, ns in self._pictures_ns.items()}}
        for stream, received_ns in heard.items():
            if now_ns - max(received_ns or 0, self._watched_ns) > SILENT_S * 1e9:
                silent_s = _silent_s(received_ns, now_ns, SILENT_S)
                yield f"{stream}: " + ("nothing heard" if silent_s == math.inf else f"silent for {silent_s:.0f} s")

    def _build(self) -> None:
        server, gui = self._server, self._server.gui
        gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        server.initial_camera.position, server.initial_camera.look_at = VIEW_FROM, VIEW_AT
        self._scene = Scene(server.scene, self._links, self._config.table, self._config.object_size)
        self._build_cameras()
        self._banner = gui.add_html("")
        self._warnings = gui.add_html("")
        self._add_button("Soft stop: not an emergency stop", self._commands.on_stop, "red")
        self._add_button("Arm", self._commands.on_arm, "green")
        self._add_button("Disarm", self._commands.on_disarm, "blue")
        self._add_button("Reset", self._commands.on_reset, "gray")
        self._add_button("Home", self._commands.on_home, "gray")
        self._answer = gui.add_html("")
        self._stop_reason = gui.add_html("")
        tabs = gui.add_tab_group()
        with tabs.add_tab("Log"):
            self._log_table = gui.add_html("")
        with tabs.add_tab("Verdicts"):
            self._verdict_table = gui.add_html("")
        with tabs.add_tab("Nodes"):
            self._node_table = gui.add_html("")
        with tabs.add_tab("Record"):
            for label, command in self._commands.recording.items():
                self._add_button(label, command, "gray")
            self._recorder_table = gui.add_html("")
        if self._commands.simulation:
            with tabs.add_tab("Simulation"):
                for label, command in self._commands.simulation.items():
                    self._add_button(label, command, "gray")
        gui.main_panel.dock_right()
        gui.main_panel.set_width(420)

    def _build_cameras(self) -> None:
        panel = self._server.gui.add_panel()
        self._views: dict[str, viser.GuiImageHandle] = {}
        with panel.add_tab("Cameras"):
            for camera in self._pictures_ns:
                black = np.zeros((9, 16, 3), dtype=np.uint8)
                self._views[camera] = self._server.gui.add_image(black, label=camera, format="jpeg")
            self._trial_table = self._server.gui.add_html("")
        panel.dock_left()
        panel.set_width(300)

    def _add_button(self, label: str, command: Callable[[], str], colour: Colour) -> None:
        button = self._server.gui.add_button(label, color=colour)

        @button.on_click
        def _(_event: object) -> None:
            name = label.partition(":")[0]
            self._answer.content = words.answer(name, "asked, no answer yet")
            try:
                sentence = command()
            except Exception as error:  # the thread's edge: nothing above it would tell the operator
                sentence = f"failed: {error!r}"
            self._answer.content = words.answer(name, sentence)


def _silent_s(received_ns: int | None, now_ns: int, stale_s: float) -> float | None:
    """Seconds of silence once they exceed `stale_s`, else None; infinite when nothing ever came."""
    age_s = math.inf if received_ns is None else (now_ns - received_ns) / 1e9
    return age_s if age_s > stale_s else None


def _fitted(pixels: Pixels) -> Pixels:
    """uint8 `(height, width, 3)`, enlarged or thinned out by a whole number towards PICTURE_WIDTHS."""
    narrow, wide = PICTURE_WIDTHS
    stride, repeat = -(-pixels.shape[1] // wide), max(1, narrow // pixels.shape[1])
    return np.ascontiguousarray(pixels[::stride, ::stride].repeat(repeat, axis=0).repeat(repeat, axis=1))
