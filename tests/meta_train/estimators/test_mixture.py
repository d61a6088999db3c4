"""A mixture lets one family speak at a meta-step, by weight, and the others wait."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import toys

import configs.mixture
import meta_train.build
from common import settings
from meta_train import estimators, learner, logging
from meta_train.loop import loop

KEY = jax.random.key(3)


def asking_for(name, family):
    """Returns a family that draws no batch from data without its name."""
    task = family.task(())

    def batch(data, key, split):
        return jax.tree.map(lambda x: x * data[name], task.batch({}, key, split))

    return family._replace(task=lambda draw: task._replace(batch=batch))


def pair():
    """Returns truncated estimators of two families, of data with their names."""
    rule = toys.heavy_ball()
    families = {"a": toys.quadratic(noise=1.0), "b": toys.classifier()}
    families = {name: asking_for(name, one) for name, one in families.items()}
    inners = {n: toys.inner(rule, f, window=2, horizon=9) for n, f in families.items()}
    return {
        n: estimators.build("truncated", inner=inner, num_workers=2)
        for n, inner in inners.items()
    }


# Data of the one family are of no use to the other.
DATA = ({"a": 1.0}, {"b": 2.0})


def start(mixture):
    theta = toys.heavy_ball().init(KEY)
    return theta, mixture.init(theta, DATA, KEY)


def keys_that_draw(mixture, name, count):
    """Returns keys at which a mixture draws a family."""
    wanted = list(pair()).index(name)
    keys = jax.random.split(KEY, 8 * count)
    return [k for k in keys if mixture.draw(k) == wanted][:count]


def test_the_drawn_family_gets_its_own_data_and_the_others_state_waits():
    mixture = estimators.mix(pair(), {"a": 1.0, "b": 1.0}, balance=True)
    theta, state = start(mixture)
    (key,) = keys_that_draw(mixture, "b", 1)
    estimate = jax.jit(mixture.estimate, static_argnums=4)
    found, after = estimate(theta, state, DATA, key, 1)
    own_key = jax.random.split(key)[1]
    alone, own = jax.jit(pair()["b"].estimate)(theta, state.own[1], DATA[1], own_key)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5)  # noqa: E731
    norm = optax.tree.norm(alone.grad)
    jax.tree.map(lambda x, y: close(x, y / norm), found.grad, alone.grad)
    jax.tree.map(close, after.own[1].params, own.params)
    jax.tree.map(np.testing.assert_array_equal, after.own[0], state.own[0])
    assert found.metrics["family"] == 1
    close(found.loss, alone.loss)


def test_gradients_are_divided_by_the_mean_norm_of_their_family():
    mixture = estimators.mix(pair(), {"a": 1.0, "b": 1.0}, balance=True)
    theta, state = start(mixture)
    squares = []
    for key in keys_that_draw(mixture, "a", 3):
        own_key = jax.random.split(key)[1]
        alone, _ = pair()["a"].estimate(theta, state.own[0], DATA[0], own_key)
        found, state = mixture.estimate(theta, state, DATA, key, 0)
        squares.append(float(optax.tree.norm(alone.grad, squared=True)))
        weights = 0.9 ** np.arange(len(squares))[::-1]
        mean = np.average(squares, weights=weights)
        np.testing.assert_allclose(
            optax.tree.norm(found.grad), (squares[-1] / mean) ** 0.5, rtol=1e-5
        )
    assert len(set(squares)) == 3 and state.weight[1] == 0


def test_gradients_may_be_left_as_they_are():
    mixture = estimators.mix(pair(), {"a": 1.0, "b": 1.0}, balance=False)
    theta, state = start(mixture)
    (key,) = keys_that_draw(mixture, "a", 1)
    found, _ = mixture.estimate(theta, state, DATA, key, 0)
    own_key = jax.random.split(key)[1]
    alone, _ = pair()["a"].estimate(theta, state.own[0], DATA[0], own_key)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5)  # noqa: E731
    jax.tree.map(close, found.grad, alone.grad)


def test_an_explosion_does_not_silence_its_family():
    theta = {"x": jnp.ones([])}

    def estimate(theta, state, data, key):
        metrics = {"valid": jnp.int32(1)}
        return estimators.Estimate({"x": data}, jnp.float32(1), metrics), state

    one = estimators.Estimator(lambda *_: (), estimate)
    mixture = estimators.mix({"a": one, "b": one}, {"a": 1.0, "b": 1e-9}, balance=True)
    state, found = mixture.init(theta, (1.0, 1.0), KEY), {}
    for at, size in enumerate([2.0, 2.0, 1e6, 2e25, *[2.0] * 20]):
        data = (jnp.float32(size), jnp.float32(1))
        found[at], state = mixture.estimate(theta, state, data, KEY, 0)
    assert found[1].grad["x"] == 1 and found[2].grad["x"] > 1e5
    assert found[2].metrics["family_grad_norm"] == 1e6
    assert 0.5 < found[23].grad["x"] <= 1


def test_a_family_without_a_valid_worker_has_no_loss_and_does_not_count():
    mixture = estimators.mix(pair(), {"a": 1.0, "b": 1.0}, balance=True)
    theta, state = start(mixture)
    (key,) = keys_that_draw(mixture, "a", 1)
    nothing = jax.tree.map(lambda x: x * jnp.nan, theta)
    found, after = mixture.estimate(nothing, state, DATA, key, 0)
    assert found.metrics["valid"] == 0 and jnp.isnan(found.loss)
    assert optax.tree.norm(found.grad) == 0 == after.weight[0]


def test_families_are_drawn_by_weight():
    mixture = estimators.mix(pair(), {"a": 3.0, "b": 1.0}, balance=True)
    drawn = jax.vmap(mixture.draw)(jax.random.split(KEY, 400))
    assert abs(np.mean(drawn) - 0.25) < 3 * (0.75 * 0.25 / 400) ** 0.5


def learned(estimators_by_name):
    """Returns the learner of a mixture of equal weights."""
    weights = dict.fromkeys(estimators_by_name, 1.0)
    return learner.build(
        rule=toys.heavy_ball(),
        estimator=estimators.mix(estimators_by_name, weights, balance=True),
        outer=optax.sgd(0.1),
        average=0.9,
        seed=0,
        mesh=meta_train.build.worker_mesh(),
    )


def test_programs_of_families_are_compiled_beforehand():
    learn, data = learned(pair()), jax.device_put(DATA)
    state = learn.init(data)
    learn.compile(data)
    compiled, drawn = [], set()
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kw: compiled.append(kw) if "backend_compile" in event else 0
    )
    for _ in range(8):
        state, metrics = learn.step(state, data)
        drawn.add(int(metrics["family"]))
    assert drawn == {0, 1} and len(compiled) == 1, compiled  # of the plan


def test_the_plan_is_what_the_keys_of_meta_steps_draw(monkeypatch):
    monkeypatch.setattr(learner, "BLOCK", 5)
    mixture = estimators.mix(pair(), {"a": 1.0, "b": 2.0}, balance=True)
    family = learner._plan(mixture, seed=7)
    keys = [jax.random.fold_in(jax.random.key(7), step) for step in range(23)]
    drawn = [int(mixture.draw(key)) for key in keys]
    assert [family(step) for step in range(23)] == drawn
    assert [family(step) for step in (19, 2, 11)] == [drawn[i] for i in (19, 2, 11)]


def test_the_device_is_not_asked_how_many_meta_steps_are_done(monkeypatch):
    learn, data = learned(pair()), jax.device_put(DATA)
    states = [learn.step(learn.init(data), data)[0] for _ in range(2)]
    asked, _ = learn.step(states[0], data)
    monkeypatch.setattr(type(data[0]["a"]), "__int__", lambda _: pytest.fail("asked"))
    told, _ = learn.step(states[1], data, 1)
    jax.tree.map(np.testing.assert_array_equal, told, asked)


def test_families_that_differ_in_data_alone_share_a_program():
    one, other = pair()["a"], pair()["b"]
    learn = learned({"a": one, "b": other, "c": one})
    data = jax.device_put((DATA[0], DATA[1], {"a": 3.0}))
    state, apart = learn.init(data), []
    for place in range(3):
        part, own = learn.arguments(jax.tree.map(jnp.copy, state), data, place)
        apart.append(learn.programs[place](part, own))
    learn.compile(data)
    assert learn.programs[0] is learn.programs[2] is not learn.programs[1]
    for place in range(3):
        part, own = learn.arguments(jax.tree.map(jnp.copy, state), data, place)
        together = learn.programs[place](part, own)
        jax.tree.map(np.testing.assert_array_equal, together, apart[place])
    assert apart[0][1]["loss"] != apart[2][1]["loss"]
    assert [program._cache_size() for program in learn.programs] == [1, 1, 1]


def test_a_mixture_of_one_is_that_one():
    one = {"a": pair()["a"]}
    mixture = estimators.mix(one, {"a": 2.0}, balance=True)
    theta = toys.heavy_ball().init(KEY)
    state = mixture.init(theta, DATA[:1], KEY)
    found, _ = mixture.estimate(theta, state, DATA[:1], KEY)
    alone, _ = one["a"].estimate(
        theta, one["a"].init(theta, DATA[0], KEY), DATA[0], KEY
    )
    jax.tree.map(np.testing.assert_array_equal, found.grad, alone.grad)


@pytest.mark.parametrize(
    "weights", [{"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 2, "b": -1}]
)
def test_weights_that_are_not_positive_are_refused(weights):
    with pytest.raises(ValueError, match="need a positive weight for each of a, b"):
        estimators.mix(pair(), weights, balance=True)


def config(**args):
    found = settings.resolve(tiny.get_config())
    found["family"] = {"name": "train-v1", "args": args}
    return found


def test_a_suite_is_a_mixture_of_its_tasks_without_those_of_weight_0(monkeypatch):
    drawn = []
    mix = estimators.mix
    monkeypatch.setattr(
        estimators, "mix", lambda *x, **kw: drawn.append(x[1]) or mix(*x, **kw)
    )
    weights = dict.fromkeys(meta_train.build.suites.SUITES["train-v1"], 0.0)
    run = meta_train.build.build(config(**weights | {"quadratic": 3.0, "mlp": 2}))
    assert list(run.families) == ["mlp", "quadratic"] and len(run.data) == 2
    assert "reparametrised" in run.families["mlp"].name
    assert drawn == [{"mlp": 2, "quadratic": 3.0}]


def test_a_weight_of_no_task_is_refused():
    with pytest.raises(ValueError, match="unknown task of train-v1 'mpl'.*mean 'mlp'"):
        meta_train.build.build(config(mpl=3.0))


@pytest.mark.slow
def test_a_mixture_cut_short_resumes_exactly(tmp_path):
    run = meta_train.build.build(configs.mixture.get_config("quick"))
    whole = loop(run, tmp_path / "whole")
    asked = iter([False] * 7)
    loop(run, tmp_path / "cut", stop=lambda: next(asked, True))
    resumed = loop(run, tmp_path / "cut")
    assert resumed.step == whole.step == 10
    jax.tree.map(np.testing.assert_array_equal, resumed.meta, whole.meta)
    jax.tree.map(np.testing.assert_array_equal, resumed.best, whole.best)
    for file in (logging.METRICS, logging.VALIDATION):
        rows = [logging.read(tmp_path / name / file) for name in ("whole", "cut")]
        assert str(rows[0]) == str(rows[1])
    drawn = [row["family"] for row in logging.read(tmp_path / "cut" / logging.METRICS)]
    assert len(drawn) == 10 and set(drawn) == {0.0, 1.0}
