"""A run whose meta-step is a few additions, to test what the host does around it."""

import functools

import jax
import jax.numpy as jnp
import tiny

from meta_train.build import Run
from meta_train.learner import Learner, MetaState
from meta_train.sections import Log, Outer, Saving, Validation
from tasks import families


@functools.cache
def learner(*, nan_at=None, barren_from=None):
    """Returns a learner of a random walk, which fails at the meta-steps given."""

    def init(data):
        del data
        theta = {"w": jnp.linspace(-1.0, 1.0, 5)}
        average = jax.tree.map(jnp.copy, theta)
        workers = {"params": jnp.zeros((4, 3))}
        return MetaState(jnp.int32(0), theta, average, (), workers)

    def step(state, data, done=None):
        del done
        count = state.step + 1
        key = jax.random.fold_in(jax.random.key(7), state.step)
        noise = jax.random.normal(key, state.theta["w"].shape)
        w = 0.9 * state.theta["w"] + 0.1 * noise * data
        w = jnp.where(count == nan_at, jnp.nan, w) if nan_at else w
        average = {"w": 0.9 * state.average["w"] + 0.1 * w}
        barren = jnp.bool_(False) if barren_from is None else count >= barren_from
        metrics = {
            "loss": jnp.sum(w**2),
            "grad_norm": jnp.sum(jnp.abs(noise)),
            "valid": jnp.where(barren, 0, 4),
            "diverged": jnp.where(barren, 4, 0),
            "restarts": jnp.int32(0),
            "finite": jnp.all(jnp.isfinite(w)),
        }
        workers = {"params": state.estimator["params"] + w[None, :3]}
        return MetaState(count, {"w": w}, average, (), workers), metrics

    return Learner(jax.jit(init), jax.jit(step, donate_argnums=0), [], lambda *_: ())


def scores(theta):
    """Returns meta-validation scores that go up and down along the walk."""
    return {"toy": jnp.sum((theta["w"] - 0.1) ** 2)}


def toy_run(
    *,
    num_steps=20,
    log=3,
    save=5,
    validate=0,
    blend=False,
    tensorboard=False,
    **failures,
):
    """Returns a toy run; `failures` go to `learner`."""
    outer = Outer(
        num_steps=num_steps,
        learning_rate=1e-3,
        end_learning_rate=0.0,
        warmup_steps=0,
        weight_decay=0.0,
        clip=1.0,
        average=0.9,
        balance=True,
    )
    return Run(
        config={"seed": 0, "outer": {"num_steps": num_steps}},
        families={"toy": families.build("quadratic", **tiny.QUADRATIC)},
        learner=learner(**failures),
        data=jnp.float32(1.0),
        whole=lambda theta: theta,
        inner_steps=8,
        outer=outer,
        log=Log(every=log, tensorboard=tensorboard),
        saving=Saving(every=save, keep=3),
        validation=Validation(every=validate, blend=blend),
        scores=jax.jit(scores),
    )
