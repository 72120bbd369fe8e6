from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = '''"""Words about the module."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Words about the box."""

    size: int = 3

    @property
    def big(self) -> bool:
        """Whether it is."""
        return self.size >= 10 and not self.size == 11


def clamp(x: float, lower: float = 0.0) -> float:
    def inner() -> float:
        return max(x, lower)

    if x != x:
        raise ValueError("not a number")
    return inner()
'''


@pytest.fixture(scope="module")
def mutants():
    spec = importlib.util.spec_from_file_location("mutants", HERE / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


@pytest.fixture
def found(mutants, tmp_path):
    path = tmp_path / "box.py"
    path.write_text(SOURCE)
    return mutants.mutants_of(path)


def run(mutant):
    scope = {"__name__": "builtins"}
    exec(mutant.code(), scope)
    return scope


def test_every_kind_of_change_is_made_once(found):
    made = {mutant.name.split("/")[1] for mutant in found}
    assert len(made) == len(found)
    assert {
        "box.py Box.big: self.size >= 10 -> self.size > 10",
        "box.py Box.big: self.size >= 10 -> self.size < 10",
        "box.py Box.big: 10 -> 11",
        "box.py Box.big: 10 -> 9",
        "box.py Box.big: not self.size == 11 -> self.size == 11",
        "box.py Box.big: self.size >= 10 and (not self.size == 11) -> self.size >= 10",
        "box.py Box.big: self.size >= 10 and (not self.size == 11) -> self.size >= 10 or not self.size == 11",
        "box.py Box.big: return self.size >= 10 and (not self.size == 11) -> return None",
        "box.py clamp: max(x, lower) -> x",
        "box.py clamp: max(x, lower) -> lower",
        "box.py clamp: max -> min",
        "box.py clamp: lower -> upper",
        "box.py clamp: if x != x: -> always True",
        "box.py clamp: raise ValueError('not a number') -> removed",
        "box.py clamp: 'not a number' -> 'not a number?'",
        "box.py Box.: 3 -> 4",
        "box.py module: 0.0 -> 1.0",
        "box.py module: True -> False",
    } <= made


def test_words_about_the_code_and_types_are_left_alone(found):
    assert not any("Words" in mutant.name or "float" in mutant.text for mutant in found)


def test_a_change_is_in_the_code_and_leaves_the_others_alone(found):
    by_text = {mutant.text: mutant for mutant in found}
    assert run(by_text["max(x, lower) -> lower"])["clamp"](5.0) == 0.0
    assert run(by_text["0.0 -> 1.0"])["clamp"](0.5) == 1.0
    assert run(by_text["10 -> 11"])["Box"](10).big is False
    assert run(by_text["10 -> 9"])["Box"](10).big is True


def test_what_runs_at_import_is_told_from_what_runs_in_a_function(found):
    at_import = {mutant.text for mutant in found if mutant.at_import}
    assert {"3 -> 4", "0.0 -> 1.0", "True -> False"} <= at_import
    assert not any("size" in text for text in at_import)
    assert {mutant.function for mutant in found if not mutant.at_import} == {"Box.big", "clamp"}


def test_the_list_of_equivalents_gives_a_reason_for_each(mutants):
    import yaml

    entries = yaml.safe_load((HERE / "equivalent.yaml").read_text())
    names = [entry["mutant"] for entry in entries]
    assert len(set(names)) == len(names)
    assert all(len(entry["reason"]) > 20 for entry in entries)
