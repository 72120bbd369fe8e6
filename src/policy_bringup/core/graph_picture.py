"""The robot's graph as a Mermaid flow chart, for the README."""

from __future__ import annotations

from policy_bringup.core import graph

OUTSIDE = ("robot", "operator")
LEFT_OUT = ("/diagnostics", "camera/{camera}/camera_info")
WATCHERS = ("trial", "console", "recorder", "latency")
"""Nodes that only look on or stand beside: their edges would hide the path from sensor to motor."""


def mermaid(mode: str) -> str:
    """Nodes of one mode, with one arrow per topic and reader: `a -->|topic| b`. Raises ConfigError."""
    running = [node.name for node in graph.nodes(mode) if node.name not in WATCHERS]
    drawn = [*running, *(name for name in OUTSIDE if mode != "sim" or name == "operator")]
    lines = ["flowchart LR"]
    lines += [f"    {name}([{name}])" if name in OUTSIDE else f"    {name}[{name}]" for name in drawn]
    for topic in graph.TOPICS:
        if topic.name in LEFT_OUT:
            continue
        rate = f" {topic.rate_hz:g} Hz" if topic.rate_hz else ""
        lines += [
            f'    {source} -->|"{topic.name}{rate}"| {reader}'
            for source in topic.publishers
            for reader in topic.readers
            if source in drawn and reader in drawn
        ]
    lines += [
        f'    operator -.->|"{service.name}"| {server}'
        for service in graph.SERVICES
        for server in service.servers
        if server in drawn and "operator" in service.clients
    ]
    return "\n".join(lines)
