"""The whole way on a small scale: a minute's course, which may not end in a bundle that nobody has calibrated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from policy_bringup.core.deployment import load_deployment
from policy_bringup.core.errors import ConfigError, LearningError
from policy_bringup.core.fingerprints import files_sha256
from policy_bringup.episodes.journal import load_journal
from policy_bringup.episodes.layout import episodes
from policy_bringup.episodes.splits import SPLIT_FILE
from policy_bringup.inference.bundle import load_bundle
from policy_bringup.inference.manifest import MANIFEST_FILE, read_manifest
from policy_bringup.inference.onnx_policy import load_policy
from policy_bringup.learning.train import Interrupted
from policy_bringup.pipeline.course import STAGES, Course, Ears, publish
from policy_bringup.pipeline.demonstrations import SETTINGS_FILE

ROOT = Path(__file__).resolve().parents[2]
DEMONSTRATIONS = 10
STEPS = 200
"""Less than a minute of training, where nothing else runs."""
SMALL = {
    "demonstrations": DEMONSTRATIONS,
    "false_alarm_rate": 0.05,
    "calibration_episodes": 19,
    "evaluation_episodes": 1,
    "other_episodes": 1,
    "fault_episodes": 1,
    "topic_episodes": 0,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Configuration of a small course, with rollouts too short to succeed."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "models").symlink_to(ROOT / "models")
    change(folder / "config" / "train" / "grasp.yaml", **SMALL, patience_s=6.0)
    training = folder / "config" / "train" / "bc_spatial.yaml"
    data = yaml.safe_load(training.read_text())
    data["model"].update(members=2, separate_encoders=False, channels=[8, 8])
    data["optimisation"].update(steps=STEPS, validate_every=50, validation_moments=128, batch_size=32, ema_decay=0.98)
    training.write_text(yaml.safe_dump(data))
    return folder


def change(path: Path, **values) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


class Listener:
    """Counts what it is told. ends_before: a stage that it does not let begin."""

    def __init__(self, ends_before: str = "") -> None:
        self._ends_before = ends_before
        self.stages: list[str] = []
        self.done: dict[str, tuple[int, int]] = {}
        self.steps = 0
        self.shares: dict[str, float] = {}

    @property
    def ears(self) -> Ears:
        return Ears(self._begin, self._done, self._stepped, self._trained)

    def _begin(self, stage: str) -> None:
        self.stages.append(stage)
        if stage == self._ends_before:
            raise Interruption

    def _done(self, done: int, total: int) -> None:
        self.done[self.stages[-1]] = (done, total)

    def _stepped(self, _progress) -> None:
        self.steps += 1

    def _trained(self, trained) -> None:
        self.shares = trained.metrics["step_shares"]


class Interruption(Exception):
    """What Ctrl+C is to a course."""


@pytest.fixture(scope="module")
def course(site, tmp_path_factory):
    """A course that was interrupted before its calibration and then called again: where it works, what it said, and
    what it told in both goes. Its rollouts are cut short, and so all fail."""
    work, out = tmp_path_factory.mktemp("work"), site / "shipped"
    file = site / "config" / "train" / "grasp.yaml"
    first, second = Listener(ends_before="calibration"), Listener()
    with pytest.raises(Interruption):
        Course(file, work, out, 2, "policy learn grasp", first.ears).run()
    made = stamps(work)
    change(file, patience_s=0.6)
    change(work / SETTINGS_FILE, patience_s=0.6)  # as if the demonstrations had been made with so little
    with pytest.raises(LearningError) as refusal:
        Course(file, work, out, 2, "policy learn grasp", second.ears).run()
    assert stamps(work) == made
    return work, out, first, second, str(refusal.value)


def stamps(work: Path) -> dict[str, int | str]:
    """When everything was made that a course makes once, and which graph it came to."""
    files = [*work.glob("demos/*/*.mcap"), *work.glob("frames/*/action.npy")]
    graph = read_manifest(work / "bundle" / MANIFEST_FILE).onnx.sha256
    return {**{str(path): path.stat().st_mtime_ns for path in files}, "graph": graph}


def test_the_stages_follow_each_other_and_say_how_far_they_are(course):
    _, _, first, second, _ = course
    assert tuple(first.stages) == tuple(second.stages) == STAGES[:5]
    assert first.done == dict.fromkeys(("demonstrations", "frames"), (DEMONSTRATIONS, DEMONSTRATIONS))
    assert second.done["calibration"] == (19, 19)


def test_a_second_start_makes_nothing_twice(course):
    work, _, first, second, _ = course
    assert len(episodes(work / "demos")) == len(list((work / "frames").glob("episode_*"))) == DEMONSTRATIONS
    assert (first.steps, second.steps) == (STEPS, 0)
    assert first.shares == second.shares
    assert 0.0 < first.shares["waiting"] < 1.0


def test_a_minute_of_training_on_ten_recorded_episodes_has_learned_something(course):
    """In an episode it was not trained on, it errs clearly less than who always does the mean action, and less than who
    stays where it is."""
    run = course[0] / "run"
    unseen = json.loads((run / "metrics.json").read_text())["validation"]
    assert unseen["left_of_mean"] < 0.5
    assert unseen["left_of_staying"] < 0.9
    losses = [json.loads(row)["validation/loss"] for row in (run / "history.jsonl").read_text().splitlines()]
    assert min(losses) < 0.85 * losses[0]


def test_what_was_trained_is_a_bundle_whose_graph_says_what_the_network_said(course):
    work = course[0]
    contract = load_deployment(ROOT / "config" / "grasp.yaml")[0].contract
    bundle = load_bundle(work / "bundle", contract)
    assert bundle.samples is not None
    assert bundle.manifest.onnx.parity_max_abs_error < 1e-4
    assert bundle.manifest.fingerprint.aligned == {"sim": {}}
    assert load_policy(work / "bundle", contract).contract == contract


def test_a_bundle_says_from_which_configuration_it_was_made_also_where_the_graph_was_there_before(course, site):
    """Its patience was changed before the second start: so the graph is the same, and the configuration is not."""
    made, training = course[0] / "bundle" / MANIFEST_FILE, site / "config" / "train"
    files = (training / "grasp.yaml", training / "bc_spatial.yaml")
    change(files[0], patience_s=0.6)
    assert read_manifest(made).provenance.configuration == files_sha256(files)


def test_a_policy_that_fails_is_not_calibrated_and_not_shipped(course):
    work, out, _, _, sentence = course
    assert "of 19 rollouts succeeded" in sentence
    assert not out.exists()
    with pytest.raises(LearningError, match="is not calibrated, so it may not be deployed"):
        publish(load_bundle(work / "bundle", load_deployment(ROOT / "config" / "grasp.yaml")[0].contract), out, {})
    assert not out.exists()


def test_asked_to_stop_it_keeps_what_it_has_and_says_so(site, tmp_path):
    """Here by the bar of its first demonstration."""
    told: list[int] = []
    ears = Ears(done=lambda done, total: told.append(done), stop=lambda: bool(told))
    file = site / "config" / "train" / "grasp.yaml"
    with pytest.raises(Interrupted, match="stopped after 1 of 10; the same command goes on"):
        Course(file, tmp_path / "work", tmp_path / "out", 1, "policy learn grasp", ears).run()
    assert len(episodes(tmp_path / "work" / "demos")) == 1
    assert told == [1]


def test_another_seed_draws_other_scenes_and_other_weights_and_its_bundle_says_so(course, site, tmp_path):
    listener = Listener(ends_before="calibration")
    file = site / "config" / "train" / "grasp.yaml"
    change(file, patience_s=6.0)
    with pytest.raises(Interruption):
        Course(file, tmp_path, tmp_path / "out", 2, ears=listener.ears, seed=1000).run()
    made, other = (read_manifest(work / "bundle" / MANIFEST_FILE).provenance for work in (tmp_path, course[0]))
    assert made.configuration != other.configuration
    notes = {load_journal(folder).note for folder in episodes(tmp_path / "demos")}
    assert notes == {f"self-play seed {seed}" for seed in range(1000, 1000 + DEMONSTRATIONS)}
    assert yaml.safe_load((tmp_path / "demos" / SPLIT_FILE).read_text())["seed"] == 1000
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["optimisation"]["seed"] == 1000


def test_demonstrations_of_another_configuration_are_not_mixed_with_new_ones(course, site, tmp_path):
    work = course[0]
    shutil.copytree(site / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    change(tmp_path / "config" / "train" / "grasp.yaml", patience_s=0.6)
    sim = tmp_path / "config" / "sim.yaml"
    sim.write_text(sim.read_text() + "\n# another one\n")
    made = stamps(work)
    with pytest.raises(LearningError, match=f"{DEMONSTRATIONS} demonstrations were made with another configuration"):
        Course(tmp_path / "config" / "train" / "grasp.yaml", work, tmp_path / "out", 1).run()
    assert stamps(work) == made


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patience_s": 7.0}, r"were made with patience_s 0\.6 and not 7\.0; restore that, or delete"),
        ({"variation": {"light": 0.3}}, r"were made with variation\.light 0\.2 and not 0\.3; restore that"),
        ({"seed": 5, "patience_s": 8.0}, r"were made with seed 0 and not 5, patience_s 0\.6 and not 8\.0; restore"),
    ],
)
def test_more_demonstrations_are_not_made_in_another_way_than_those_that_are_there(
    course, site, tmp_path, changes, sentence
):
    work = course[0]
    shutil.copytree(site / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    file = tmp_path / "config" / "train" / "grasp.yaml"
    there = yaml.safe_load(file.read_text())
    variation = {**there["variation"], **changes.get("variation", {})}
    change(file, demonstrations=DEMONSTRATIONS + 2, patience_s=0.6)
    change(file, **{**changes, "variation": variation})
    made = stamps(work)
    with pytest.raises(LearningError, match=sentence):
        Course(file, work, tmp_path / "out", 1).run()
    assert stamps(work) == made


def test_demonstrations_of_which_nobody_knows_how_they_were_made_are_not_added_to(site, tmp_path):
    (tmp_path / "demos" / "episode_000000").mkdir(parents=True)
    with pytest.raises(LearningError, match=r"demonstrations\.yaml: is missing, so how .*demos was made is not known"):
        Course(site / "config" / "train" / "grasp.yaml", tmp_path, tmp_path / "out", 1).run()


def test_demonstrations_may_not_touch_the_seeds_of_the_evaluation(site, tmp_path):
    file = tmp_path / "config" / "train" / "grasp.yaml"
    shutil.copytree(site / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    change(file, demonstrations=100_000, seed=400_000)
    Course(file, tmp_path / "work", tmp_path / "out", 1)
    change(file, seed=400_001)
    with pytest.raises(ConfigError, match="seed: must be"):
        Course(file, tmp_path / "work", tmp_path / "out", 1)
