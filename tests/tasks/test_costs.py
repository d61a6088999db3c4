"""Costs against closed forms, and against the compiler where it counts all."""

import jax
import jax.numpy as jnp
import pytest
from families import SMALL, build

from tasks import costs, families


def test_softmax_regression_costs_two_products_a_pass():
    found = costs.cost(build("softmax_regression"), repeats=1)
    assert found.params == 30 * 2 + 2
    # 4 x 30 by 30 x 2 forward, and 30 x 4 by 4 x 2 backward: inputs have no gradient.
    products = 2 * 2 * 4 * 30 * 2
    assert products < found.flops < 1.5 * products
    assert 0 < found.seconds < 60


@pytest.mark.parametrize(
    ("name", "examples", "tokens"),
    [
        ("conv", 4, None),
        ("transformer", 3, 3 * 5),
        ("bag_of_tokens", 16, None),  # of which one label is predicted, not the tokens
        ("teacher_student", 64, None),
        ("coordinates", 128, None),  # half of the 16 by 16 pixels, of three colours
        ("quadratic", None, None),
    ],
)
def test_a_batch_has_examples_and_text_has_tokens(name, examples, tokens):
    assert costs.batch_size(build(name)) == (examples, tokens)


def test_a_scan_costs_its_body_as_often_as_it_runs():
    kernel = jnp.ones((4, 4))

    def run(x):
        return jax.lax.scan(lambda x, _: (x @ kernel, None), x, length=7)

    assert costs.flops(run, jnp.ones((3, 4))) == 7 * 2 * 3 * 4 * 4


def test_a_convolution_costs_its_kernel_at_every_place():
    def run(images, kernel):
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found = costs.flops(run, jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 7)))
    assert found == 2 * (2 * 8 * 8 * 7) * 5 * 5 * 3


def test_only_the_costliest_branch_counts():
    branches = (jnp.sin, lambda x: jnp.sin(jnp.cos(x)))
    found = costs.flops(lambda i, x: jax.lax.switch(i, branches, x), 0, jnp.ones(10))
    assert found == 20


@pytest.mark.parametrize("name", ["mlp", "resnet", "transformer"])
def test_without_scans_the_compiler_counts_about_as_many(name):
    # Wide, so that products outweigh what compilers fuse, and count otherwise.
    family = families.build(name, **SMALL[name] | {"width": 32, "batch_size": 32})

    def step(params):
        task = family.task(family.sample(jax.random.key(0)))
        batch = task.batch(family.data, jax.random.key(1), "train")
        loss = lambda p: task.loss(p, jax.random.key(2), batch)[0]  # noqa: E731
        return jax.value_and_grad(loss)(params)

    compiled = jax.jit(step).lower(family.shapes).compile()
    ratio = costs.flops(step, family.shapes) / compiled.cost_analysis()["flops"]
    assert 0.8 < ratio < 1.25, ratio


def test_twice_the_bytes_cost_a_recurrent_net_about_twice():
    found = [
        costs.cost(
            families.build("recurrent", **SMALL["recurrent"] | {"context": n}),
            repeats=1,
        )
        for n in (8, 16)
    ]
    assert 1.9 < found[1].flops / found[0].flops < 2.1
