"""Every family, as suites have it, at its smallest and varied, shared by tests."""

import functools

from tasks import entries, families

# As suites have them.
ARGS = {
    "autoencoder": entries.AUTOENCODER,
    "bag_of_tokens": entries.BAG,
    "bigram": entries.BIGRAM,
    "conv": entries.CONV,
    "coordinates": entries.COORDINATES,
    "mixer": entries.MIXER,
    "mlp": entries.DIGITS_MLP,
    "quadratic": entries.QUADRATIC,
    "recurrent": entries.RECURRENT,
    "resnet": entries.RESNET,
    "softmax_regression": entries.REGRESSION,
    "surface": entries.SURFACE,
    "teacher_student": entries.TEACHER,
    "transformer": entries.TRANSFORMER,
    "vae": entries.VAE,
    "vit": entries.VIT,
}
SMOOTH = ("tanh",)
# What makes them smaller, and smooth.
SMALLER = {
    "autoencoder": dict(
        width=8, base_width=4, latent=3, batch_size=4, activations=("gelu", "tanh")
    ),
    "bag_of_tokens": dict(
        vocabulary=12,
        length=5,
        classes=3,
        width=8,
        base_width=4,
        batch_size=16,
        activations=("silu", "tanh", "gelu"),
    ),
    "bigram": dict(vocabulary=12, width=8, base_width=4, batch_size=16),
    "conv": dict(width=4, base_width=2, resolution=4, batch_size=4, activations=SMOOTH),
    "coordinates": dict(
        frequencies=3, width=8, base_width=4, activations=("silu", "tanh")
    ),
    "mixer": dict(width=8, base_width=4, patch=4, token_hidden=3, batch_size=4),
    "mlp": dict(
        width=16,
        base_width=8,
        batch_size=32,
        activations=("silu", "tanh", "gelu"),
        vary={"init_scale": (0.5, 2.0)},
    ),
    "quadratic": dict(dimension=6, condition=(1.0, 100.0)),
    "recurrent": dict(width=4, base_width=2, context=5, batch_size=3),
    "resnet": dict(
        width=4, base_width=2, resolution=4, batch_size=8, activations=SMOOTH
    ),
    "softmax_regression": dict(batch_size=4),
    "teacher_student": dict(
        inputs=5, teacher_width=4, width=8, base_width=4, activations=SMOOTH
    ),
    "transformer": dict(width=8, base_width=4, context=5, batch_size=3),
    "vae": dict(width=8, base_width=4, latent=3, batch_size=4, activations=SMOOTH),
    "vit": dict(width=8, base_width=4, patch=4, batch_size=4),
}
SMALL = {name: {**args, **SMALLER.get(name, {})} for name, args in ARGS.items()}


ANY = {"init_scale": (0.5, 2.0), "examples": (0.2, 1.0)}
LABELS = {"label_noise": (0.0, 0.2), "classes": (2, 10)}
# All that can vary: no labels of text or where they are unread, no sizes of batches
# that are normalised.
VARY = {
    "autoencoder": ANY,
    "conv": ANY | LABELS | {"batch_size": (1, 4)},
    "mixer": ANY | LABELS | {"batch_size": (1, 4)},
    "mlp": ANY | LABELS | {"batch_size": (1, 32)},
    "recurrent": ANY | {"batch_size": (1, 3)},
    "resnet": ANY | LABELS | {"classes": (2, 2)},
    "softmax_regression": ANY | LABELS | {"classes": (2, 2), "batch_size": (1, 4)},
    "transformer": ANY | {"batch_size": (1, 3)},
    "vae": ANY,
    "vit": ANY | LABELS | {"batch_size": (1, 4)},
}


@functools.cache
def build(name):
    return families.build(name, **SMALL[name])


@functools.cache
def varied(name):
    """Returns the smallest family, of which everything varies that can."""
    vary = {"vary": VARY[name]} if name in VARY else {}
    return families.build(name, **SMALL[name] | vary)
