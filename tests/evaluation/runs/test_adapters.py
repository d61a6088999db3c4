"""Optimizers of any make: what they are offered, and which parameters are judged."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_evaluation import family

from evaluation import Tuning, evaluate
from evaluation.runs import adapters, bench, curves
from evaluation.runs.costs import Cost
from lopt.baselines import Baseline
from lopt.baselines.spaces import Range

STEPS, SEEDS = 8, (3, 5)
PLAIN = optax.sgd(0.1)
# Every public optimizer of optax.contrib, and what its parts ask for.
CONTRIB = {
    "acprop": (0.1,),
    "ademamix": (0.1,),
    "adopt": (0.1,),
    "cocob": (),
    "dadapt_adamw": (),
    "dog": (),
    "dowg": (),
    "galore": (0.1, 2),
    "madgrad": (0.1,),
    "mechanize": (PLAIN,),
    "momo": (0.1,),
    "momo_adam": (0.1,),
    "muon": (0.1,),
    "normalize": (),
    "prodigy": (),
    "reduce_on_plateau": (),
    "sam": (PLAIN, optax.sgd(0.05)),
    "schedule_free": (PLAIN, 0.1),
    "schedule_free_adamw": (0.1,),
    "schedule_free_sgd": (0.1,),
    "simplified_ademamix": (0.1,),
    "sophia": (0.01,),
    "split_real_and_imaginary": (PLAIN,),
}
# What asks for a gradient of every example has no batch's.
PRIVATE = {"differentially_private_aggregate", "dpsgd"}
# They make no steps by themselves.
PARTS = {"hutchinson_estimator_diag_hessian", "schedule_free_eval_params"}


def judged(optimizers, **changes):
    arguments = {
        "suite": {"toy": (family(), STEPS)},
        "seeds": SEEDS,
        "tuning": Tuning("none", 1, (0,)),
        "reference": None,
        "looks": 4,
        "say": lambda line: None,
    }
    return evaluate(optimizers, **arguments | changes)


def made(name):
    return getattr(optax.contrib, name)(*CONTRIB[name])


def test_the_table_holds_all_that_optax_contrib_has():
    public = {
        name
        for name, x in vars(optax.contrib).items()
        if inspect.isfunction(x) and not name.startswith("scale_by")
    }
    assert public == CONTRIB.keys() | PRIVATE | PARTS


def test_all_of_optax_contrib_can_be_judged(monkeypatch):
    # Most of the time would go into compiling what a step costs.
    monkeypatch.setattr(bench.Bench, "cost", lambda *_: Cost(1.0, 1.0, 1))
    found = judged({name: made(name) for name in CONTRIB})
    assert {x.optimizer: x.error for x in found.cells if x.error} == {}
    assert all(x.best("final").curves.finite.all() for x in found.cells)


def test_sam_takes_no_value_and_its_opaque_form_a_gradient():
    opaque = optax.contrib.sam(PLAIN, optax.sgd(0.05), sync_period=2, opaque_mode=True)
    chained = optax.chain(optax.clip(1e9), opaque)
    found = judged({"opaque": opaque, "chained": chained})
    assert [x.error for x in found.cells] == [None, None]

    def by_hand(*, num_steps):
        def update(grads, state, params, *, grad_fn):
            ahead = jax.tree.map(lambda p, g: p + 0.05 * g, params, grads)
            return jax.tree.map(lambda g: -0.1 * g, grad_fn(ahead)), state

        init = optax.init_empty_state
        return optax.GradientTransformationExtraArgs(init, update)

    again = judged({"by hand": by_hand}).cells[0].best("final").curves
    ours = found.cell("opaque", "toy").best("final").curves
    np.testing.assert_allclose(ours.train, again.train, rtol=1e-5)


def test_an_update_that_fails_by_itself_is_not_tried_without_what_it_takes():
    def update(grads, state, params=None, *, value):
        raise TypeError("unexpected keyword argument 'axis'")

    failing = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    assert "'axis'" in judged({"failing": failing}).cells[0].error


def free(rate=0.3):
    return optax.contrib.schedule_free_sgd(rate, b1=0.9)


def test_schedule_free_is_judged_at_its_average_wherever_its_state_is():
    expected = slow(free(), optax.contrib.schedule_free_eval_params)
    chained = optax.chain(optax.identity(), free())
    steps = optax.MultiSteps(free(), 1).gradient_transformation()
    found = judged({"alone": free(), "chained": chained, "steps": steps})
    for cell in found.cells:
        ours = cell.best("final").curves
        np.testing.assert_allclose(ours.train, expected.train, rtol=1e-5)
        np.testing.assert_allclose(ours.test, expected.test, rtol=1e-5)
    unseen = slow(free(), None)
    assert np.abs(unseen.test - expected.test).max() > 1e-3
    assert found.notes == ()


def slow(tx, eval_params):
    return (
        curves.curves(
            family(),
            lambda *, num_steps: tx,
            num_steps=STEPS,
            seeds=SEEDS,
            valid_every=STEPS // 4,
        )
        if eval_params is None
        else curves.run(
            curves.runner(
                curves.track(family(), valid_every=STEPS // 4),
                lambda *, num_steps: tx,
                eval_params=eval_params,
            ),
            num_steps=STEPS,
            seeds=SEEDS,
        )
    )


def test_lookahead_is_judged_at_its_slow_parameters():
    tx = optax.lookahead(PLAIN, sync_period=3, slow_step_size=0.5)
    params = {"w": jnp.array([1.0, -2.0])}
    pair = optax.LookaheadParams.init_synced(params)
    found = adapters.adapted(tx, params)
    ours = found.fit(tx)
    state, theirs, fast = ours.init(params), tx.init(pair), params
    for _ in range(7):
        grads = jax.tree.map(jnp.sin, pair.fast)
        updates, theirs = tx.update(grads, theirs, pair)
        pair = optax.apply_updates(pair, updates)
        updates, state = ours.update(jax.tree.map(jnp.sin, fast), state, fast, value=1)
        fast = optax.apply_updates(fast, updates)
        np.testing.assert_allclose(fast["w"], pair.fast["w"])
        np.testing.assert_allclose(found.eval_params(state, fast)["w"], pair.slow["w"])
    assert np.abs(pair.fast["w"] - pair.slow["w"]).min() > 1e-3
    cell = judged({"lookahead": tx}).cells[0]
    assert cell.error is None and cell.best("final").curves.finite.all()


def test_schedule_free_on_a_part_of_the_parameters_is_noted():
    params = {"w": jnp.ones(2), "b": jnp.ones(1)}
    free = optax.contrib.schedule_free_sgd(0.1)
    some = optax.multi_transform({"x": free, "y": PLAIN}, {"w": "x", "b": "y"})
    found = adapters.adapted(some, params)
    assert found.copies and found.eval_params is None
    assert not adapters.adapted(free, params).copies


def average(decay=0.5):
    """Returns SGD that keeps a moving average of the parameters, as users write it."""

    def init(params):
        return jax.tree.map(jnp.copy, params)

    def update(grads, state, params):
        updates = jax.tree.map(lambda g: -0.3 * g, grads)
        new = optax.apply_updates(params, updates)
        return updates, optax.incremental_update(new, state, 1 - decay)

    return optax.GradientTransformation(init, update)


def test_averages_are_judged_where_they_are_said_and_noted_where_not():
    def shown(state, params):
        return state

    said = judged({"mine": average()}, eval_params={"mine": shown})
    alone = judged(average(), eval_params=shown)
    silent = judged({"mine": average()})
    assert said.notes == alone.notes == ()
    assert ["pass `eval_params`" in x for x in silent.notes] == [True]
    expected = slow(average(), shown)
    for found in (said, alone):
        ours = found.cells[0].best("final").curves
        np.testing.assert_allclose(ours.train, expected.train, rtol=1e-5)
    with pytest.raises(ValueError, match="unknown optimizer of eval_params 'mime'"):
        judged({"mine": average()}, eval_params={"mime": shown})


def test_own_space_with_optax_schedules_is_tuned_by_one_program(monkeypatch):
    lengths = []

    def cosine(*, num_steps, learning_rate):
        lengths.append(num_steps)
        return optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def warm(*, num_steps, learning_rate, warmup):
        steps = warmup * num_steps
        rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps, num_steps)
        return optax.adam(rate)

    rates = {"learning_rate": Range(0.1, 1.0)}
    mine = Baseline(cosine, rates, {"learning_rate": 0.3})

    def numpys(*, num_steps, learning_rate):
        return optax.adam(np.sqrt(learning_rate))

    def counted(*, num_steps, learning_rate):
        count = jnp.int32(10 * learning_rate)
        return optax.chain(*[optax.adam(0.1) for _ in range(count)])

    bad = Baseline(
        warm,
        rates | {"warmup": Range(0.1, 0.5)},
        {"learning_rate": 0.3, "warmup": 0.2},
    )
    tuned = {"tuning": Tuning("search", 3, (0, 1))}
    worse = {x.__name__: mine._replace(build=x) for x in (numpys, counted)}
    found = judged({"mine": mine, "bad": bad, **worse}, **tuned)
    cell = found.cell("mine", "toy")
    assert cell.error is None and len(cell.tried.hyperparameters) == 3
    assert {*lengths} == {STEPS} and {*map(type, lengths)} == {int}
    for name in ("bad", *worse):
        assert "lopt.schedules do not" in found.cell(name, "toy").error
