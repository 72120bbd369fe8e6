"""A node's configuration: its YAML file, shown as read-only ROS parameters that a launch file may override."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from policy_bringup.core.config import build, read_yaml
from policy_bringup.core.errors import ConfigError

T = TypeVar("T")
_READ_ONLY = ParameterDescriptor(read_only=True)
_DYNAMIC = ParameterDescriptor(read_only=True, dynamic_typing=True)


def _declared(node: Node, name: str, default: Any, descriptor: ParameterDescriptor = _READ_ONLY) -> Any:
    """The value given at start-up, else `default`. A node that is configured again finds what it declared before."""
    if node.has_parameter(name):
        return node.get_parameter(name).value
    return node.declare_parameter(name, default, descriptor).value


def text_parameter(node: Node, name: str, default: str | None = None) -> str:
    """A text given at start-up. Without a default, leaving it out raises ConfigError."""
    value = _declared(node, name, default if default is not None else "")
    if default is None and not value:
        raise ConfigError(f"{node.get_name()}: parameter '{name}' is missing; give it as -p {name}:=VALUE")
    return str(value)


def choice_parameter(node: Node, name: str, default: str, choices: tuple[str, ...]) -> str:
    """One of several words, given at start-up. Raises ConfigError."""
    value = text_parameter(node, name, default)
    if value not in choices:
        raise ConfigError(f"{node.get_name()}: parameter '{name}' must be one of {', '.join(choices)}, found '{value}'")
    return value


def whole_parameter(node: Node, name: str, default: int, lower: int, upper: int) -> int:
    """A whole number given at start-up, within lower <= x <= upper. Raises ConfigError."""
    value = _declared(node, name, default)
    if not lower <= value <= upper:
        raise ConfigError(f"{node.get_name()}: parameter '{name}' must be from {lower} to {upper}, found {value}")
    return int(value)


def load_parameters(node: Node, path: Path, cls: type[T], **fixed: Any) -> T:
    """Reads `path`, lets ROS parameters of the same names override its plain values, and checks the result.

    fixed: values that come from elsewhere (core/graph.py, the deployment) and may not stand in the file.
    Raises ConfigError.
    """
    data = dict(read_yaml(path))
    for key in fixed:
        if key in data:
            raise ConfigError(
                f"{path}: key '{key}' does not belong here; it follows from core/graph.py or the deployment"
            )
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        value = data.get(field.name)
        if isinstance(value, (bool, int, float, str)):
            data[field.name] = _declared(node, field.name, value, _DYNAMIC)
    return build(cls, {**data, **fixed}, str(path))
