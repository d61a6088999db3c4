"""Parts of transformers: patches, causality, and how embeddings start."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tasks.networks import attention


def test_patches_tile_images_of_any_shape():
    images = jax.random.uniform(jax.random.key(0), (2, 4, 6, 3))
    found = np.asarray(attention.patches(images, 2)).reshape(2, 6, 2, 2, 3)
    rows = [np.concatenate(list(found[1, 3 * i : 3 * i + 3]), 1) for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(rows), images[1])


def test_attention_sees_later_tokens_unless_it_is_causal():
    x = jax.random.normal(jax.random.key(0), (1, 3, 4))
    for causal in (False, True):
        module = attention.Attention(heads=1, base_width=4, causal=causal)
        params = module.init(jax.random.key(1), x)
        change = module.apply(params, x.at[:, 2].add(1)) - module.apply(params, x)
        assert bool((change[:, 0] == 0).all()) is causal


def test_embeddings_start_as_those_of_flax():
    key, tokens = jax.random.key(0), jnp.arange(3)
    layer = attention.embed(50, 20, name="embed", parametrization="standard")
    found, expected = (x.init(key, tokens)["params"] for x in (layer, nn.Embed(50, 20)))
    jax.tree.map(np.testing.assert_allclose, found, expected)
