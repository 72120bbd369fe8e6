import math
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_bringup.core.config import bounded, build, load, read_yaml, required
from policy_bringup.core.errors import ConfigError


class Side(Enum):
    LEFT = "left"
    RIGHT = "right"


class Level(Enum):
    ONE = 1


@dataclass(frozen=True)
class Wheel:
    name: str = required()
    radius: float = bounded(0.1, 2.0, "m")


@dataclass(frozen=True)
class Cart:
    speed: float = bounded(0.0, 2.5, "m/s")
    gears: int = bounded(1, 6)
    brake: bool = required()
    side: Side = required()
    rule: Literal["area", "crop"] = required()
    wheel: Wheel = required()
    spares: tuple[Wheel, ...] = required()
    corner: tuple[float, float] = bounded(-1.0, 1.0, "m")
    notes: dict[str, float] = bounded(0.0, 9.0, default=None)
    limit: float | None = bounded(0.0, 1.0, "N", default=None)
    label: Optional[str] = field(default=None)  # noqa: UP045  both spellings of "or nothing" are read
    tags: tuple[str, ...] = field(default_factory=tuple)


GOOD = {
    "speed": 1.5,
    "gears": 3,
    "brake": True,
    "side": "left",
    "rule": "crop",
    "wheel": {"name": "front", "radius": 0.5},
    "spares": [{"name": "a", "radius": 0.1}, {"name": "b", "radius": 2.0}],
    "corner": [-1.0, 1],
}
YAML = """
speed: 1.5
gears: 3
brake: true
side: left
rule: crop
wheel: {name: front, radius: 0.5}
spares: [{name: a, radius: 0.1}, {name: b, radius: 2.0}]
corner: [-1.0, 1]
"""
LISTED = "brake, corner, gears, label, limit, notes, rule, side, spares, speed, tags, wheel"


def refusal(data, cls=Cart):
    with pytest.raises(ConfigError) as error:
        build(cls, data, "cart.yaml")
    return str(error.value)


def without(key):
    return {name: value for name, value in GOOD.items() if name != key}


def written(folder, text):
    path = folder / "cart.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_becomes_a_value_of_its_class(tmp_path):
    cart = load(written(tmp_path, YAML), Cart)
    assert cart == Cart(
        speed=1.5,
        gears=3,
        brake=True,
        side=Side.LEFT,
        rule="crop",
        wheel=Wheel("front", 0.5),
        spares=(Wheel("a", 0.1), Wheel("b", 2.0)),
        corner=(-1.0, 1.0),
    )
    assert cart == build(Cart, GOOD, "cart.yaml")


def test_a_key_with_a_default_may_be_given():
    cart = build(Cart, {**GOOD, "limit": 0.5, "label": "x", "notes": {"k": 9}, "tags": ["u", "v"]}, "cart.yaml")
    assert (cart.limit, cart.label, cart.notes, cart.tags) == (0.5, "x", {"k": 9.0}, ("u", "v"))
    assert build(Cart, {**GOOD, "limit": None, "label": None}, "cart.yaml").limit is None


def test_overrides_replace_and_add_top_level_keys(tmp_path):
    cart = load(written(tmp_path, YAML), Cart, {"gears": 6, "label": "night"})
    assert (cart.gears, cart.label, cart.speed) == (6, "night", 1.5)


def test_an_override_is_checked_like_the_file(tmp_path):
    path = written(tmp_path, YAML)
    with pytest.raises(ConfigError) as error:
        load(path, Cart, {"gears": 7})
    assert str(error.value) == f"{path}: gears: must be a whole number from 1 to 6, found 7"


def test_an_unknown_key_is_refused_with_the_allowed_ones():
    assert refusal({**GOOD, "sped": 1.0}) == f"cart.yaml: unknown key 'sped'; allowed are {LISTED}"
    nested = {**GOOD, "wheel": {"name": "front", "radius": 0.5, "color": "red"}}
    assert refusal(nested) == "cart.yaml: wheel: unknown key 'color'; allowed are name, radius"


def test_a_key_that_is_no_text_is_refused_as_unknown():
    assert refusal({**GOOD, True: 1}) == f"cart.yaml: unknown key True; allowed are {LISTED}"


MISSING = {
    "speed": "a number from 0 to 2.5 m/s",
    "gears": "a whole number from 1 to 6",
    "brake": "true or false",
    "side": "one of left, right",
    "rule": "one of area, crop",
    "wheel": "a group of keys: name, radius",
    "spares": "a list, each item a group of keys: name, radius",
    "corner": "a list of 2, each item a number from -1 to 1 m",
}


