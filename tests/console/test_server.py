import socket
import threading
import urllib.request

import pytest
import websockets.asyncio.server
from websockets.exceptions import InvalidStatus

from policy_bringup.console.server import LocalServer, is_loopback
from policy_bringup.core.errors import ConfigError, DeviceError


@pytest.fixture
def server():
    server = LocalServer("127.0.0.1", 0, "test")
    yield server
    server.stop()


def test_the_page_answers_on_its_address(server: LocalServer):
    with urllib.request.urlopen(server.url) as answer:
        assert answer.status == 200
        assert b"<html" in answer.read(1000).lower()


def test_it_listens_on_no_other_address(server: LocalServer):
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", server.get_port())) != 0


def test_its_own_page_is_let_in_also_through_a_tunnel_under_another_port(server: LocalServer, browse):
    for origin in (server.url, "http://localhost:9000", "https://127.0.0.1"):
        with browse(server.url, origin):
            pass


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil.example/http://127.0.0.1",
        "null",
        None,
    ],
)
def test_a_page_from_elsewhere_is_refused(server: LocalServer, browse, origin: str | None):
    with pytest.raises(InvalidStatus, match="403"), browse(server.url, origin):
        pass


def test_other_websocket_servers_of_the_process_are_not_affected():
    LocalServer("127.0.0.1", 0, "test").stop()
    assert isinstance(websockets.asyncio.server.serve, type)


def test_a_browser_cannot_open_a_public_tunnel(browse):
    asked = threading.Event()

    class Watched(LocalServer):
        def request_share_url(self, verbose: bool = True) -> str | None:
            answer = super().request_share_url(verbose)
            assert answer is None
            asked.set()
            return answer

    server = Watched("127.0.0.1", 0, "test")
    try:
        with browse(server.url) as browser:
            browser.send({"type": "ShareUrlRequest"})
            assert asked.wait(10.0)  # viser still has this door, and it leads here
        assert server._share_tunnel is None
    finally:
        server.stop()


def test_the_environment_cannot_move_the_page_to_another_port(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        asked, elsewhere = one.getsockname()[1], other.getsockname()[1]
    monkeypatch.setenv("_VISER_PORT_OVERRIDE", str(elsewhere))
    with pytest.raises(DeviceError, match=f"listens on port {elsewhere} instead of {asked}"):
        LocalServer("127.0.0.1", asked, "test")


def test_a_taken_port_is_refused_instead_of_the_next_one_used(server: LocalServer):
    with pytest.raises(DeviceError, match=f"cannot listen on 127.0.0.1 port {server.get_port()}"):
        LocalServer("127.0.0.1", server.get_port(), "test")


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(DeviceError, match=r"cannot listen on 192\.0\.2\.1"):
        LocalServer("192.0.2.1", 0, "test")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address_at_once_is_refused(host: str):
    with pytest.raises(ConfigError, match="means every address"):
        LocalServer(host, 0, "test")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("localhost", True),
        ("192.168.1.5", False),
        ("robot", False),
    ],
)
def test_loopback_is_told_from_the_network(host: str, expected: bool):
    assert is_loopback(host) is expected
