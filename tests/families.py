"""Every family at its smallest, shared by tests."""

import functools

from tasks import suites

SMOOTH = ("tanh",)
SMALL = {
    "autoencoder": suites.AUTOENCODER
    | dict(width=8, base_width=4, latent=3, batch_size=4, activations=("gelu", "tanh")),
    "conv": suites.CONV
    | dict(width=4, base_width=2, resolution=4, batch_size=4, activations=SMOOTH),
    "mixer": suites.MIXER
    | dict(width=8, base_width=4, patch=4, token_hidden=3, batch_size=4),
    "mlp": suites.DIGITS_MLP
    | dict(
        width=16,
        base_width=8,
        batch_size=32,
        activations=("silu", "tanh", "gelu"),
        vary={"init_scale": (0.5, 2.0)},
    ),
    "quadratic": suites.QUADRATIC | dict(dimension=6, condition=(1.0, 100.0)),
    "recurrent": suites.RECURRENT
    | dict(width=4, base_width=2, context=5, batch_size=3),
    "resnet": suites.RESNET
    | dict(width=4, base_width=2, resolution=4, batch_size=8, activations=SMOOTH),
    "softmax_regression": suites.REGRESSION | dict(batch_size=4),
    "surface": suites.SURFACE,
    "teacher_student": suites.TEACHER
    | dict(inputs=5, teacher_width=4, width=8, base_width=4, activations=SMOOTH),
    "transformer": suites.TRANSFORMER
    | dict(width=8, base_width=4, context=5, batch_size=3),
    "vae": suites.VAE
    | dict(width=8, base_width=4, latent=3, batch_size=4, activations=SMOOTH),
    "vit": suites.VIT | dict(width=8, base_width=4, patch=4, batch_size=4),
}


@functools.cache
def build(name):
    return suites.build(name, **SMALL[name])
