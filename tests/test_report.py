import functools
import html
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from evaluation import page, plots, report, scores
from evaluation import summary as summaries
from tests.test_evaluation_protocol import LENGTHS, REPORTING, results

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
ROOT = Path(__file__).parent.parent


@functools.cache
def written():
    """Returns a directory with the report of the toy evaluation."""
    directory = Path(tempfile.mkdtemp())
    report.write(results(), directory, console=Console(file=io.StringIO()))
    return directory


def said(found=None):
    return summaries.summary(found or results(), reference="adam")


def replaced(name, value):
    """Returns the results with every value of one optimizer replaced."""
    entries = []
    for e in results().entries:
        if e.name == name:
            changed = e.curves._replace(train=np.full_like(e.curves.train, value))
            values = np.full_like(e.values, value)
            e = e._replace(values=values, curves=changed)
        entries.append(e)
    return results()._replace(entries=tuple(entries))


def test_results_hold_the_numbers_of_every_entry():
    rows = json.loads((written() / "results.json").read_text())["rows"]
    for row, entry in zip(rows, results().entries, strict=True):
        assert row["values"] == pytest.approx(entry.values.tolist())
        assert row["mean"] == pytest.approx(np.mean(entry.values), rel=1e-5)
        assert row["low"] <= row["mean"] <= row["high"]
        assert bool(row["hyperparameters"]) == (row["name"] == "adam")


def test_results_state_budget_seeds_and_versions():
    found = json.loads((written() / "results.json").read_text())
    spent = {"trials": 3, "tuning_seeds": 2, "tuning_steps": 3 * 2 * sum(LENGTHS)}
    assert found["budget"]["adam"] == spent | {"reporting_seeds": 3}
    assert found["budget"]["mine"]["trials"] == 0
    assert found["settings"]["reporting_seeds"] == list(REPORTING)
    assert found["environment"]["jax"] and found["seconds"]["compile"] > 0


def test_curves_are_kept():
    arrays = np.load(written() / "curves.npz")
    entry = results().entries[0]
    name = f"{entry.name}/{entry.num_steps}/{entry.metric}"
    np.testing.assert_array_equal(arrays[f"{name}/train"], entry.curves.train[0])


def test_comparisons_are_paired_with_the_best_baseline():
    for c in said()["comparisons"]:
        mine, adam = (
            next(
                e.values
                for e in results().entries
                if (e.name, e.num_steps, e.metric)
                == (name, c["num_steps"], c["metric"])
            )
            for name in ("mine", "adam")
        )
        expected = scores.interval(mine - adam)
        assert c["difference"] == pytest.approx(expected._asdict())


@pytest.mark.parametrize(
    "value, words",
    [
        (0.0, "is better than every tuned baseline in mean training loss, final"),
        (9.0, "is worse than adam in mean training loss, final"),
        (np.inf, "is without a finite mean training loss, final"),
    ],
)
def test_the_verdict_says_who_is_better(value, words):
    verdict = said(replaced("mine", value))["verdict"]
    assert len(verdict) == len(LENGTHS) and all(words in line for line in verdict)


def test_equal_optimizers_are_level():
    same = {(e.num_steps, e.metric): e for e in results().entries if e.name == "adam"}
    entries = [
        e._replace(values=same[e.num_steps, e.metric].values) for e in results().entries
    ]
    found = said(results()._replace(entries=tuple(entries)))
    assert {c["outcome"] for c in found["comparisons"]} == {"level"}


def test_a_divergence_is_shown_and_never_a_number():
    found = said(replaced("mine", np.inf))
    json.dumps(found, allow_nan=False)
    cells = page.tables(found)[0].lines[0].cells
    assert {cell.mean for cell in cells} == {"3 of 3 diverged"}
    plots.figure(replaced("mine", np.inf))
    plots.figure(replaced("mine", np.nan))


def test_the_lowest_of_each_column_is_marked_once():
    for table in page.tables(said()):
        for column in zip(*(line.cells for line in table.lines), strict=True):
            assert sum(cell.lowest for cell in column) == 1


def test_off_a_terminal_there_are_plain_lines():
    stream = io.StringIO()
    report.show(said(), Console(file=stream, width=40))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith(f"{LENGTHS[0]} steps  mine (not tuned): mean training")
    assert lines[-1] == said()["verdict"][-1] and "─" not in stream.getvalue()


