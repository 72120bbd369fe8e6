from __future__ import annotations

from pathlib import Path

import pytest

from policy_bringup.core.errors import ConfigError
from policy_bringup.learning.config import TrainConfig, build_train_config, load_train_config, plain
from policy_bringup.learning.families import FAMILIES

SMALLEST = """
family: bc_cnn
augmentation: {}
optimisation: {batch_size: 8, steps: 10, learning_rate: 0.001}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(SMALLEST)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_file_that_loads(config_folder: Path, family: str) -> None:
    config = load_train_config(config_folder / "train" / f"{family}.yaml")
    assert config.family == family
    assert isinstance(config.model, FAMILIES[family].config)
    assert config.optimisation.patience == 10
    assert config.optimisation.budget_min is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_comes_back_from_plain_keys_and_values(config_folder: Path, family: str) -> None:
    config = load_train_config(config_folder / "train" / f"{family}.yaml")
    assert build_train_config(plain(config), "again") == config


def test_a_file_that_leaves_the_model_out_gets_the_family_as_it_is(file: Path) -> None:
    assert load_train_config(file).model == FAMILIES["bc_cnn"].config()


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("optimisation.learning_rate=1e-2", lambda config: config.optimisation.learning_rate == 0.01),
        ("optimisation.learning-rate=0.01", lambda config: config.optimisation.learning_rate == 0.01),
        ("optimisation.budget_min=1.5", lambda config: config.optimisation.budget_min == 1.5),
        ("optimisation.bf16=true", lambda config: config.optimisation.bf16 is True),
        ("model.members=5", lambda config: config.model.members == 5),
        ("augmentation.shift_px=4", lambda config: config.augmentation.shift_px == 4),
        ("family=bc_spatial", lambda config: type(config.model) is FAMILIES["bc_spatial"].config),
    ],
)
def test_a_change_replaces_one_key(file: Path, change: str, read) -> None:
    before, after = load_train_config(file), load_train_config(file, [change])
    assert not read(before)
    assert read(after)
    assert after.optimisation.batch_size == before.optimisation.batch_size


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("optimisation.learning_rat=1", "optimisation: unknown key 'learning_rat'"),
        ("optimisation.learning_rate=-1", "learning_rate: must be a number from 1e-07 to 1"),
        ("optimisation.learning_rate=fast", "learning_rate: must be a number from 1e-07 to 1, found 'fast'"),
        ("optimisation.steps=0", "steps: must be a whole number from 1"),
        ("optimisation.device=tpu", "device: must be one of cpu, cuda"),
        ("model.memebrs=5", "model: unknown key 'memebrs'; allowed are"),
        ("model.members=0", "members: must be a whole number from 1"),
        ("model=5", "model: must be a group of keys, found 5"),
        ("augmentation.shift_px=many", "shift_px: must be a whole number"),
        ("family=bc_cn", "family: must be one of bc_cnn, bc_spatial, bc_resnet, found 'bc_cn'"),
        ("sede=3", "unknown key 'sede'; allowed are family, model, augmentation, optimisation"),
        ("optimisation.steps", "a change must be like"),
        ("=3", "a change must be like"),
        ("a..b=3", "a change must be like"),
        ("family.steps=3", "family is a value, not a group of keys"),
        ("optimisation.steps=[", "is not valid YAML"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(file: Path, change: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_train_config(file, [change])
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["batch_size", "steps", "learning_rate"])
def test_what_has_no_default_must_be_there(file: Path, key: str) -> None:
    file.write_text(SMALLEST.replace(key, "seed"))
    with pytest.raises(ConfigError, match=f"key '{key}' is missing"):
        load_train_config(file)


def test_a_change_leaves_the_file_as_it_is(file: Path) -> None:
    load_train_config(file, ["optimisation.steps=99"])
    assert file.read_text() == SMALLEST
    assert isinstance(load_train_config(file), TrainConfig)