@pytest.mark.parametrize("key", MISSING)
def test_a_missing_key_is_refused_with_what_it_must_be(key):
    assert refusal(without(key)) == f"cart.yaml: key '{key}' is missing; it must be {MISSING[key]}"


WRONG = [
    ("speed", "fast", "must be a number from 0 to 2.5 m/s, found 'fast'"),
    ("speed", True, "must be a number from 0 to 2.5 m/s, found True"),
    ("speed", None, "must be a number from 0 to 2.5 m/s, found nothing"),
    ("speed", math.nan, "must be a number from 0 to 2.5 m/s, found nan"),
    ("speed", math.inf, "must be a number from 0 to 2.5 m/s, found inf"),
    ("speed", [1.0], "must be a number from 0 to 2.5 m/s, found [1.0]"),
    ("speed", "1e-3", "must be a number from 0 to 2.5 m/s, found '1e-3'"),
    ("gears", 3.0, "must be a whole number from 1 to 6, found 3.0"),
    ("gears", True, "must be a whole number from 1 to 6, found True"),
    ("gears", "3", "must be a whole number from 1 to 6, found '3'"),
    ("brake", 1, "must be true or false, found 1"),
    ("brake", "true", "must be true or false, found 'true'"),
    ("side", "up", "must be one of left, right, found 'up'"),
    ("side", "LEFT", "must be one of left, right, found 'LEFT'"),
    ("side", ["left"], "must be one of left, right, found ['left']"),
    ("rule", "AREA", "must be one of area, crop, found 'AREA'"),
    ("rule", ["area"], "must be one of area, crop, found ['area']"),
    ("wheel", [1, 2], "must be a group of keys, found [1, 2]"),
    ("wheel", None, "must be a group of keys, found nothing"),
    ("spares", "ab", "must be a list, each item a group of keys: name, radius, found 'ab'"),
    ("spares", {"name": "a"}, "must be a list, each item a group of keys: name, radius, found {'name': 'a'}"),
    ("corner", [0.0], "must be a list of 2, each item a number from -1 to 1 m, found [0.0]"),
    ("corner", [0.0, 0.0, 0.0], "must be a list of 2, each item a number from -1 to 1 m, found [0.0, 0.0, 0.0]"),
    ("notes", {1: 2.0}, "must be named entries, each a number from 0 to 9, found {1: 2.0}"),
    ("notes", [1.0], "must be named entries, each a number from 0 to 9, found [1.0]"),
    ("limit", 1.5, "must be a number from 0 to 1 N, found 1.5"),
    ("label", "", "must be a text, found ''"),
    ("label", 5, "must be a text, found 5"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), WRONG)
def test_a_wrong_value_is_refused_with_file_key_and_what_is_allowed(key, value, sentence):
    assert refusal({**GOOD, key: value}) == f"cart.yaml: {key}: {sentence}"


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("wheel", {"name": "w", "radius": 3}, "wheel: radius: must be a number from 0.1 to 2 m, found 3"),
        ("wheel", {"name": "w"}, "wheel: key 'radius' is missing; it must be a number from 0.1 to 2 m"),
        ("spares", [GOOD["wheel"], {"name": "", "radius": 1}], "spares[1]: name: must be a text, found ''"),
        ("corner", [0.0, 1.1], "corner[1]: must be a number from -1 to 1 m, found 1.1"),
        ("notes", {"weight": -1}, "notes.weight: must be a number from 0 to 9, found -1"),
        ("tags", ["a", 2], "tags[1]: must be a text, found 2"),
    ],
)
def test_a_nested_refusal_names_the_way_to_the_key(key, value, where):
    assert refusal({**GOOD, key: value}) == f"cart.yaml: {where}"


def test_a_missing_optional_key_without_default_may_be_nothing():
    @dataclass
    class Strict:
        limit: float | None = bounded(0.0, 1.0, "N")

    sentence = "cart.yaml: key 'limit' is missing; it must be a number from 0 to 1 N or nothing"
    assert refusal({}, Strict) == sentence
    assert build(Strict, {"limit": None}, "cart.yaml").limit is None


def test_a_missing_group_of_named_entries_says_what_it_must_be():
    @dataclass
    class Named:
        notes: dict[str, float] = required()

    assert refusal({}, Named) == "cart.yaml: key 'notes' is missing; it must be named entries, each a number"


@pytest.mark.parametrize(
    ("key", "lower", "upper"),
    [("speed", 0.0, 2.5), ("limit", 0.0, 1.0), ("gears", 1, 6)],
)
def test_both_bounds_belong_to_the_range(key, lower, upper):
    for value in (lower, upper):
        assert getattr(build(Cart, {**GOOD, key: value}, "cart.yaml"), key) == value
    below, above = (
        (lower - 1, upper + 1) if key == "gears" else (math.nextafter(lower, -9.0), math.nextafter(upper, 9.0))
    )
    for value in (below, above):
        assert f"cart.yaml: {key}: must be " in refusal({**GOOD, key: value})