def test_on_a_terminal_there_is_a_table():
    stream = io.StringIO()
    report.show(said(), Console(file=stream, width=120, force_terminal=True))
    assert "validation loss" in stream.getvalue() and "─" in stream.getvalue()


def test_the_picture_is_a_png():
    assert (written() / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_self_contained_and_described():
    text = (written() / "index.html").read_text()
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,20})', text)
    assert len(sources) == 1 + 2 * 2 * len(LENGTHS)
    assert all(source.startswith("data:") for source in sources)
    alts = re.findall(r'<img[^>]*alt="([^"]+)"', text)
    assert len(alts) == 2 * len(LENGTHS) and all("mine " in alt for alt in alts)
    assert text.index("Verdict") < text.index("Curves") < text.index("Protocol")
    assert all(html.escape(line) in text for line in said()["verdict"])


def test_names_are_escaped():
    renamed = [e._replace(name=f"<b>{e.name}") for e in results().entries]
    counts = {
        field: {f"<b>{k}": v for k, v in getattr(results(), field).items()}
        for field in ("trials", "state_bytes")
    }
    found = results()._replace(entries=tuple(renamed), **counts)
    assert "<b>mine" not in page.page(found, said(found))


PROBE = """<script>onload = () => parent.postMessage(JSON.stringify({
  wide: document.documentElement.scrollWidth, window: innerWidth,
  broken: [...document.images].filter(image => !image.naturalWidth).length,
  images: document.images.length,
  ground: getComputedStyle(document.body).backgroundColor}), "*")</script>"""

# Windows are at least 500 pixels wide, so a phone is a frame.
FRAME = """<link rel="icon" href="data:,"><script>
onmessage = event => document.title = event.data</script>
<iframe src="page.html" style="border:0" width="{width}" height="900"></iframe>"""


def opened(directory, width, scheme):
    """Returns what Chromium finds in the page, and what it logs."""
    text = (written() / "index.html").read_text()
    (directory / "page.html").write_text(text.replace("</body>", PROBE + "</body>"))
    frame = directory / "frame.html"
    frame.write_text(FRAME.format(width=width))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={directory}/profile", "--enable-logging=stderr"]
    command += ["--window-size=1400,1000", "--virtual-time-budget=5000"]
    command += ["--blink-settings=preferredColorScheme=0"] * (scheme == "dark")
    done = subprocess.run(
        [*command, frame.as_uri()], capture_output=True, text=True, timeout=120
    )
    title = re.search("<title>(.*?)<", done.stdout)[1]
    return json.loads(html.unescape(title)), done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_in_a_browser(tmp_path, width, scheme):
    found, log = opened(tmp_path, width, scheme)
    assert "CONSOLE" not in log
    assert found["images"] == 2 * len(LENGTHS) and not found["broken"]
    assert found["wide"] <= found["window"] == width
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}
    assert found["ground"] == ground[scheme]


EVALUATE = """
import runpy
c = runpy.run_path("configs/evaluate.py")["get_config"]("quick").unlock()
"""


def command_line(workdir, *flags, config="configs/evaluate.py:quick"):
    command = [sys.executable, "-m", "evaluation", f"--workdir={workdir}"]
    command += [f"--config={config}", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_command_line_writes_a_report(tmp_path):
    done = command_line(tmp_path, "--config.optimizers=adam")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "results.json", "curves.png", "index.html"}
    assert "4 steps  adam (39 trials): mean training loss" in done.stdout


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--config.optimizers=adam,admw", "'admw' is no baseline (sgdm, adam, adamw"),
        ("--config.optimisers=adam", "optimisers"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, flag, words):
    done = command_line(tmp_path, flag)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not any(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    "edit, words",
    [
        ("c.family.args.widht = 4", "config.family.args has no key 'widht'; did you m"),
        ("c.reporting_seed = (1, 2)", "no key 'reporting_seed'; did you mean 'report"),
        ("del c.reference", "config lacks the key 'reference'; set config.reference."),
    ],
)
def test_a_config_of_wrong_keys_is_refused(tmp_path, edit, words):
    config = tmp_path / "config.py"
    config.write_text(f"{EVALUATE}\ndef get_config():\n  {edit}\n  return c")
    done = command_line(tmp_path, config=config)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not any(tmp_path.glob("*.json"))
