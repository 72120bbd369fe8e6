"""viser's web server without its open doors: one address, one port, no tunnel, no foreign web pages.

A browser lets any page that it shows talk to a server on the same machine. So only a connection that says it comes
from this server's own page (the Origin header, which scripts cannot forge) is let in: without this, any web site that
the operator visits could press "arm". Source: RFC 6455, section 10.2.
"""

from __future__ import annotations

import contextlib
import functools
import io
import ipaddress
import re
import socket
from collections.abc import Iterator

import viser
import websockets.asyncio.server

from policy_bringup.core.errors import ConfigError, DeviceError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class LocalServer(viser.ViserServer):
    """Listens on one address. port 0: any free one.

    Raises ConfigError for an address that means "all of them", DeviceError when it cannot listen there.
    """

    def __init__(self, host: str, port: int, label: str) -> None:
        _require_one_address(host)
        _require_free(host, port)
        # viser prints a box and its address; the node logs the address itself.
        with _only_from(_own_origins(host)), contextlib.redirect_stdout(io.StringIO()):
            super().__init__(host, port, label, verbose=False)
        if port not in (0, self.get_port()):
            self.stop()
            raise DeviceError(f"console: viser listens on port {self.get_port()} instead of {port}")

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = self.get_host()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.get_port()}"

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Refused: any browser may ask viser for a public tunnel, and that would put the arm on the internet."""
        return None


def _require_one_address(host: str) -> None:
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            raise ConfigError(f"console: host {host} means every address; give the one that the operator opens")


def _require_free(host: str, port: int) -> None:
    """Tries the port: viser would go to the next one without a word, or wait for ever for an address it cannot have."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise DeviceError(f"console: cannot listen on {host} port {port} ({error.strerror})") from error


def _own_origins(host: str) -> list[re.Pattern[str]]:
    """Origins of this server's page. On loopback under any port, for those who come through an SSH tunnel."""
    names = [*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host]
    return [re.compile(rf"https?://({'|'.join(map(re.escape, names))})(:\d+)?")]


@contextlib.contextmanager
def _only_from(origins: list[re.Pattern[str]]) -> Iterator[None]:
    """Within it, a websocket server that is started checks the origin. viser has no parameter for it."""
    serve = websockets.asyncio.server.serve
    websockets.asyncio.server.serve = functools.partial(serve, origins=origins)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]