@given(st.floats() | st.integers() | st.booleans() | st.text() | st.none())
def test_only_a_number_within_the_bounds_passes(value):
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value <= 2.5
    if fits:
        assert build(Cart, {**GOOD, "speed": value}, "cart.yaml").speed == value
    else:
        assert "must be a number from 0 to 2.5 m/s" in refusal({**GOOD, "speed": value})


@dataclass
class Free:
    amount: float = required()
    count: int = required()


def test_without_bounds_every_finite_number_passes():
    free = build(Free, {"amount": sys.float_info.max, "count": -(10**18)}, "cart.yaml")
    assert (free.amount, free.count) == (sys.float_info.max, -(10**18))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
def test_without_bounds_a_number_must_still_be_finite(value):
    assert refusal({"amount": value, "count": 1}, Free).startswith("cart.yaml: amount: must be a number, found ")
    assert refusal({"amount": 1.0, "count": value}, Free).startswith("cart.yaml: count: must be a whole number, found ")


def test_a_whole_number_given_for_a_number_becomes_a_float():
    speed = build(Cart, {**GOOD, "speed": 2}, "cart.yaml").speed
    assert isinstance(speed, float)
    assert speed == 2.0


@pytest.mark.parametrize("value", [True, 1.0])
def test_true_and_one_point_zero_are_not_one(value):
    @dataclass
    class Chosen:
        number: Literal[1, 2] = 1
        level: Level = Level.ONE

    assert build(Chosen, {"number": 1, "level": 1}, "cart.yaml") == Chosen(1, Level.ONE)
    assert refusal({"number": value}, Chosen) == f"cart.yaml: number: must be one of 1, 2, found {value}"
    assert refusal({"level": value}, Chosen) == f"cart.yaml: level: must be one of 1, found {value}"


def test_a_long_value_is_shortened_in_the_sentence():
    found = refusal({**GOOD, "gears": "x" * 100}).partition("found ")[2]
    assert found == "'" + "x" * 56 + "..."
    assert refusal({**GOOD, "gears": "x" * 58}).endswith("'" + "x" * 58 + "'")


def test_what_a_class_refuses_itself_names_the_file_too():
    @dataclass
    class Ordered:
        first: int = bounded(0, 9)
        last: int = bounded(0, 9)

        def __post_init__(self):
            if self.first > self.last:
                raise ValueError(f"first {self.first} must not be after last {self.last}")

    assert refusal({"first": 2, "last": 1}, Ordered) == "cart.yaml: first 2 must not be after last 1"
    assert build(Ordered, {"first": 1, "last": 1}, "cart.yaml").last == 1


def test_a_kind_of_value_that_no_file_can_hold_is_refused():
    @dataclass
    class Odd:
        size: complex = required()

    assert refusal({"size": 1.0}, Odd) == "cart.yaml: size: must be <class 'complex'>, found 1.0"


def refused_file(folder, text):
    path = written(folder, text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_yaml(tmp_path / "none.yaml")
    assert str(error.value) == f"{tmp_path / 'none.yaml'}: cannot be read (No such file or directory)"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(("text", "found"), [("- 1\n- 2\n", "[1, 2]"), ("", "nothing"), ("word", "'word'")])
def test_a_file_without_keys_is_refused(tmp_path, text, found):
    assert refused_file(tmp_path, text) == f"must hold keys and values at its top level, found {found}"


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "b: {a: 1, c: 2, a: 1}\n", "b:\n  - {a: 1, a: 2}\n"])
def test_a_key_that_stands_twice_is_refused_at_every_depth(tmp_path, text):
    sentence = refused_file(tmp_path, text)
    assert sentence.startswith("is not valid YAML (key 'a' stands twice in ")
    assert ", line " in sentence


def test_the_same_key_in_two_groups_is_no_duplicate(tmp_path):
    assert read_yaml(written(tmp_path, "b: {a: 1}\nc: {a: 2}\n")) == {"b": {"a": 1}, "c": {"a": 2}}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2\n",
        "a: b: c\n",
        "a: 2026-13-45\n",  # looks like a date and is none
        "? [1, 2]\n: 3\n",  # a list as a key
        "a: &x {b: 1}\nc: {<<: *x}\n",  # a merged group would hide where a value comes from
        "a: !!python/object/apply:os.getcwd []\n",
        "a: *nowhere\n",
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(tmp_path, text):
    assert refused_file(tmp_path, text).startswith("is not valid YAML (")


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "cart.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(path)
