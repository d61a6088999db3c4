"""Ablations differ from the base as they are called; tables say what JSON has."""

import functools
import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

from benchmarks import ablations
from lopt import mup
from lopt.baselines import BASELINES
from tasks import suites

CHANGES = {
    "base": {},
    "eps=absolute": {"rule.args.eps": "absolute"},
    "head=normalised": {
        "rule.args.head": "normalised",
        "rule.args.step_mult": 1.0,
        "inner.schedule.peak": 1e-2,
    },
    "signal=False": {"rule.args.signal": False},
    "nominal=0": {"rule.args.nominal": 0.0},
    "hidden=8": {"rule.args.hidden": 8},
    "time=absolute": {"rule.args.time": ("absolute",)},
    "time=log": {"rule.args.time": ("log",)},
    "time=relative,log": {"rule.args.time": ("relative", "log")},
    "horizon=200": {"inner.horizon": (200, 200)},
    "schedule=None": {"inner.schedule": None},
    "truncated": {"estimator.name": "truncated"},
    "smoothed": {"estimator.name": "smoothed"},
    "pes": {"estimator.name": "pes"},
    "standard": {
        "family.name": "train-v2-standard",
        "validation.suite": "valid-v1-standard",
    },
    "fixed": {"family.name": "train-v2-fixed"},
    "valid_weight=0": {"inner.valid_weight": 0.0},
    "muadam": {"rule.name": "muadam"},
}


def flat(config, prefix=""):
    """Yields the settings of a config by their paths."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def settings(name):
    return dict(flat(ablations.config(name, 0, quick=False)))


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_a_variant_sets_what_its_name_says_and_nothing_else(name):
    base, own = settings("base"), settings(name)
    assert {k: v for k, v in own.items() if base.get(k, ...) != v} == CHANGES[name]


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_every_variant_builds_on_few_families(name):
    run, _ = ablations.built(name, 0, quick=True)
    assert set(run.families) == {"softmax_regression", "quadratic"}
    assert not [x for x in suites.SUITES if x.endswith(("-standard", "-fixed"))]


@functools.cache
def families(name):
    return ablations.built(name, 0, quick=False)[0].families


def test_standard_tasks_are_at_their_base_width():
    wide = suites.family(ablations.standard(suites.SUITES["wider-v1"]["mlp-widthx8"]))
    for one in (*families("standard").values(), wide):
        assert one.shapes == one.base_shapes
    deep = families("base")["mlp-deep"]
    assert deep.shapes != deep.base_shapes


def test_fixed_tasks_are_one_and_the_same():
    def differ(family):
        draws = [family.sample(jax.random.key(k)) for k in range(8)]
        return any(str(draw) != str(draws[0]) for draw in draws)

    varied, fixed = families("base"), families("fixed")
    assert differ(varied["mlp"]) and list(varied) == list(fixed)
    assert not any(differ(fixed[x]) for x in ("mlp", "mlp-deep", "autoencoder"))


def test_muadam_is_that_of_the_baselines():
    base, wide = ({"w": jnp.ones([n, n])} for n in (2, 4))
    info = mup.infer(wide, base)
    rule = ablations.muadam().bind(jnp.float32(0.1), num_steps=7)
    own = optax.chain(rule, mup.scale_updates(info))
    baseline = BASELINES["muadam"].build(info=info, num_steps=7, learning_rate=0.1)
    updates = [tx.update(wide, tx.init(wide), wide)[0]["w"] for tx in (own, baseline)]
    np.testing.assert_allclose(*updates, rtol=1e-6)


def test_the_clock_stands_while_theta_is_judged(monkeypatch):
    now = [0.0]

    def step(state, data):
        now[0] += 1
        return SimpleNamespace(step=state.step + 1, average=None), {}

    clock = SimpleNamespace(process_time=lambda: now[0])
    monkeypatch.setattr(ablations, "time", clock)

    def waits(data):
        now[0] += 100

    init = lambda data: SimpleNamespace(step=0, average=None)  # noqa: E731
    learner = SimpleNamespace(init=init, step=step, compile=waits)
    one, rows = SimpleNamespace(learner=learner, data=()), []
    for row, _ in ablations.trained(one, 6.0):
        rows.append(tuple(row.values()))
        now[0] += 100
    assert rows == [(n, n) for n in (0, 2, 4, 6)]


def result(end, judged, **more):
    row = {"step": 1200, "seconds": 2.0, "scores": {"a": end}, "mean": end}
    where = {"hardware": "none", "code_revision": "f00d"}
    return {"rows": [row | more], "judged": {"wide": judged}} | where


def test_a_table_has_every_seed_and_says_what_diverged():
    runs = {
        "base": [result(-3.1, -2.0), result(-2.9, np.inf)],
        "muadam": [result(np.inf, 1.0, rate=3e-3)],
    }
    assert ablations.table(json.loads(json.dumps(runs))).splitlines()[2:] == [
        "| base | 1,200, 1,200 | -3.10, -2.90 | -2.00, diverged |",
        "| muadam, 0.003 | 1,200 | diverged | 1.00 |",
    ]


def test_a_panel_shows_every_seed_that_ended_and_shades_the_base():
    runs = {
        "base": [result(-3.1, -2.0), result(-2.9, np.inf)],
        "pes": [result(np.inf, 1.0)],
    }
    axes = Figure().subplots()
    ablations.panel(json.loads(json.dumps(runs)), "valid-v1")(axes)
    assert [list(line.get_xdata()) for line in axes.lines] == [[-3.1, -2.9], [np.inf]]
    shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (shade.x0, shade.x1) == pytest.approx((-3.1, -2.9))
    assert ablations.plot({"pes": runs["pes"]}).startswith(b"\x89PNG")


def test_a_page_keeps_what_is_below_its_table(tmp_path):
    page, runs = tmp_path / "page.md", {"base": [result(-3.1, -2.0)]}
    record = {"seconds": 1, "seeds": 1, "quick": True, "runs": runs}
    ablations.write(page, record)
    page.write_text(page.read_text().replace("`fixed`", "Prose. `fixed`"))
    runs["base"] = [result(-7.7, -2.0)]
    ablations.write(page, record | {"seconds": 77})
    assert "for 77 s" in page.read_text() and "for 1 s" not in page.read_text()
    assert "Code: f00d." in page.read_text()
    assert "Prose." in page.read_text() and "-7.70" in page.read_text()
    assert "-3.10" not in page.read_text() and page.read_text().count("| base") == 1


@pytest.mark.slow
def test_quick_runs_go_on_and_are_redrawn_from_json(tmp_path, monkeypatch):
    def main(*words):
        place = ["--page", str(tmp_path / "page.md"), "--workdir", str(tmp_path / "w")]
        monkeypatch.setattr("sys.argv", ["ablations", "--quick", *place, *words])
        ablations.main()
        return (tmp_path / "page.md").read_text()

    first = main("--only", "base", "muadam")
    (base,) = json.loads((tmp_path / "page.json").read_text())["runs"]["base"]
    assert f"{base['rows'][-1]['mean']:.2f}" in re.search("^[|] base.*", first, re.M)[0]
    assert [row["step"] > 0 for row in base["rows"]] == [False, *[True] * 3]
    monkeypatch.setattr(ablations, "measured", None)
    assert main("--only", "base") == first  # what is there is not measured again
    (tmp_path / "page.md").unlink()
    (tmp_path / "w").rename(tmp_path / "elsewhere")
    assert main("--redraw") == first
