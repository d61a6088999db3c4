"""Artifacts: a rule's weights and a card, in a directory, saved and verified.

The directory holds `theta.safetensors` and `card.json`. Nothing in it is code. The card
holds digests of the weights and of itself, so that neither changes unnoticed.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors
import safetensors.numpy

from lopt import names, rules
from lopt.types import LearnedOptimizer, Theta

# 2: `start`, `signal`, `nominal`, verdicts, evaluations by suite; 3: `digest`
SCHEMA = 3
WEIGHTS = "theta.safetensors"
CARD = "card.json"

# What every card says of its rule's training, null where it is not known.
FIELDS = (
    "trained_widths",  # least and greatest ratio to the base width
    "trained_horizon",  # least and greatest number of inner steps
    "families",
    "schedule",  # dict(name, peak), or null for rules that set their own step size
    "start",  # what is said here of the artifact it went on from, or null
    "estimator",
    "meta_steps",
    "inner_steps",
    "seconds",
    "hardware",
    "code_revision",
    "licence",
    "evaluation",  # of each suite, by name
    "verdict",  # one line: what it is good for, and how good
)

# What the golden updates are the answer to: few numbers, three ranks.
GOLDEN_INPUT = {
    "num_steps": 10,
    "params": {"m": [[0.5, -0.3, 1.2], [-0.8, 0.1, 0.4]], "v": [1.0, -2.0], "s": 0.7},
    "grads": [
        {"m": [[0.1, -0.2, 0.3], [0.05, 0.0, -0.4]], "v": [0.6, -0.1], "s": 0.2},
        {"m": [[0.2, 0.1, -0.1], [0.3, -0.5, 0.2]], "v": [-0.3, 0.2], "s": 0.1},
    ],
}


class Artifact(NamedTuple):
    """What an artifact holds: `rule.bind(theta)` is the optimizer."""

    theta: Theta
    rule: LearnedOptimizer
    card: dict[str, Any]


def save(
    directory: str | os.PathLike,
    *,
    rule: str,
    rule_args: dict[str, Any],
    theta: Theta,
    card: dict[str, Any],
) -> None:
    """Writes an artifact; one that is replaced is gone only once the new is whole.

    Args:
      directory: created, or replaced if it holds an artifact.
      rule: name in `RULES`.
      rule_args: JSON values, the rule's arguments.
      theta: as `rule.init` makes it.
      card: JSON values for `FIELDS`, and others that are worth recording.

    Raises:
      ValueError: if theta's shapes are not the rule's, or `card` is not JSON.
      FileExistsError: if the directory holds anything else.
    """
    directory = Path(directory)
    built = rules.build(rule, **rule_args)
    arrays = {name: np.asarray(x) for name, x in _named(theta)}
    weights = safetensors.numpy.save(arrays)
    outputs = _outputs(built, _shaped_like(built, arrays, directory), GOLDEN_INPUT)
    fields = {
        "schema": SCHEMA,
        "rule": {"name": rule, "args": rule_args},
        "sha256": hashlib.sha256(weights).hexdigest(),
        "golden": GOLDEN_INPUT | {"updates": outputs},
    }
    content = _signed(dict.fromkeys(FIELDS) | card | fields)
    _replace(directory, {WEIGHTS: weights, CARD: content})


def annotate(directory: str | os.PathLike, **fields: Any) -> None:
    """Sets fields of an artifact's card, such as its evaluation, to JSON values.

    Raises:
      ValueError: as `read`, or if a field is not JSON or not one of `FIELDS`.
    """
    directory = Path(directory)
    for field in fields:
        names.known("field", field, FIELDS)
    content = _signed(read(directory).card | fields)
    weights = _bytes(directory / WEIGHTS)
    _replace(directory, {WEIGHTS: weights, CARD: content})


def digest(card: dict[str, Any]) -> str:
    """Returns the SHA-256 of a card's content, its `digest` apart.

    The JSON that is hashed has sorted keys and no spaces, so that the layout of a card
    does not matter, while every key and value does.
    """
    content = {name: value for name, value in card.items() if name != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read(place: Any) -> Artifact:
    """Returns the artifact in a directory, a `Path` or a resource, once verified.

    Raises:
      ValueError: naming the file and the check that it failed.
    """
    card = _card(place / CARD)
    weights = _bytes(place / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise _failed(place / WEIGHTS, "its SHA-256 is not the card's")
    try:
        rule = rules.build(card["rule"]["name"], **card["rule"]["args"])
    except (KeyError, TypeError, ValueError) as error:
        raise _failed(place / CARD, f"no such rule: {error}") from error
    try:
        arrays = safetensors.numpy.load(weights)
    except safetensors.SafetensorError as error:
        raise _failed(place / WEIGHTS, str(error)) from error
    return Artifact(_shaped_like(rule, arrays, place / WEIGHTS), rule, card)


def verify(place: Any, *, tolerance: float = 1e-4) -> float:
    """Returns how far the rule is, on this machine, from what it did when saved.

    It repeats the updates that the card records. The difference is relative to
    the largest of them; float32 rounding gives about 1e-7.

    Raises:
      ValueError: as `read`, or if the difference exceeds `tolerance`.
    """
    artifact = read(place)
    golden = artifact.card["golden"]
    updates = _outputs(artifact.rule, artifact.theta, golden), golden["updates"]
    now, then = (np.array(jax.tree.leaves(x)) for x in updates)
    difference = float(np.max(np.abs(now - then)) / (np.max(np.abs(then)) or 1))
    if not difference <= tolerance:
        reason = f"golden output: relative difference {difference:.1e}"
        raise _failed(place / CARD, reason)
    return difference


def _bytes(file: Any) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _failed(file, f"cannot be read ({error})") from error


def _signed(card: dict[str, Any]) -> bytes:
    """Returns the content of the file of a card, with its digest: a line a field."""
    fields = card | {"digest": digest(card)}
    lines = [json.dumps({x: y}, allow_nan=False)[1:-1] for x, y in fields.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _card(file: Any) -> dict[str, Any]:
    """Returns the card in a file, of this schema, whole, and as it was written."""
    try:
        card = json.loads(_bytes(file), object_pairs_hook=_distinct)
        schema, digested = card["schema"], digest(card)
    except (ValueError, KeyError, TypeError) as error:
        raise _failed(file, f"not JSON with a schema version ({error!r})") from error
    if schema != SCHEMA:
        raise _failed(file, f"its schema is {schema}, this version reads {SCHEMA}")
    missing = {"rule", "sha256", "golden", "digest", *FIELDS} - set(card)
    if missing:
        raise _failed(file, f"lacks {', '.join(sorted(missing))}")
    if card["digest"] != digested:
        raise _failed(
            file,
            "its SHA-256 is not its `digest`: it was damaged, or edited by hand "
            "(`lopt.artifact.annotate` sets fields)",
        )
    return card


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object of JSON, of which no key is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is there twice among {', '.join(found)}")
    return found


def _failed(file: Any, check: str) -> ValueError:
    return ValueError(f"{file}: {check}.")


def _shaped_like(
    rule: LearnedOptimizer, arrays: dict[str, np.ndarray], file: Any
) -> Theta:
    """Returns the arrays, by path, as the tree that the rule's `init` makes."""
    template = jax.eval_shape(rule.init, jax.random.key(0))
    expected = {name: x.shape for name, x in _named(template)}
    found = {name: x.shape for name, x in arrays.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise _failed(
                file,
                f"{name!r} has shape {found.get(name)}, "
                f"the rule's is {expected.get(name)}",
            )
    leaves = [jnp.asarray(arrays[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _outputs(rule: LearnedOptimizer, theta: Theta, golden: dict[str, Any]) -> list[Any]:
    """Returns the updates of a few steps on the input of `golden`, as JSON values."""
    tx = rule.bind(theta, num_steps=golden["num_steps"])
    arrays = lambda leaves: {k: jnp.float32(x) for k, x in leaves.items()}  # noqa: E731
    params = arrays(golden["params"])
    state, update, outputs = tx.init(params), jax.jit(tx.update), []
    with jax.default_matmul_precision("highest"):
        for grads in golden["grads"]:
            updates, state = update(arrays(grads), state, params)
            params = optax.apply_updates(params, updates)
            outputs.append({k: np.asarray(x).tolist() for k, x in updates.items()})
    return outputs


def _replace(directory: Path, files: dict[str, bytes]) -> None:
    """Makes a directory of exactly `files`; what is there gives way by a rename."""
    foreign = {x.name for x in directory.iterdir()} if directory.exists() else set()
    if foreign - set(files):
        raise FileExistsError(f"{directory} holds other files than an artifact's.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{directory.name}.", dir=directory.parent
    ) as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
