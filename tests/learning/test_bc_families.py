import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_bringup.core.config import build
from policy_bringup.core.errors import ConfigError, LearningError
from policy_bringup.core.types import Column
from policy_bringup.learning.batch import Batch
from policy_bringup.learning.bc_cnn import BcCnnConfig
from policy_bringup.learning.bc_resnet import BcResnetConfig
from policy_bringup.learning.bc_spatial import BcSpatialConfig
from policy_bringup.learning.ensemble import bootstrap_weights
from policy_bringup.learning.families import FAMILIES, make_policy
from policy_bringup.learning.normalise import Normaliser

SMALL = {
    "bc_cnn": BcCnnConfig(channels=(8, 8, 16, 16), hidden=64, downsample=1),
    "bc_spatial": BcSpatialConfig(channels=(8, 16), hidden=64, downsample=1),
    "bc_resnet": BcResnetConfig(width=0.125, hidden=64, downsample=1),
}
EVERY = pytest.mark.parametrize("family", list(SMALL))


@pytest.fixture
def make(contract, normaliser):
    """A small policy of a family with fresh weights: (family, keys to change, seed) -> policy."""

    def made(family, seed=0, **changes):
        torch.manual_seed(seed)
        return make_policy(family, contract, replace(SMALL[family], **changes), normaliser)

    return made


@pytest.fixture
def project() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def batch(dataset):
    return dataset.batch(np.arange(0, len(dataset), 5))


