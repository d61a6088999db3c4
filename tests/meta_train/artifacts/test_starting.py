"""Leaves that are frozen stay, and are exported; a start is an artifact's theta."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_rule
import toys

import lopt
import meta_train.build
from common.machine import provenance
from lopt import rules
from meta_train import estimators, learner
from meta_train.artifacts import starting as thetas
from meta_train.artifacts.export import export
from meta_train.build import Outer, outer_optimizer, worker_mesh
from meta_train.loop import Progress

KEY = learner.theta_key(0)
OUTER = Outer(
    num_steps=10,
    learning_rate=0.1,
    end_learning_rate=0.1,
    warmup_steps=0,
    weight_decay=0.5,
    clip=1.0,
    average=0.9,
    balance=True,
)


def learned(name, frozen):
    """Returns the learner of heavy ball by an estimator."""
    rule = thetas.frozen(toys.heavy_ball(), frozen, KEY)
    inner = toys.inner(rule, toys.quadratic(noise=0.1), window=2, horizon=5)
    args = {"noise": toys.noise(0.1, per_leaf=True)} if name == "pes" else {}
    return learner.build(
        rule=rule,
        estimator=estimators.build(name, inner=inner, num_workers=4, **args),
        outer=outer_optimizer(OUTER),
        average=OUTER.average,
        seed=0,
        mesh=worker_mesh(),
    )


@pytest.mark.parametrize("name", ["truncated", "pes"])
def test_a_frozen_leaf_is_in_no_theta_and_the_others_move(name):
    learn = learned(name, ("decay",))
    state = learn.init({})
    start = float(state.theta["log_lr"])
    for _ in range(3):
        state, metrics = learn.step(state, {})
    assert state.theta["decay"] is None and state.average["decay"] is None
    assert abs(state.theta["log_lr"] - start) > 0.05
    leaves = jax.tree.leaves_with_path((state.outer, state.estimator))
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert any("log_lr" in x for x in names) and not any("decay" in x for x in names)


def test_a_frozen_leaf_is_what_the_rule_trains_with():
    whole = {"log_lr": np.log(0.1), "decay": jnp.asarray(0.9)}
    rule = toys.heavy_ball()._replace(init=lambda key: whole)
    part = thetas.frozen(rule, ("decay",), KEY)
    assert part.init(KEY) == whole | {"decay": None}
    updates = []
    for one, theta in (
        (rule, whole),
        (part, {"log_lr": whole["log_lr"], "decay": None}),
    ):
        tx = one.bind(theta)
        _, state = tx.update({"x": jnp.ones(2)}, tx.init({"x": jnp.ones(2)}))
        updates.append(tx.update({"x": jnp.ones(2)}, state)[0]["x"])
    np.testing.assert_array_equal(*updates)


def test_the_gradient_of_the_others_is_what_it_was():
    grads = {}
    for frozen in ((), ("decay",)):
        rule = thetas.frozen(toys.heavy_ball(), frozen, KEY)
        inner = toys.inner(rule, toys.quadratic(noise=0.1), window=3, horizon=9)
        one = estimators.build("truncated", inner=inner, num_workers=2)
        theta = rule.init(KEY)
        found, _ = jax.jit(one.estimate)(theta, one.init(theta, {}, KEY), {}, KEY)
        grads[frozen] = found.grad
    assert grads[("decay",)]["log_lr"] == grads[()]["log_lr"]
    assert grads[("decay",)]["decay"] is None


def test_without_frozen_leaves_the_rule_is_the_same():
    rule = toys.heavy_ball()
    assert thetas.frozen(rule, (), KEY) is rule


def built(**theta):
    """Returns the tiny run of truncated gradients, with weight decay."""
    c = tiny.get_config()
    c.theta = theta
    c.outer.weight_decay = 0.5
    return meta_train.build.build(c)


def progress(theta):
    return Progress(meta=None, best=theta, step=1, origin=provenance())


@pytest.mark.parametrize("names", [("decays",), ("network/w0", "decays/momentum")])
def test_an_artifact_has_the_leaves_that_were_frozen(tmp_path, names):
    run = built(frozen=names)
    moved = jax.tree.map(lambda x: x + 1, run.learner.init(run.data).average)
    found = lopt.read(export(run, progress(moved), tmp_path / "artifact")).theta
    first = rules.build("mlp", **run.config["rule"]["args"]).init(KEY)
    parts = jax.tree.leaves(moved, is_leaf=lambda x: x is None)
    leaves = zip(parts, jax.tree.leaves(first), strict=True)
    for (part, whole), (path, leaf) in zip(
        leaves, jax.tree.leaves_with_path(found), strict=True
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert (part is None) == name.startswith(names)
        np.testing.assert_array_equal(leaf, whole if part is None else part)


@pytest.mark.parametrize("name", ["decay", "network/w", "decays/", "w0"])
def test_a_name_of_no_leaf_is_refused_with_those_there_are(name):
    known = "known: decays/factored, decays/momentum, .*network/w1"
    with pytest.raises(ValueError, match=f"leaf of .*frozen: '{name}'; {known}"):
        built(frozen=("decays", name))


def test_freezing_every_leaf_is_refused():
    with pytest.raises(ValueError, match="no leaf is left"):
        built(frozen=("decays", "network"))


def test_a_run_goes_on_from_the_theta_of_an_artifact(tmp_path):
    path = tiny_rule.save(tmp_path / "artifact", **tiny.get_config().rule.args)
    found = built(start=str(path)).learner.init(built().data).theta
    jax.tree.map(np.testing.assert_array_equal, found, lopt.read(path).theta)
    run = built(start=str(path), frozen=("decays",))
    whole = run.whole(run.learner.init(run.data).theta)
    jax.tree.map(np.testing.assert_array_equal, whole, lopt.read(path).theta)


@pytest.mark.parametrize(
    "changes",
    [{"hidden": 5}, {"layers": 2}, {"time": ("log",)}, {"clip": 3.0, "exp_mult": 2.0}],
)
def test_an_artifact_of_another_rule_is_refused(tmp_path, changes):
    args = tiny.get_config().rule.args.to_dict() | changes
    path = tiny_rule.save(tmp_path / "artifact", **args)
    keys = ", ".join(changes)
    with pytest.raises(ValueError, match=f"another rule; they differ in {keys}."):
        built(start=str(path))


def test_arguments_that_may_differ_are_named(tmp_path):
    args = tiny.get_config().rule.args.to_dict()
    path = str(tiny_rule.save(tmp_path / "artifact", **args | {"bound": 3.0}))
    with pytest.raises(ValueError, match="they differ in bound; .*changed names"):
        built(start=path)
    found = built(start=path, changed=("bound",)).learner.init(built().data).theta
    jax.tree.map(np.testing.assert_array_equal, found, lopt.read(path).theta)


def test_arguments_at_their_defaults_do_not_differ(tmp_path):
    section = {"name": "mlp", "args": tiny_rule.ARGS}
    path = tiny_rule.save(tmp_path / "artifact", axes="size", bound=None)
    found = thetas.started(section, path).init(KEY)
    jax.tree.map(np.testing.assert_array_equal, found, lopt.read(path).theta)


def test_a_theta_of_other_shapes_is_refused_whatever_may_differ(tmp_path):
    args = tiny.get_config().rule.args.to_dict()
    path = str(tiny_rule.save(tmp_path / "artifact", **args | {"hidden": 5}))
    with pytest.raises(ValueError, match="theta of other shapes"):
        built(start=path, changed=("hidden",))
