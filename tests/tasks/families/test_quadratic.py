"""The quadratic against closed form."""

import jax
import numpy as np
import pytest

from tasks import families

QUADRATIC = dict(
    dimension=6,
    condition=(1.0, 100.0),
    noise=(0.0, 0.1),
    spectrum="geometric",
    rotation=True,
)


def key(seed):
    return jax.random.key(seed)


def start(family, seed):
    task = family.task(jax.jit(family.sample)(key(seed)))
    return task, jax.jit(task.init)(key(seed + 1))


def loss_at_init(family, data, draw_key, split="train"):
    task = family.task(family.sample(draw_key))
    batch = task.batch(data, draw_key, split)
    loss, _ = task.loss(task.init(draw_key), draw_key, batch)
    return task.normalise(loss)


def test_unknown_family_lists_the_known_and_the_nearest():
    with pytest.raises(ValueError, match="known: .*mlp, quadratic.*Did you mean 'mlp'"):
        families.build("mlpp")


def test_lists_from_json_stand_for_tuples():
    listed = families.build("quadratic", **(QUADRATIC | dict(condition=[2, 2])))
    assert float(listed.sample(key(0))["eigenvalues"][0]) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [dict(condition=(0.5, 2)), dict(condition=(9, 3)), dict(noise=(2, 1))],
)
def test_quadratic_refuses_empty_ranges(wrong):
    with pytest.raises(ValueError, match="low <= high"):
        families.build("quadratic", **(QUADRATIC | wrong))


def test_quadratic_equals_its_closed_form():
    with jax.enable_x64():
        family = families.build("quadratic", **QUADRATIC)
        draw = family.sample(key(0))
        task = family.task(draw)
        batch = task.batch((), key(1), "train")
        x = np.arange(6.0)
        basis, minimum, shift = map(
            np.asarray, (draw["basis"], draw["minimum"], batch["shift"])
        )
        hessian = basis @ np.diag(draw["eigenvalues"]) @ basis.T
        distance = x - minimum - shift
        loss, grad = jax.value_and_grad(lambda x: task.loss({"x": x}, None, batch)[0])(
            x
        )
        np.testing.assert_allclose(loss, distance @ hessian @ distance / 2, rtol=1e-12)
        np.testing.assert_allclose(grad, hessian @ distance, rtol=1e-10)


def test_quadratic_samples_condition_and_noise_within_bounds():
    family = families.build("quadratic", **QUADRATIC)
    draws = jax.jit(jax.vmap(family.sample))(jax.random.split(key(0), 2000))
    condition = draws["eigenvalues"][:, -1] / draws["eigenvalues"][:, 0]
    assert 1 <= condition.min() < 1.1 and 90 < condition.max() <= 100.001
    # Log-uniform on [1, 100]: the median is 10.
    np.testing.assert_allclose(np.median(condition), 10, rtol=0.2)
    assert 0 <= draws["noise"].min() < 0.001 and 0.099 < draws["noise"].max() <= 0.1


def test_quadratic_without_noise_starts_at_meta_loss_one():
    family = families.build("quadratic", **(QUADRATIC | dict(noise=(0, 0))))
    run = jax.jit(lambda k: loss_at_init(family, (), k))
    for seed in range(3):
        assert run(key(seed)) == pytest.approx(1, abs=1e-6)