def trained(policy, dataset, steps, loss=lambda policy, batch: policy(batch)["loss"]):
    """Losses of some steps of plain training."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    optimiser = torch.optim.Adam(policy.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        value = loss(policy, dataset.batch(rng.choice(len(dataset), 32, replace=False)))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


@EVERY
@pytest.mark.parametrize("separate", [True, False])
def test_the_loss_is_finite_and_every_parameter_has_its_share(make, batch, family, separate):
    policy = make(family, separate_encoders=separate)
    policy(batch)["loss"].backward()
    silent = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    still = [name for name, p in policy.named_parameters() if p.grad.abs().max() == 0.0]
    assert still == []


@EVERY
def test_a_few_steps_lower_the_loss_a_lot(make, dataset, family):
    losses = trained(make(family, members=2), dataset, 40)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


@EVERY
def test_a_prediction_has_the_contracts_shape_and_one_uncertainty_per_step(make, batch, contract, family):
    with torch.no_grad():
        action, uncertainty = make(family).eval().predict(batch.images, batch.state)
    steps, columns = contract.action.steps, len(contract.action.columns)
    assert action.shape == (len(batch.state), steps, columns)
    assert uncertainty.shape == (len(batch.state), steps)
    assert action.isfinite().all()
    assert uncertainty.min() > 0.0  # members with weights of their own disagree before they have learned


@EVERY
def test_predictions_in_eval_mode_repeat_exactly_whatever_else_is_in_the_batch(make, dataset, batch, family):
    policy = make(family, state_dropout=0.5).eval()
    with torch.no_grad():
        first, again = (policy.predict(batch.images, batch.state) for _ in range(2))
        alone = dataset.batch(np.array([5]))
        single = policy.predict(alone.images, alone.state)
    for one, other, part in zip(first, again, single, strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(one[1:2], part, atol=1e-5)


@EVERY
def test_a_single_member_is_never_unsure(make, batch, family):
    with torch.no_grad():
        _, uncertainty = make(family, members=1).eval().predict(batch.images, batch.state)
    assert uncertainty.abs().max() == 0.0


@EVERY
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make, family):
    one, same, other = (make(family, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@EVERY
def test_weights_that_were_saved_predict_the_same_without_the_data(make, batch, contract, family):
    policy = make(family).eval()
    loaded = make_policy(family, contract, SMALL[family], Normaliser(contract)).eval()
    loaded.load_state_dict(policy.state_dict())
    with torch.no_grad():
        for one, other in zip(
            policy.predict(batch.images, batch.state), loaded.predict(batch.images, batch.state), strict=True
        ):
            assert torch.equal(one, other)


@EVERY
def test_steps_after_the_end_of_an_episode_do_not_count(make, batch, family):
    policy = make(family).eval()
    spoilt = torch.where(batch.valid[..., None], batch.action, batch.action + 1.0)
    assert not batch.valid.all()
    other = Batch(batch.images, batch.state, spoilt, batch.valid)
    with torch.no_grad():
        assert policy(batch)["loss"] == policy(other)["loss"]


@EVERY
def test_pictures_and_state_both_change_what_is_done(make, batch, family):
    policy = make(family).eval()
    dark = {camera: torch.zeros_like(pixels) for camera, pixels in batch.images.items()}
    moved = batch.state.clone()
    moved[..., :7] += 0.1  # the joints, from which a tool's action does not count
    with torch.no_grad():
        action, _ = policy.predict(batch.images, batch.state)
        assert not torch.allclose(policy.predict(dark, batch.state)[0], action, atol=1e-4)
        assert not torch.allclose(policy.predict(batch.images, moved)[0], action, atol=1e-4)


def test_squared_errors_are_another_loss(make, batch):
    with torch.no_grad():
        l1, mse = (make("bc_cnn", loss=loss).eval()(batch)["loss"].item() for loss in ("l1", "mse"))
    assert l1 != pytest.approx(mse, rel=0.01)


def test_shared_encoders_leave_only_the_heads_apart(make):
    shared, separate = (make("bc_spatial", separate_encoders=choice) for choice in (False, True))
    assert (len(shared.eyes), len(shared.heads)) == (1, 3)
    assert (len(separate.eyes), len(separate.heads)) == (3, 3)


def test_a_dropped_state_is_its_mean_except_for_the_gripper(make, batch, normaliser):
    policy = make("bc_cnn", state_dropout=1.0)
    finger = 7
    full, dropped = policy.eval()._known(batch.state), policy.train()._known(batch.state)
    assert torch.equal(full, normaliser.state(batch.state))
    assert torch.equal(dropped[:, finger], full[:, finger])
    assert full[:, finger].abs().max() > 0.0
    others = [column for column in range(full.shape[1]) if column != finger]
    assert dropped[:, others].abs().max() == 0.0


def test_state_dropout_strikes_the_share_of_moments_that_it_names(make, batch):
    torch.manual_seed(0)
    policy = make("bc_cnn", state_dropout=0.3).train()
    known = torch.cat([policy._known(batch.state) for _ in range(50)])
    share = (known[:, :7].abs().amax(1) == 0.0).float().mean()
    assert share == pytest.approx(0.3, abs=0.05)


def test_bootstrap_weights_are_those_of_drawing_with_replacement():
    weights = bootstrap_weights(torch.randn(4000, 4, 3), 3)
    assert weights.mean(1).tolist() == pytest.approx([1.0] * 3, abs=0.08)
    assert (weights == 0).float().mean(1).tolist() == pytest.approx([0.368] * 3, abs=0.04)
    together = torch.corrcoef(weights) - torch.eye(3)
    assert together.abs().max() < 0.06


def test_a_moment_weighs_the_same_in_every_batch():
    action = torch.randn(64, 4, 3)
    order = torch.randperm(64)
    assert torch.equal(bootstrap_weights(action, 3)[:, order], bootstrap_weights(action[order], 3))


def test_members_learn_from_different_moments_only_in_training(make, batch):
    plain, weighted = make("bc_cnn", dropout=0.0, bootstrap=False), make("bc_cnn", dropout=0.0)
    with torch.no_grad():
        assert plain.eval()(batch)["loss"] == weighted.eval()(batch)["loss"]
        assert plain.train()(batch)["loss"] != weighted.train()(batch)["loss"]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_shares_of_two_processes_add_up_to_the_loss_of_the_batch(make, batch, weight):
    """Each weighs its own by its part of the valid steps, although moments weigh differently."""
    policy = make("bc_spatial", dropout=0.0, pose_weight=weight).train()
    batch.valid[: len(batch.valid) // 3, 1:] = False
    cut = len(batch.valid) // 2
    parts = [
        Batch({camera: pictures[part] for camera, pictures in batch.images.items()}, *rest)
        for part in (slice(cut), slice(cut, None))
        for rest in [[tensor[part] for tensor in (batch.state, batch.action, batch.valid)]]
    ]
    with torch.no_grad():
        shares = [part.valid.sum() / batch.valid.sum() * policy(part)["loss"] for part in parts]
        assert float(sum(shares)) == pytest.approx(float(policy(batch)["loss"]), rel=1e-5)


def test_the_resnets_action_never_leaves_its_bound(make, batch, normaliser):
    policy = make("bc_resnet", reach=1.5).eval()
    for head in policy.heads:
        head[-1].weight.data *= 1e4
    with torch.no_grad():
        normal = policy.normal_actions(policy.features(batch.images), batch.state)
    assert torch.equal(policy.bound, 1.5 * normaliser.action_bound)
    assert (normal.abs() <= policy.bound).all()
    assert (normal.abs() > 0.99 * policy.bound).any()
    target = normaliser.normal_action(batch.action, batch.state)
    assert (target.abs() * batch.valid[..., None] < policy.bound).all()


@pytest.mark.parametrize("pooling", ["spatial_softmax", "fully_connected", "max_pool"])
def test_the_pose_is_learned_from_the_pictures_alone_with_every_pooling(make, dataset, batch, pooling):
    policy = make("bc_spatial", members=1, pooling=pooling, pose_weight=1.0)
    trained(policy, dataset, 100, lambda policy, batch: policy.pose_loss(batch))
    with torch.no_grad():
        told = policy.eval().pose(batch.images)
    error = (told - batch.action[:, -1, :3]).norm(dim=1).mean()
    spread = (batch.action[:, -1, :3] - batch.action[:, -1, :3].mean(0)).norm(dim=1).mean()
    assert told.shape == (len(batch.state), 3)
    assert error < 0.35 * spread


def test_with_joint_actions_the_pose_is_the_measured_one(make, batch, contract):
    joints = contract.observation.state[:8]
    turned = replace(contract, action=replace(contract.action, columns=joints))
    config = replace(SMALL["bc_spatial"], members=1, pose_weight=1.0)
    policy = make_policy("bc_spatial", turned, config, Normaliser(turned)).eval()
    with torch.no_grad():
        told, loss = policy.pose(batch.images), policy.pose_loss(batch)
    error, weights = (told - batch.state[:, -1, 8:11]).abs().mean(-1), batch.valid.sum(1).double()
    assert loss.item() == pytest.approx(float((error * weights).sum() / weights.sum()), abs=1e-5)


def test_the_loss_is_the_sum_of_its_parts(make, batch):
    parts = make("bc_spatial", pose_weight=0.5).eval()(batch)
    assert parts["loss"].item() == pytest.approx((parts["action"] + 0.5 * parts["pose"]).item(), rel=1e-5)


def test_a_policy_that_learns_the_pose_alone_is_judged_by_the_pose_alone(make, dataset, batch):
    policy = make("bc_spatial", action_weight=0.0, pose_weight=2.0)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    trained(policy, dataset, 3)
    moved = {name.split(".")[0] for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"eyes", "pose_heads"}
    for mode in (policy.train(), policy.eval()):
        parts = mode(batch)
        assert parts["loss"].item() == pytest.approx(2.0 * parts["pose"].item(), rel=1e-6)
        assert parts["action"].item() > 0.0


def test_the_weight_of_the_action_counts_in_training_and_judging_alike(make, batch):
    policy = make("bc_spatial", action_weight=0.25, pose_weight=0.5)
    for mode in (policy.train(), policy.eval()):
        parts = mode(batch)
        expected = 0.25 * parts["action"].item() + 0.5 * parts["pose"].item()
        assert parts["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_every_head_of_the_comparison_learns_and_is_judged_by_the_pose_alone(project):
    benchmark = runpy.run_path(str(project / "benchmarks" / "families.py"))
    for head in benchmark["HEADS"]:
        model = benchmark["head_config"](head, 3.0).model
        assert (model.pooling, model.action_weight, model.pose_weight, model.pretrain_steps) == (head, 0.0, 1.0, 0)


def test_the_compared_families_are_ended_by_time_and_not_by_their_steps(project):
    benchmark = runpy.run_path(str(project / "benchmarks" / "families.py"))
    for name in benchmark["FAMILIES"]:
        how = benchmark["family_config"](name, 3.0).optimisation
        assert (how.budget_min, how.steps) == (3.0, benchmark["AS_MANY_STEPS_AS_FIT"])


def test_the_pose_error_of_the_comparison_is_a_mean_over_episodes_with_its_interval(project, make, dataset):
    benchmark = runpy.run_path(str(project / "benchmarks" / "families.py"))
    policy = make("bc_spatial", pose_weight=1.0).eval()
    apart_cm = []
    for name in dataset.episodes:
        episode = dataset.subset([name])
        batch = episode.batch(np.arange(len(episode)))
        with torch.no_grad():
            off = policy.pose(batch.images) - batch.action[:, -1, :3]
        apart_cm.append(100.0 * off.square().sum(1).sqrt().mean().item())
    mean, half = benchmark["pose_error_cm"](policy, dataset)
    assert mean == pytest.approx(np.mean(apart_cm), rel=1e-5)
    assert half == pytest.approx(1.96 * np.std(apart_cm, ddof=1) / len(apart_cm) ** 0.5, rel=1e-4)


def test_pretraining_moves_the_encoders_before_the_heads(make, dataset):
    policy = make("bc_spatial", pretrain_steps=3)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    trained(policy, dataset, 3)
    moved = {name.split(".")[0] for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"eyes", "pose_heads"}
    trained(policy, dataset, 1)
    assert not torch.equal(policy.heads[0][0].weight, before["heads.0.0.weight"])


def test_a_policy_without_a_pose_head_says_so(make, batch):
    with pytest.raises(LearningError, match="pose_weight"):
        make("bc_spatial").pose(batch.images)


def test_a_pose_that_the_contract_does_not_hold_is_refused(contract):
    bare = replace(
        contract,
        observation=replace(contract.observation, state=()),
        action=replace(contract.action, columns=contract.observation.state[:8]),
    )
    with pytest.raises(LearningError, match=r"tool\.x"):
        make_policy("bc_spatial", bare, replace(SMALL["bc_spatial"], pose_weight=1.0), Normaliser(bare))


@EVERY
def test_too_small_pictures_are_refused(contract, family):
    images = tuple(replace(image, height=16) for image in contract.observation.images)
    small = replace(contract, observation=replace(contract.observation, images=images))
    with pytest.raises(LearningError, match="32 x 16"):
        make_policy(family, small, SMALL[family], Normaliser(small))


@EVERY
def test_a_contract_without_pictures_is_refused(contract, family):
    blind = replace(contract, observation=replace(contract.observation, images=()))
    with pytest.raises(LearningError, match="picture"):
        make_policy(family, blind, SMALL[family], Normaliser(blind))


@EVERY
def test_pictures_need_not_be_square_nor_even(contract, family):
    images = tuple(replace(image, height=45, width=70) for image in contract.observation.images)
    odd = replace(contract, observation=replace(contract.observation, images=images))
    policy = make_policy(family, odd, replace(SMALL[family], downsample=2), Normaliser(odd)).eval()
    pixels = {image.camera: torch.zeros(2, 1, 45, 70, 3, dtype=torch.uint8) for image in images}
    with torch.no_grad():
        assert policy.predict(pixels, torch.zeros(2, 1, 14))[0].shape == (2, 16, 8)


def test_an_unknown_family_is_refused_with_the_known_ones(contract, normaliser):
    with pytest.raises(LearningError, match="bc_cnn, bc_spatial, bc_resnet, found 'transformer'"):
        make_policy("transformer", contract, BcCnnConfig(), normaliser)


def test_another_familys_configuration_is_refused(contract, normaliser):
    with pytest.raises(LearningError, match="BcResnetConfig"):
        make_policy("bc_resnet", contract, BcCnnConfig(), normaliser)


@pytest.mark.parametrize(
    ("family", "keys", "said"),
    [
        ("bc_spatial", {"pooling": "mean"}, "spatial_softmax, fully_connected, max_pool"),
        ("bc_spatial", {"members": 0}, "from 1 to 10"),
        ("bc_spatial", {"channels": []}, "at least one"),
        ("bc_spatial", {"action_weight": -0.1}, "from 0 to 100"),
        ("bc_spatial", {"action_weight": 0.0}, "or nothing is learned"),
        ("bc_cnn", {"channels": [8, 8]}, "a list of 4"),
        ("bc_resnet", {"reach": 0.5}, "from 1 to 10"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_what_can(family, keys, said):
    with pytest.raises(ConfigError, match=said):
        build(FAMILIES[family].config, keys, "train.yaml")


def test_the_grippers_columns_are_told_by_unit_and_name(make, contract, normaliser):
    assert contract.observation.state[7] == Column("panda_finger_joint1", "m")
    assert make("bc_cnn")._kept.nonzero().flatten().tolist() == [7]
