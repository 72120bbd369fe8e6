"""A short run of benchmarks/fuzz.py, and what its long runs have found."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from policy_bringup.core.config import build, read_yaml
from policy_bringup.core.errors import ConfigError, ContractError
from policy_bringup.inference.manifest import build_manifest, read_manifest
from policy_bringup.safety.limits import SafetyConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HUGE = 16**5000
"""YAML reads it from 0x1000...; Python refuses to write it in decimal."""


@pytest.fixture(scope="module")
def fuzzer():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("fuzz")


@pytest.mark.parametrize(
    ("kind", "count"),
    [("safety configuration", 150), ("deployment and robot", 150), ("policy bundle", 200), ("action table", 500)],
)
def test_hostile_input_is_accepted_whole_or_refused_with_a_sentence(fuzzer, tmp_path, kind, count):
    counts, escapes = fuzzer.fuzz(kind, count, seed=1, folder=tmp_path)
    assert escapes == []
    assert counts["accepted"] > 0
    assert counts["refused"] > count // 3


def test_a_vector_is_the_same_whenever_it_is_asked_for(fuzzer, tmp_path):
    data = {"a": [1, 2.0, {"b": None}], "c": "text"}
    first, second = (fuzzer.bend(data, fuzzer.random.Random("7"), 3) for _ in range(2))
    assert repr(first) == repr(second)
    assert data == {"a": [1, 2.0, {"b": None}], "c": "text"}


def test_an_answer_that_is_no_answer_is_an_escape(fuzzer, tmp_path):
    def broken(files, rng):
        fuzzer.must(rng.random() > 2.0, "never")

    def crash(files, rng):
        return {}["missing"]

    files = fuzzer.Files(tmp_path)
    assert fuzzer.outcome_of(broken, files, fuzzer.random.Random("7")) == "Escape: never"
    assert fuzzer.outcome_of(crash, files, fuzzer.random.Random("7")) == "KeyError: 'missing'"


def test_a_number_that_python_does_not_print_is_refused_with_a_sentence():
    with pytest.raises(ConfigError, match=r"f: tick_rate_hz: must be .* found a number of 20001 bits"):
        build(SafetyConfig, {"sources": ["policy"], "tick_rate_hz": HUGE}, "f")
    with pytest.raises(ConfigError, match="f: unknown key a number of 20001 bits"):
        build(SafetyConfig, {HUGE: 1}, "f")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 600,
        "a: !!bool maybe",
        "a: !!int ''",
        "a: !!timestamp x",
        "a: !!python/object/apply:os.abort []",
        "a: 0x" + "f" * 5000 + "\n? 0x" + "f" * 5000 + "\n: 1\n? 0x" + "f" * 5000 + "\n: 2",
    ],
    ids=lambda text: text[:24],
)
def test_yaml_that_its_reader_stumbles_over_is_refused_with_a_sentence(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(path)
    with pytest.raises(ContractError, match="is not valid YAML"):
        read_manifest(path)


def test_a_few_lines_that_mean_a_billion_items_are_refused_without_writing_them_out(tmp_path):
    lists = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 8)}]\n" for i in range(1, 12))
    path = tmp_path / "policy.yaml"
    path.write_text("l0: &l0 [x, x, x, x, x, x, x, x]\n" + lists + "format: *l11\n")
    with pytest.raises(ContractError, match=r"has format .{1,60}; this software reads format 1"):
        read_manifest(path)
    with pytest.raises(ContractError, match=r"contract: must be a group of keys, found .{1,60}$"):
        build_manifest({"format": 1, "contract": read_yaml(path)["l11"]}, path)
