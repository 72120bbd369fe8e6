from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from policy_bringup.core.errors import LearningError
from policy_bringup.learning.distributed import Ranks, joined

PAIR = """
import os, sys
import torch, torch.distributed as dist
from policy_bringup.core.errors import LearningError
from policy_bringup.learning.distributed import Ranks

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
ranks = Ranks(rank, 2)
used, unused = torch.nn.Parameter(torch.zeros(2, 3, 4, 4)), torch.nn.Parameter(torch.zeros(2))
used.grad = torch.full((2, 3, 4, 4), rank + 1.0).contiguous(memory_format=torch.channels_last)
used.grad[0, 1, 2, 3] = 10.0 * (rank + 1)
loss = ranks.sum_gradients([used, unused], torch.tensor(0.25 * (rank + 1)))
total = ranks.total([rank + 1.0, 1e9 + 1.0])
print(total, loss, used.grad[0, 1, 2, 3].item(), used.grad.sum().item(), unused.grad, flush=True)
if rank == 1:
    os._exit(3)
try:
    print(ranks.total([float(rank)]), flush=True)
except LearningError as error:
    print(error, flush=True)
"""


@dataclass(frozen=True)
class Ended:
    code: int
    lines: list[str]


def run_pair(store: Path) -> list[Ended]:
    """Two processes that meet at a file -> how each ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PAIR, str(rank), str(store)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [Ended(process.returncode, output.splitlines()) for process, output in zip(started, outputs, strict=True)]


def test_two_processes_add_up_and_notice_when_one_is_gone(tmp_path: Path) -> None:
    first, second = run_pair(tmp_path / "store")
    assert first.lines[0] == second.lines[0] == f"[3.0, 2000000002.0] 0.75 30.0 {3.0 * 95 + 30.0} None"
    assert second.code == 3
    assert first.lines[1:] == ["another process of this training has ended; its own message says why"]


def test_one_process_alone_has_nothing_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.first
        assert ranks.total([1.5, 2.0]) == [1.5, 2.0]
        assert ranks.sum_gradients([], torch.tensor(0.5)) == 0.5


def test_processes_that_do_not_find_each_other_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LearningError, match="the 2 processes of this training did not find each other"), joined():
        pass
