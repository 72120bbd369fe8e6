"""Strict configuration: YAML -> frozen dataclasses.

No guessing: an unknown, missing or out-of-bounds key is refused with one sentence that names the file, the key and what
is allowed. A configuration class is a dataclass whose numbers are declared with `bounded(lower, upper, unit)`. A
default means that a file may leave the key out; by rule, nothing that moves a motor has one.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import reprlib
import sys
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml

from policy_bringup.core.errors import ConfigError

T = TypeVar("T")
_MISSING: Any = dataclasses.MISSING


def bounded(lower: float, upper: float, unit: str = "", default: Any = _MISSING) -> Any:
    """A number (or every number of a sequence) that must satisfy lower <= x <= upper."""
    return dataclasses.field(default=default, metadata={"bounds": (lower, upper), "unit": unit})


def required() -> Any:
    """A text, flag or group of keys that must be given (numbers: `bounded`)."""
    return dataclasses.field()


def load(path: Path | str, cls: type[T], overrides: Mapping[str, Any] | None = None) -> T:
    """Reads one YAML file into `cls`; `overrides` replace or add top-level keys. Raises ConfigError."""
    data = dict(read_yaml(path))
    data.update(overrides or {})
    return build(cls, data, str(path))


def read_yaml(path: Path | str) -> Mapping[str, Any]:
    """One YAML file whose top level is a mapping. Raises ConfigError."""
    try:
        with Path(path).open(encoding="utf-8") as stream:
            data = yaml.load(stream, Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # not YAML, not UTF-8, the date 2026-13-45, `!!bool maybe`, or nested a thousand deep
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: must hold keys and values at its top level, found {describe(data)}")
    return data


def build(cls: type[T], data: Any, where: str) -> T:
    """Mapping -> dataclass, recursively. `where` is the file (and key) that errors name. Raises ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: must be a group of keys, found {describe(data)}")
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {describe(key)}; allowed are {', '.join(sorted(known))}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, spec in known.items():
        if name in data:
            values[name] = _convert(data[name], hints[name], spec.metadata, f"{where}: {name}")
        elif spec.default is _MISSING and spec.default_factory is _MISSING:
            raise ConfigError(f"{where}: key '{name}' is missing; it must be {_allowed(hints[name], spec.metadata)}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> Any:
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(value, hint, metadata, where)
    if origin is tuple:
        return _convert_tuple(value, hint, metadata, where)
    if origin is dict:
        return _convert_dict(value, hint, metadata, where)
    if origin is Literal:
        if _is_one_of(value, get_args(hint)):
            return value
        raise _refusal(value, hint, metadata, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    return _convert_scalar(value, hint, metadata, where)


def _convert_optional(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> Any:
    (inner,) = (part for part in get_args(hint) if part is not type(None))
    return None if value is None else _convert(value, inner, metadata, where)


def _convert_tuple(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    parts = get_args(hint)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _refusal(value, hint, metadata, where)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(parts) != len(value):
        raise _refusal(value, hint, metadata, where)
    return tuple(
        _convert(v, part, metadata, f"{where}[{i}]") for i, (v, part) in enumerate(zip(value, parts, strict=True))
    )


def _convert_dict(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _refusal(value, hint, metadata, where)
    inner = get_args(hint)[1]
    return {key: _convert(v, inner, metadata, f"{where}.{key}") for key, v in value.items()}


def _convert_scalar(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if _is_one_of(value, [member.value for member in hint]):
            return hint(value)
    elif hint is bool:
        if isinstance(value, bool):
            return value
    elif hint is str:
        if isinstance(value, str) and value:
            return value
    elif hint in (int, float) and _is_number(value, hint):
        lower, upper = metadata.get("bounds", (-math.inf, math.inf))
        if lower <= value <= upper:
            return hint(value)
    raise _refusal(value, hint, metadata, where)


def _is_one_of(value: Any, allowed: Sequence[Any]) -> bool:
    # By type too: in Python, true and 1.0 equal 1.
    return any(type(value) is type(choice) and value == choice for choice in allowed)


def _is_number(value: Any, hint: type) -> bool:
    kind = int if hint is int else (int, float)
    # The largest float also bars infinity, NaN, and whole numbers that no float can hold.
    return not isinstance(value, bool) and isinstance(value, kind) and abs(value) <= sys.float_info.max


def _refusal(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> ConfigError:
    return ConfigError(f"{where}: must be {_allowed(hint, metadata)}, found {describe(value)}")


def _allowed(hint: Any, metadata: Mapping[str, Any]) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in arguments if part is not type(None)]
        return " or ".join([_allowed(part, metadata) for part in inner] + ["nothing"])
    if origin is tuple:
        count = "a list, each item" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}, each item"
        return f"{count} {_allowed(arguments[0], metadata)}"
    if origin is dict:
        return f"named entries, each {_allowed(arguments[1], metadata)}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if dataclasses.is_dataclass(hint):
        return "a group of keys: " + ", ".join(f.name for f in dataclasses.fields(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in hint)
    word = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}.get(hint, str(hint))
    if "bounds" not in metadata or hint not in (int, float):
        return word
    lower, upper = metadata["bounds"]
    unit = f" {metadata['unit']}" if metadata.get("unit") else ""
    return f"{word} from {lower:g} to {upper:g}{unit}"


def describe(value: Any) -> str:
    """What stands in a file, in 60 letters at most, however large it is."""
    if value is None:
        return "nothing"
    shown = _SHORT.repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


class _Short(reprlib.Repr):
    """Reads no more than it shows: ten lines of YAML can mean a list of 10^9 items, or a number of 10^5 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 120, 120
        self.maxlist = self.maxtuple = self.maxset = self.maxdict = 20

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 400 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice: one of the two would be ignored without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
            if key in seen:
                twice = f"key {describe(key)} stands twice"
                raise yaml.constructor.ConstructorError(None, None, twice, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
