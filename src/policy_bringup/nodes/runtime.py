"""What every node shares: life cycle, parameters, diagnostics, and an end that says why.

Exit codes: 0 asked to stop; 1 a fault while running; 2 refused to start (configuration, device, bundle).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from policy_bringup.core import graph
from policy_bringup.core.deployment import Deployment, load_deployment
from policy_bringup.core.errors import PolicyBringupError
from policy_bringup.core.extras import sentence_of
from policy_bringup.core.robot import Robot
from policy_bringup.nodes import endpoints, messages
from policy_bringup.nodes.parameters import text_parameter

AUTOGROUP = Path("/proc/self/autogroup")
URGENT, PROMPT, WATCHER = -10, -5, 5
"""Niceness of who must be on time whatever else keeps the processors busy, of who should be, and of who looks on."""
END_TIMEOUT_S = 3.0
"""How long a callback under way may take once the process was asked to end; a runner kills after five seconds."""
SWITCH_INTERVAL_S = 0.0005
"""How long one thread may keep another waiting for the interpreter (Python's default is ten times as long)."""


class BringupNode(LifecycleNode):
    """A lifecycle node of this package.

    A subclass fills in `open` (configure: open devices, load models; a PolicyBringupError refuses the start), `start`
    and `stop` (streaming on and off), `close`, and `health` for /diagnostics. `niceness`: negative is priority over
    other processes, where this user may give it.
    """

    niceness = 0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.entry = next(node for node in graph.NODES if node.name == name)
        self.refusal: str | None = None
        self.fault: str | None = None
        self.ended = threading.Event()
        self._configured = self._active = False
        self.autostart = bool(self.declare_parameter("autostart", True).value)
        self.deployment: Deployment
        self.robot: Robot

    def open(self) -> None:
        """Configure."""

    def start(self) -> None:
        """Activate."""

    def stop(self) -> None:
        """Deactivate."""

    def close(self) -> None:
        """Give back what `open` took."""

    def health(self) -> tuple[str, str, dict[str, Any]]:
        """Level ("ok", "warn", "error"), sentence and values for /diagnostics."""
        return "ok", "running", {}

    @property
    def config_folder(self) -> Path:
        """Where this deployment's configuration lies."""
        return self._deployment_path.parent

    @property
    def config_path(self) -> Path:
        """This node's own configuration file."""
        return self.config_folder / self.entry.config

    def stamp_now(self) -> int:
        """ROS time, ns: for header stamps."""
        return int(self.get_clock().now().nanoseconds)

    def finish(self) -> None:
        """Ends this process with exit code 0: its work is done."""
        self.ended.set()

    def fail(self, sentence: str) -> None:
        """Ends this process with `sentence` and exit code 1."""
        self.fault = self.fault or sentence
        self.ended.set()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle hook: loads the deployment, then `open`."""
        self._bare = set(self._entities())
        try:
            self._deployment_path = Path(text_parameter(self, "deployment"))
            self.deployment, self.robot = load_deployment(self._deployment_path)
            self.open()
        except Exception as error:  # rclpy would end the transition without a word
            self._refuse(error)
            return TransitionCallbackReturn.FAILURE
        self._diagnostics = endpoints.publisher(self, "/diagnostics")
        self.create_timer(1.0 / graph.topic("/diagnostics").rate_hz, self._publish_health)
        self._configured = True
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle hook: `start`."""
        try:
            self.start()
        except Exception:
            self.fail(f"activating failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.FAILURE
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle hook: `stop`."""
        self._active = False
        self.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle hook: `close`; the node is then as it was before it was configured."""
        self._configured = False
        self.close()
        self._destroy_opened()
        return super().on_cleanup(state)

    def wind_down(self) -> None:
        """Whatever state it is in: stops, and gives back what it took."""
        if self._active:
            self.stop()
        if self._configured:
            self.close()

    def _refuse(self, error: Exception) -> None:
        """To configure: with a sentence where the cause is not in this package."""
        sentence = str(error) if isinstance(error, PolicyBringupError) else sentence_of(error)
        if not sentence:
            self.fail(f"configuring failed:\n{traceback.format_exc()}")
        elif self.autostart:  # the process ends with it
            self.refusal = sentence
        else:
            self.get_logger().error(sentence)
        self._destroy_opened()

    def _entities(self) -> list[Any]:
        return [*self.publishers, *self.subscriptions, *self.clients, *self.services, *self.timers]

    def _destroy_opened(self) -> None:
        for entity in set(self._entities()) - self._bare:
            for kind in ("publisher", "subscription", "client", "service", "timer"):
                if entity in getattr(self, f"{kind}s"):
                    getattr(self, f"destroy_{kind}")(entity)

    def _publish_health(self) -> None:
        level, sentence, values = self.health()
        self._diagnostics.publish(
            messages.diagnostics(self.stamp_now(), messages.status(self.get_name(), level, sentence, values))
        )


def received_now() -> int:
    """This machine's monotonic time, ns: for watchdogs."""
    return time.monotonic_ns()


def run(node_class: Callable[[], BringupNode]) -> NoReturn:
    """Runs one node until SIGINT, SIGTERM, its own end or a fault, and ends the process with its exit code."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _set_priority(getattr(node_class, "niceness", 0))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = node_class()

    def ask(_number: int, _frame: FrameType | None) -> None:
        node.ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if not node.autostart or _autostart(node):
        # The executor has a thread of its own, since a signal does not wake it; asking it to wake up now and then
        # instead would cost more than all its callbacks together.
        stopped = threading.Event()
        thread = threading.Thread(target=_spin, args=(executor, node, stopped), daemon=True)
        thread.start()
        node.ended.wait()
        node.wind_down()
        stopped.set()
        executor.create_task(_nothing)  # waking alone does not end a spin that has no timer to do
        thread.join(timeout=END_TIMEOUT_S)
        if thread.is_alive():
            print("ends in the middle of a callback that does not come back", file=sys.stderr, flush=True)
            _leave(_say_why(node))
        executor.shutdown(timeout_sec=1.0)
    node.destroy_node()
    rclpy.try_shutdown()
    _leave(_say_why(node))


def _nothing() -> None:
    """Work that makes an executor look up."""


def _leave(code: int) -> NoReturn:
    """Ends this process without taking the interpreter apart: threads of DDS, and callbacks that still run, would lose
    the ground under their feet, and an abort would stand where the exit code should."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _spin(executor: SingleThreadedExecutor, node: BringupNode, stopped: threading.Event) -> None:
    """Until `stopped`: an executor that is shut down while it spins in another thread falls over its own remains."""
    try:
        while not stopped.is_set():
            executor.spin_once()
    except ExternalShutdownException:
        pass
    except Exception:
        node.fail(f"a callback failed:\n{traceback.format_exc()}")


def _set_priority(niceness: int) -> None:
    """Before any thread is started, since threads inherit it: those of DDS as well.

    Linux may share the processors out between sessions before it looks at priorities within one (autogroups), and the
    runner gives each node a session of its own: the session gets the same priority.
    """
    try:
        now = os.nice(niceness)
        if now and os.getsid(0) == os.getpid() and AUTOGROUP.exists():
            _set_session_priority(now)
    except OSError as error:
        print(f"runs at normal priority: this user may not change it (see `ulimit -e`): {error.strerror}", flush=True)


def _set_session_priority(niceness: int) -> None:
    """Tries for 2 s, since Linux lets all users but root write it once in 0.1 s, all together. Raises OSError."""
    for _ in range(20):
        with suppress(BlockingIOError):
            AUTOGROUP.write_text(str(niceness))
            return
        time.sleep(0.1)
    AUTOGROUP.write_text(str(niceness))


def _autostart(node: BringupNode) -> bool:
    if node.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
        return False
    # What is loaded by now stays: the garbage collector need not stop everything to look through it again and again.
    gc.collect()
    gc.freeze()
    return bool(node.trigger_activate() is TransitionCallbackReturn.SUCCESS)


def _say_why(node: BringupNode) -> int:
    for sentence, code in ((node.refusal, 2), (node.fault, 1)):
        if sentence is not None:
            print(f"[{node.entry.name}] {sentence}", file=sys.stderr, flush=True)
            return code
    return 0
