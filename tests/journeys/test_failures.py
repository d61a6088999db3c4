"""What a user sees when something fails, row by row of the design's table.

Divergence of one worker is in test_worker.py, SIGKILL and SIGTERM are in test_kill.py,
damaged artifacts in test_artifact.py, flags in test_overrides.py, and work directories
of other configs in test_workdir.py.
"""

import errno
import json
import shutil
import signal
import subprocess
import sys

import jax
import pytest
import tiny
import tiny_rule
from absl import flags
from places import ROOT
from toy_run import toy_run

import lopt
import meta_train.build
from common import command_line, disk, settings
from evaluation import evaluate
from evaluation.runs import entrants
from lopt import artifact
from meta_train import __main__ as command
from meta_train import checkpoint, logging
from meta_train.estimators import ESTIMATORS
from meta_train.loop import Progress, loop


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Returns a function that runs the command line here, on a run or a toy one."""
    before = {x: signal.getsignal(x) for x in command_line.CODES}
    cache = jax.config.jax_compilation_cache_dir
    flags.FLAGS.unparse_flags()

    def call(run=None, **failures):
        run = run or toy_run(**failures)
        monkeypatch.setattr(meta_train.build, "build", lambda config: run)
        monkeypatch.setattr(
            "meta_train.artifacts.export.export", lambda *_, **__: "no artifact"
        )
        arguments = ["--config=tests/helpers/tiny.py", f"--workdir={tmp_path}"]
        command.main(command.parse(["meta_train", *arguments]))

    monkeypatch.chdir(ROOT)
    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
    jax.config.update("jax_compilation_cache_dir", cache)


def shell(*arguments):
    """Returns how the command line ends in a process of its own."""
    words = [
        sys.executable,
        "-m",
        "meta_train",
        "--config=tests/helpers/tiny.py",
        *arguments,
    ]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


def refused(edit):
    """Returns the message with which a config, changed by `edit`, is refused."""
    config = settings.resolve(tiny.get_config())
    edit(config)
    with pytest.raises(ValueError) as error:
        meta_train.build.build(config)
    return str(error.value)


# A misspelt or missing config key.


def test_misspelt_flag_names_the_key_and_its_nearest_neighbour(tmp_path):
    workdir = tmp_path / "run"
    ended = shell("--config.outer.learing_rate=1e-3", f"--workdir={workdir}")
    assert ended.returncode == 1
    expected = "config.outer has no key 'learing_rate'; did you mean 'learning_rate'?"
    assert ended.stderr == f"error: {expected}\n"
    assert not workdir.exists(), "something was begun"


SECTIONS = ["outer", "inner", "estimator", "log", "checkpoint", "validation"]


@pytest.mark.parametrize("section", SECTIONS)
def test_misspelt_key_of_a_section_names_its_nearest_neighbour(section):
    key = sorted(tiny.get_config()[section])[0]

    def edit(config):
        config[section][f"{key}x"] = config[section].pop(key)

    message = refused(edit)
    assert f"config.{section} has no key '{key}x'; did you mean '{key}'?" in message


@pytest.mark.parametrize("section", ["rule", "family"])
def test_misspelt_argument_of_a_builder_names_its_nearest_neighbour(section):
    key = sorted(tiny.get_config()[section].args)[0]
    message = refused(lambda c: c[section]["args"].update({f"{key}x": 1}))
    expected = f"config.{section}.args has no key '{key}x'; did you mean '{key}'?"
    assert expected in message


def test_misspelt_section_names_its_nearest_neighbour():
    message = refused(lambda c: c.update(outr=c.pop("outer")))
    assert "config has no key 'outr'; did you mean 'outer'?" in message


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (lambda c: c.pop("rule"), "config.rule"),
        (lambda c: c["outer"].pop("num_steps"), "config.outer.num_steps"),
        (lambda c: c["inner"].pop("window"), "config.inner.window"),
        (lambda c: c["rule"].pop("name"), "config.rule.name"),
        (lambda c: c["family"]["args"].pop("noise"), "config.family.args.noise"),
        (lambda c: c["estimator"].pop("name"), "config.estimator.name"),
    ],
)
def test_missing_key_is_named(edit, key):
    assert f"set {key}." in refused(edit)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("checkpoint", {"keep": 1}, "keep >= 2, got keep=1"),
        ("outer", {"average": 1.0}, "0 <= average < 1"),
        ("outer", {"clip": 0.0}, "clip > 0"),
        ("outer", {"warmup_steps": 900, "num_steps": 900}, "warmup_steps < num_steps"),
        ("estimator", {"num_workers": 0}, "positive multiple of the number of devices"),
        ("validation", {"lengths": (0,)}, "lengths"),
        ("inner", {"window": (1, 2, 3)}, "window must be two integers"),
        ("inner", {"horizon": (5,)}, "horizon must be two integers"),
        ("inner", {"schedule": {"name": "cosin", "peak": 1.0}}, "known: constant, "),
        ("inner", {"schedule": {"name": "cosine", "peek": 1.0}}, "mean 'peak'"),
        ("inner", {"schedule": {"name": "cosine"}}, "set config.inner.schedule.peak"),
    ],
)
def test_value_out_of_range_is_refused_before_anything_is_begun(
    section, values, message
):
    assert message in refused(lambda c: c[section].update(values))


SETTINGS = [("pes", "noise"), ("bootstrapped", "target"), ("implicit", "solver")]


@pytest.mark.parametrize(("name", "section"), SETTINGS)
@pytest.mark.parametrize("value", [None, 0.1])
def test_settings_that_are_no_section_are_refused(name, section, value):
    estimator = {"name": name, "args": {section: value}}
    message = refused(lambda c: c["estimator"].update(estimator))
    assert f"args.{section} must hold keys and values" in message


def test_what_only_tracing_finds_is_refused_before_anything_is_begun(main, tmp_path):
    config = tiny.get_config("bootstrapped")
    config.estimator.args.matching = "kl"  # of a quadratic, without predictions
    run = meta_train.build.build(config)
    with pytest.raises(SystemExit, match="this task has no logits"):
        main(run)
    assert [x.name for x in tmp_path.iterdir()] == [disk.LOCK]


def test_empty_time_inputs_list_the_known():
    message = refused(lambda c: c["rule"]["args"].update(time=()))
    assert "time is empty; known: absolute, relative, log" in message


# An unknown task, rule, estimator or checkpoint.


@pytest.mark.parametrize("section", ["rule", "family", "estimator"])
def test_unknown_name_lists_the_known_ones(section):
    message = refused(lambda c: c[section].update(name="nonesuch"))
    known = {
        "rule": "mlp",
        "family": "mlp, quadratic",
        "estimator": ", ".join(sorted(ESTIMATORS)),
    }
    assert "unknown" in message and known[section] in message


# Every list of names offers the nearest.
NEAREST = [
    ("rule", {"name": "mpl"}, "mlp"),
    ("family", {"name": "train-v11"}, "train-v1"),
    ("family", {"name": "qadratic"}, "quadratic"),
    ("estimator", {"name": "pess"}, "pes"),
    ("validation", {"suite": "valid-1"}, "valid-v1"),
    ("inner", {"schedule": {"name": "cosin", "peak": 1.0}}, "cosine"),
    ("inner", {"reduce": "men"}, "mean"),
    ("theta", {"frozen": ("decay",)}, "decays/rms"),
    ("theta", {"start": "mu_mpl"}, "mu_mlp"),
]


@pytest.mark.parametrize(("section", "values", "nearest"), NEAREST)
def test_unknown_names_of_a_config_offer_the_nearest(section, values, nearest):
    message = refused(lambda c: c.setdefault(section, {}).update(values))
    assert message.endswith(f"Did you mean {nearest!r}?")


FEW = (0, 1)  # seeds
WIDTHS = lopt.mup.infer({"x": (8,)}, {"x": (8,)})
OTHERS = {
    "rule": (lambda: lopt.load("mu_mpl"), "mu_mlp"),
    "optimizer": (lambda: entrants.find(["adamm"]), "adam"),
    "reference": (lambda: evaluate("adam", "smoke-v1", FEW, reference="adm"), "adam"),
    "suite": (lambda: evaluate("sgdm", "smok-v1", FEW), "smoke-v1"),
    "variant": (lambda: tiny.demo("quik"), "quick"),
    "like": (lambda: lopt.mup.scale_updates(WIDTHS, like="adm"), "adam"),
    "field": (lambda: artifact.annotate(".", verdct="good"), "verdict"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_unknown_names_elsewhere_offer_the_nearest(name):
    call, nearest = OTHERS[name]
    with pytest.raises(ValueError, match=rf"Did you mean '{nearest}'\?$"):
        call()


def test_a_run_in_place_of_its_artifact_is_answered_with_the_artifact(tmp_path):
    tiny_rule.save(tmp_path / "run" / "artifact")
    for wrong in ("run", "run/artifact/card.json"):
        with pytest.raises(ValueError, match="did you mean '.*/run/artifact'"):
            lopt.load(tmp_path / wrong, num_steps=10)


def test_an_artifact_below_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_rule.save(tmp_path / "artifact")
    assert lopt.read("~/artifact").card["schema"]


def test_unknown_checkpoint_lists_the_released_ones():
    with pytest.raises(ValueError, match="released: "):
        lopt.load("nonesuch", num_steps=10)


@pytest.mark.parametrize("config", ["configs/demo.py:quik", "configs/nonesuch.py"])
@pytest.mark.parametrize("module", ["meta_train", "evaluation"])
def test_unknown_config_ends_either_command_with_one_line(module, config, tmp_path):
    words = [
        sys.executable,
        "-m",
        module,
        f"--config={config}",
        f"--workdir={tmp_path}",
    ]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr


def test_unknown_name_ends_the_command_with_one_line(tmp_path):
    workdir = tmp_path / "run"
    ended = shell("--config.estimator.name=pess", f"--workdir={workdir}")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: unknown estimator 'pess'; known: ")
    assert not workdir.exists()


# A dataset that is not on disk.


def test_absent_dataset_names_the_directory_and_the_cure(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    config = tiny.demo("quick")
    config.family.args.dataset = "mnist"
    with pytest.raises(FileNotFoundError) as error:
        meta_train.build.build(config)
    assert str(tmp_path) in str(error.value)
    assert "python -m tasks.data.prepare mnist" in str(error.value)


# Every worker diverges, or theta turns non-finite.


# Without valid workers theta stands still, and is as good as it was.
@pytest.mark.parametrize(
    ("failure", "last"), [({"nan_at": 12}, 10), ({"barren_from": 12}, 20)]
)
def test_failed_run_exits_nonzero_and_names_the_last_good_checkpoint(
    main, tmp_path, failure, last
):
    with pytest.raises(SystemExit) as ended:
        main(num_steps=40, **failure)
    assert str(ended.value.code).startswith("error: Meta-training stopped: ")
    assert f"last good checkpoint is {tmp_path}/checkpoints/{last}." in ended.value.code
    assert not (tmp_path / "artifact").exists()


# A full disk.


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_at(step):
    """Returns what seals checkpoints, all but one."""
    seal = checkpoint._seal
    return lambda directory: (full if directory.name == step else seal)(directory)


@pytest.mark.filterwarnings("ignore:Damaged checkpoint")
@pytest.mark.parametrize(
    ("module", "name", "function", "file", "last"),
    [
        (checkpoint, "_seal", full_at("5"), "checkpoints/5", None),
        (checkpoint, "_seal", full_at("15"), "checkpoints/15", 10),
        (logging, "_jsonable", full, "metrics.jsonl", None),
    ],
)
def test_full_disk_is_one_line_and_the_same_command_goes_on(
    main, monkeypatch, tmp_path, module, name, function, file, last
):
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(module, name, function)
        main()
    good = f"the last good checkpoint is {tmp_path}/checkpoints/{last}"
    assert ended.value.code == (
        "error: Meta-training stopped: the disk is full: no room for "
        f"{tmp_path / file}; {good if last else 'there is no checkpoint'}; the same "
        "command goes on once there is room."
    )
    main()
    assert checkpoint.damage(tmp_path / "checkpoints" / "20") is None


def test_a_checkpoint_is_not_begun_where_its_bytes_find_no_room(monkeypatch, tmp_path):
    keeper = checkpoint.manager(tmp_path, keep=2)
    state = {"x": jax.numpy.ones([1000, 1000])}  # 4 MB
    usage = shutil.disk_usage(tmp_path)
    for free, whole in ((4_500_000, False), (6_000_000, True)):
        short = usage._replace(free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda path, short=short: short)
        if whole:
            checkpoint.save(keeper, 7, state=state, notes={})
        else:
            with pytest.raises(disk.DiskFull, match="no room for .*/7$"):
                checkpoint.save(keeper, 7, state=state, notes={})
        assert [x.name for x in tmp_path.iterdir()] == ["7"][: int(whole)]


# Another process, or no checkpoints.


def test_a_second_process_in_a_work_directory_is_refused(main, tmp_path):
    with disk.held(tmp_path), pytest.raises(SystemExit, match="is in use by"):
        main()
    assert [x.name for x in tmp_path.iterdir()] == [disk.LOCK]


def test_a_finished_run_without_its_checkpoints_begins_again_with_a_warning(
    main, capsys, tmp_path
):
    main(num_steps=5)
    assert "warning" not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "checkpoints")
    main(num_steps=5)
    said = capsys.readouterr().out
    assert f"warning: {tmp_path}/metrics.jsonl goes to meta-step 5, but there" in said


# A damaged checkpoint.


def test_resume_falls_back_to_the_newest_whole_checkpoint(tmp_path):
    whole = loop(toy_run(), tmp_path)
    file = tmp_path / "checkpoints" / "20" / "state" / "manifest.ocdbt"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"{file}: its SHA-256 is not the one in"):
        again = loop(toy_run(), tmp_path)
    assert again.step == 20
    assert again.meta.theta["w"].tolist() == whole.meta.theta["w"].tolist()
    assert checkpoint.damage(tmp_path / "checkpoints" / "20") is None


def test_run_with_no_whole_checkpoint_starts_again(tmp_path):
    whole = loop(toy_run(num_steps=5), tmp_path)
    (tmp_path / "checkpoints" / "5" / "SHA256SUMS").unlink()
    with pytest.warns(UserWarning, match="5/SHA256SUMS: missing"):
        again = loop(toy_run(num_steps=5), tmp_path)
    assert again.meta.theta["w"].tolist() == whole.meta.theta["w"].tolist()


# A work directory of another config.


def test_workdir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    ended = shell(f"--workdir={tmp_path / 'file' / 'run'}")
    assert ended.returncode == 1
    assert "Not a directory" in ended.stderr and "Traceback" not in ended.stderr


def test_resolved_config_is_on_disk_before_the_first_step(monkeypatch, tmp_path, main):
    def first_step(run, workdir, *, stop):
        assert json.loads((workdir / "config.json").read_text()) == run.config
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        return Progress(meta=None, best=None)

    monkeypatch.setattr("meta_train.loop.loop", first_step)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
