"""A browser without a screen: speaks viser's protocol over a real websocket to the real server."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import viser
import zstandard
from websockets.sync.client import connect

from policy_bringup.console.config import ConsoleConfig, Table
from policy_bringup.console.drawing import Link, load_drawing
from policy_bringup.console.page import Commands, Page

LOOKING = {
    "type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 1.0), "fov": 1.0, "near": 0.1,
    "far": 10.0, "image_height": 480, "image_width": 640, "look_at": (0.0, 0.0, 0.0), "up_direction": (0.0, 0.0, 1.0),
}  # fmt: skip


class Browser:
    """Knows what the page shows: `widgets` by uuid with their properties, `nodes` of the scene by name."""

    def __init__(self, url: str, origin: str | None) -> None:
        protocol = f"viser-v{viser.__version__}"
        address = url.replace("http", "ws")
        self._socket = connect(address, origin=origin, subprotocols=[protocol], max_size=None, compression=None)
        self.widgets: dict[str, dict] = {}
        self.nodes: dict[str, dict] = {}
        self._loaded = False
        self.send(LOOKING)
        self.wait(lambda: self._loaded)

    def send(self, message: dict) -> None:
        self._socket.send(msgspec.msgpack.encode(message))

    def wait(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Takes messages in until `condition` holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            raw = self._socket.recv(timeout=max(0.0, deadline - time.monotonic()))
            packed = raw[16 : 16 + int.from_bytes(raw[8:16], "little")]
            for message in msgspec.msgpack.decode(zstandard.decompress(packed))["messages"]:
                self._take(message)

    def _take(self, message: dict) -> None:
        kind, props = message["type"], message.get("props", {})
        if kind == "ReplayDoneMessage":
            self._loaded = True
        elif kind == "GuiUpdateMessage":
            self.widgets[message["uuid"]].update(message["updates"])
        elif "uuid" in message and props:
            self.widgets[message["uuid"]] = {"type": kind, **props}
        elif "name" in message:
            self.nodes.setdefault(message["name"], {}).update({**message, **props})

    @property
    def text(self) -> str:
        """All the HTML on the page."""
        return "\n".join(w["content"] for w in self.widgets.values() if "content" in w)

    def picture(self, camera: str) -> bytes:
        """The JPEG that is shown for one camera."""
        return next(w["_data"] for w in self.widgets.values() if w.get("label") == camera)

    def press(self, label: str) -> None:
        """A click on the button whose label begins with `label`."""
        uuid = next(
            uuid
            for uuid, widget in self.widgets.items()
            if widget["type"] == "GuiButtonMessage" and widget["label"].startswith(label)
        )
        self.send({"type": "GuiUpdateMessage", "uuid": uuid, "updates": {"value": True}})

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="session")
def links(config_folder: Path) -> tuple[Link, ...]:
    return load_drawing(config_folder.parent / "models" / "robot" / "panda.urdf")


@pytest.fixture(scope="session")
def console_config() -> ConsoleConfig:
    """Port 0: any free one."""
    return ConsoleConfig("127.0.0.1", 0, 2.0, Table((1.2, 1.4, 0.04), (0.35, 0.0)), 0.04)


@pytest.fixture
def pressed() -> list[str]:
    """Names of the commands that were called, in order."""
    return []


@pytest.fixture
def page(console_config: ConsoleConfig, links: tuple[Link, ...], pressed: list[str]) -> Iterator[Page]:
    def command(name: str) -> Callable[[], str]:
        def called() -> str:
            pressed.append(name)
            return f"{name} was asked for"

        return called

    commands = Commands(
        *(command(name) for name in ("arm", "disarm", "stop", "reset", "home")),
        recording={"Start recording": command("start recording")},
    )
    page = Page(console_config, "panda: grasp", links, ("front", "wrist"), commands)
    yield page
    page.close()


@pytest.fixture
def browse():
    """Opens a page like a browser that came from `origin` (by default: the page itself)."""

    @contextmanager
    def start(url: str, origin: str | None = "") -> Iterator[Browser]:
        browser = Browser(url, url if origin == "" else origin)
        try:
            yield browser
        finally:
            browser.close()

    return start


@pytest.fixture
def browser(page: Page, browse) -> Iterator[Browser]:
    with browse(page.url) as browser:
        yield browser
