"""The surfaces against published values, and the spectra of quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from tasks.families import quadratic, surfaces

TURNED = dict(rotation=True, shift=1.0)
PLAIN = dict(rotation=False, shift=0.0)
DIMENSIONS = {name: s.dimensions[1] or 5 for name, s in surfaces.SURFACES.items()}
every_surface = pytest.mark.parametrize("name", surfaces.SURFACES)


def key(seed):
    return jax.random.key(seed)


def build(name, **turned):
    return surfaces.surface(function=name, dimension=DIMENSIONS[name], **turned)


def start(family, seed=0):
    draw = family.sample(key(seed))
    task = family.task(draw)
    return draw, task, task.init(key(1))


def least(name):
    return np.broadcast_to(surfaces.SURFACES[name].minimiser, DIMENSIONS[name])


# By arithmetic where a comment shows it, else from published tables.
@pytest.mark.parametrize(
    ("name", "x", "value"),
    [
        ("ackley", [1.0, 1.0, 1.0], 20 * (1 - np.exp(-0.2))),  # cosines are 1
        ("ackley", [0.0, 0.0], 0.0),
        ("beale", [0.0, 0.0], 1.5**2 + 2.25**2 + 2.625**2),
        ("beale", [1.0, 1.0], 1.5**2 + 2.25**2 + 2.625**2),  # 1 - y vanishes
        ("griewank", [np.pi, 0.0], np.pi**2 / 4000 + 2),  # cosines -1 and 1
        ("griewank", [0.0, 100.0], 3.5 - np.cos(100 / 2**0.5)),
        ("himmelblau", [0.0, 0.0], 170.0),  # 11^2 + 7^2
        ("himmelblau", [-0.270845, -0.923039], 181.617),  # its local maximum
        ("himmelblau", [-2.805118, 3.131312], 0.0),
        ("himmelblau", [-3.779310, -3.283186], 0.0),
        ("himmelblau", [3.584428, -1.848126], 0.0),
        ("levy", [3.0, 1.0], 1 + 0.25 * (1 + 10 * np.sin(1.5 * np.pi + 1) ** 2)),
        ("levy", [1.0, 3.0], 0.25),  # w = (1, 1.5): sin^2(3 pi) = 0
        ("rastrigin", [1.0, 2.0, 3.0], 14.0),  # cosines are 1
        ("rastrigin", [0.5, 0.5], 40.5),  # cosines are -1
        ("rosenbrock", [-1.2, 1.0], 24.2),
        ("rosenbrock", [0.0, 0.0, 0.0], 2.0),
        ("styblinski_tang", [1.0, 0.0], -5.0),  # (1 - 16 + 5) / 2
        ("styblinski_tang", [-2.903534] * 3, -39.16617 * 3),
    ],
)
def test_values_are_the_published(name, x, value):
    found = surfaces.SURFACES[name].value(jnp.array(x))
    np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-4)


def test_rosenbrock_is_scipys():
    x = np.random.default_rng(0).normal(size=7)
    found = surfaces.SURFACES["rosenbrock"].value(jnp.array(x, jnp.float32))
    np.testing.assert_allclose(found, scipy.optimize.rosen(x), rtol=1e-5)


@every_surface
def test_the_minimiser_is_a_minimum_and_nothing_found_is_below_it(name):
    with jax.enable_x64():
        value, (low, high), minimiser, _ = surfaces.SURFACES[name]
        best = value(jnp.array(least(name)))
        slope = jax.jit(jax.grad(value))(jnp.array(least(name)))
        np.testing.assert_allclose(slope, 0, atol=1e-9)
        shape = [4000, DIMENSIONS[name]]
        anywhere = jax.random.uniform(key(0), shape, minval=low, maxval=high)
        nearby = least(name)[None] + 1e-3 * jax.random.normal(key(1), shape)
        assert jax.vmap(value)(jnp.concatenate([anywhere, nearby])).min() >= best


@every_surface
def test_losses_are_zero_at_the_turned_minimiser_and_one_at_the_start(name):
    draw, task, params = start(build(name, **TURNED))
    low, high = surfaces.SURFACES[name].box
    inside = (least(name) - (low + high) / 2) / ((high - low) / 2)
    best = {"x": draw["basis"] @ jnp.array(inside, jnp.float32) + draw["shift"]}
    first = task.loss(params, None, ())[0]
    assert task.normalise(first) == pytest.approx(1, abs=1e-4)
    assert abs(task.normalise(task.loss(best, None, ())[0])) < 1e-4


def test_a_low_start_is_not_what_its_meta_losses_are_relative_to():
    family = build("beale", **PLAIN)
    best = {"x": jnp.array([3.0, 0.5]) / 4.5}  # the middle of the box is the origin
    for distance in (1e-3, 1e-2):
        low = {"x": best["x"] + distance}
        task = family.task({"start": low["x"], "shift": jnp.zeros(2)})
        first = task.loss(low, None, ())[0]
        np.testing.assert_allclose(task.normalise(first), first / 0.05, rtol=1e-5)


@every_surface
def test_a_step_across_a_twentieth_of_the_box_seldom_clips_the_meta_loss(name):
    family = build(name, **PLAIN)

    def step(key):
        draw = family.sample(key)
        task = family.task(draw)
        moved = draw["start"] + 0.05 * jax.random.normal(key, draw["start"].shape)
        return task.normalise(task.loss({"x": moved.clip(-1, 1)}, None, ())[0])

    found = jax.jit(jax.vmap(step))(jax.random.split(key(3), 2000))
    assert (found == 4).mean() < 0.01


@every_surface
def test_losses_are_heights_over_their_mean_in_the_box(name):
    family = build(name, **PLAIN)
    value, (low, high), _, _ = surfaces.SURFACES[name]
    starts = jax.vmap(family.sample)(jax.random.split(key(2), 4000))["start"]
    assert starts.min() < -0.99 and starts.max() > 0.99
    assert abs(starts).max() <= 1 and abs(starts.mean()) < 0.03
    _, task, _ = start(family)
    losses = jax.vmap(lambda x: task.loss({"x": x}, None, ())[0])(starts)
    heights = jax.vmap(value)((low + high) / 2 + (high - low) / 2 * starts)
    heights -= value(jnp.array(least(name), jnp.float32))
    expected = heights / heights.mean()
    np.testing.assert_allclose(losses, expected, rtol=0.2)  # other points, other means
    np.testing.assert_allclose(losses / losses.mean(), expected, rtol=1e-3, atol=1e-5)


def test_ackley_has_finite_derivatives_at_its_tip():
    value = surfaces.SURFACES["ackley"].value
    assert not jax.grad(value)(jnp.zeros(3)).any()
    assert jnp.isfinite(jax.hessian(value)(jnp.zeros(3))).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(function="rosenbrok"), "Did you mean 'rosenbrock'"),
        (dict(function="beale"), "beale needs 2 <= dimension <= 2"),
        (dict(function="rosenbrock", dimension=1), "2 <= dimension <= any"),
        (dict(function="levy", shift=-1.0), "shift >= 0"),
    ],
)
def test_wrong_settings_are_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        surfaces.surface(**(dict(dimension=3) | PLAIN | wrong))


def spectrum(name, dimension=4, condition=100.0, rotation=False):
    family = quadratic.quadratic(
        dimension=dimension,
        condition=(condition, condition),
        noise=(0.0, 0.0),
        spectrum=name,
        rotation=rotation,
    )
    return family, family.sample(key(0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("geometric", [0.01, 0.1 / 10 ** (1 / 3), 0.1 * 10 ** (1 / 3), 1.0]),
        ("uniform", [0.01, 0.34, 0.67, 1.0]),
        ("bimodal", [0.01, 0.01, 1.0, 1.0]),
    ],
)
def test_spectra_of_quadratics_are_spaced_as_they_say(name, expected):
    _, draw = spectrum(name)
    np.testing.assert_allclose(draw["eigenvalues"], expected, rtol=1e-5)


@pytest.mark.parametrize("rotation", [False, True])
def test_the_hessian_of_a_quadratic_is_diagonal_without_rotation(rotation):
    family, draw = spectrum("uniform", rotation=rotation)
    task = family.task(draw)
    batch = task.batch((), key(1), "train")
    hessian = jax.hessian(lambda x: task.loss({"x": x}, None, batch)[0])(jnp.ones(4))
    values = np.linalg.eigvalsh(hessian)
    np.testing.assert_allclose(values, draw["eigenvalues"], rtol=1e-4)
    assert np.allclose(hessian, np.diag(draw["eigenvalues"]), atol=1e-6) != rotation


def test_the_middle_of_an_odd_number_of_bimodal_eigenvalues_is_one():
    _, draw = spectrum("bimodal", dimension=5)
    np.testing.assert_allclose(draw["eigenvalues"], [0.01, 0.01, 1, 1, 1], rtol=1e-5)


def test_one_eigenvalue_has_no_condition():
    with pytest.raises(ValueError, match="need dimension >= 2 .* got dimension=1"):
        spectrum("uniform", dimension=1)


def test_unknown_spectrum_is_an_error():
    with pytest.raises(ValueError, match="Did you mean 'uniform'"):
        spectrum("unifrom")
