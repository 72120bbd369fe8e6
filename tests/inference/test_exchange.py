"""Whoever is killed while he replaces a bundle leaves a whole one, the old or the new."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policy_bringup.core.errors import ContractError
from policy_bringup.inference import exchange
from policy_bringup.inference.bundle import load_bundle

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = 0.25, 0.5
WRITER = f"""
import os, signal, sys
from dataclasses import replace
from pathlib import Path

from policy_bringup.inference import exchange
from policy_bringup.inference.bundle import load_bundle, write_bundle
from policy_bringup.inference.manifest import read_manifest

folder, last, able = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "exchange"
if not able:
    exchange.exchange = lambda one, other: False
bundle = load_bundle(folder, read_manifest(folder / "policy.yaml").contract)
steps = 0


def end_before_the_last(event, arguments):
    global steps
    if event in ("os.rename", "shutil.rmtree"):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(end_before_the_last)
found = bundle.manifest
write_bundle(
    folder, contract=found.contract, uncertainty=replace(found.uncertainty, threshold={NEW}),
    fingerprint=found.fingerprint, provenance=found.provenance, opset=found.onnx.opset,
    parity_max_abs_error=0.0, model=bundle.model,
)
"""


def killed(folder: Path, last: int, how: str) -> bool:
    """Another process replaces the bundle in `folder`, and is killed before its rename or removal number `last`, if it
    comes to that."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), str(last), how],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.fixture
def able(tmp_path):
    """Skips where the file system of the tests cannot exchange."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if not exchange.exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system exchanges no names")


def threshold(folder: Path, contract) -> float:
    return load_bundle(folder, contract).manifest.uncertainty.threshold


def test_killed_before_whichever_step_it_leaves_a_whole_bundle(able, folder, contract):
    found = []
    for last in range(1, 10):
        was_killed = killed(folder, last, "exchange")
        found.append(threshold(folder, contract))
        if not was_killed:
            break
    assert not was_killed
    assert found[-1] == NEW


def test_killed_between_two_renames_it_leaves_the_old_bundle_beside_and_the_next_write_brings_it_back(
    folder, contract, write
):
    assert killed(folder, 3, "two renames")  # the first step removes what an earlier one may have left
    with pytest.raises(ContractError, match=rf"cut short, the one before lies in {folder.parent}/\.grasp\.old$"):
        load_bundle(folder, contract)
    with pytest.raises(ContractError, match="no usable ONNX graph"):
        write(folder, contract, model=b"no graph")
    assert threshold(folder, contract) == OLD


def test_killed_after_two_renames_it_leaves_the_new_bundle_and_the_next_write_cleans_up(
    folder, contract, write, monkeypatch
):
    assert killed(folder, 4, "two renames")
    assert threshold(folder, contract) == NEW
    assert exchange.aside(folder).is_dir()
    monkeypatch.setattr(exchange, "exchange", lambda one, other: False)
    write(folder, contract)
    assert threshold(folder, contract) == OLD
    assert [path.name for path in folder.parent.iterdir()] == ["grasp"]


def test_two_folders_exchange_their_names(able, tmp_path):
    (tmp_path / "one" / "1").touch()
    assert exchange.exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other" / "1").exists()
    with pytest.raises(FileNotFoundError):
        exchange.exchange(tmp_path / "one", tmp_path / "third")


def test_where_the_kernel_says_that_it_cannot_nothing_is_exchanged(tmp_path):
    """Here because a folder cannot be inside itself: EINVAL, as of file systems that cannot at all."""
    (tmp_path / "one" / "inner").mkdir(parents=True)
    assert not exchange.exchange(tmp_path / "one", tmp_path / "one" / "inner")
    assert (tmp_path / "one" / "inner").is_dir()


def test_behind_a_link_the_bundle_itself_is_replaced(folder, contract, write, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(folder)
    (folder / "notes.txt").touch()
    write(link, contract)
    assert link.readlink() == folder
    assert not (folder / "notes.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "grasp"]
