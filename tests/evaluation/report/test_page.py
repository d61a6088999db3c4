import functools
import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from results import (
    ERROR,
    RATES,
    SEEDS,
    STEPS,
    TASKS,
    changed,
    diverged,
    failed,
    renamed,
)
from results import results as toy

import lopt
from common.canvas import DARK, LIGHT
from evaluation.report import page, panels, pictures, style
from evaluation.report.summary import summary
from evaluation.scores import time_to_target
from lopt.baselines import BASELINES

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
PICTURES = 2 + 1 + 2 * len(TASKS)  # intervals, growth, curves


@functools.cache
def text():
    return page.page(toy(), summary(toy()))


def drawn(draw, optimizers=None):
    """Returns axes with a panel on them, and its lines by name."""
    axes = Figure().subplots()
    draw(axes, style.styles(optimizers or toy().settings["optimizers"], LIGHT))
    lines = {line.get_label(): line for line in axes.lines}
    return axes, {name: x for name, x in lines.items() if not name.startswith("_")}


def test_the_page_is_self_contained():
    sources = re.findall(r'(?:src|srcset)="([^"]{0,20})', text())
    assert len(sources) == 2 * PICTURES
    assert all(source.startswith("data:image/svg+xml") for source in sources)
    assert not re.search(
        r"<script|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\(", text()
    )


def test_the_first_table_has_five_measures_and_the_rest_is_folded():
    first, rest = text().split("<summary>More measures</summary>")[:2]
    assert first.count('<th scope="col">') == 1 + 5
    assert first.rstrip().endswith("<details>") and "peak memory" not in first
    folded = rest[: rest.index("</details>")]
    assert "peak memory" in folded and "AlgoPerf score, untuned" in folded


def test_the_page_says_when_and_by_what_it_was_made():
    assert "toy-v1: 3 tasks × 3 seeds, 2026-11-27" in text()
    end = html.unescape(text()[text().index("Environment") :])
    assert "By: python -m evaluation '--a=b c'" in end and "Code: f00d." in end
    assert "jax 0." in end and "optax" in end


@pytest.mark.parametrize("count, profiles", [(4, 0), (5, 2)])
def test_profiles_are_of_five_tasks_or_more(count, profiles, monkeypatch):
    monkeypatch.setattr(style, "svg", lambda *a, **k: "")
    found = tasks(count)
    assert len(list(pictures.profiles(found, "tuned"))) == profiles
    rows = []
    monkeypatch.setattr(style, "png", lambda draws, of: rows.extend(draws) or b"")
    pictures.readme(found, summary(found))
    assert len(rows) == (2 if profiles else 1)


def tasks(count):
    """Returns the bowl under so many names."""
    names = [f"bowl{i}" for i in range(count)]
    bowls = [x for x in toy().cells if x.task == "bowl"]
    settings = toy().settings
    same = dict.fromkeys(names, settings["tasks"]["bowl"])
    return toy()._replace(
        settings=settings | {"tasks": same},
        cells=tuple(x._replace(task=name) for name in names for x in bowls),
    )


def test_what_failed_is_in_no_picture_and_its_words_say_so():
    found = summary(failed(toy(), "mine"))
    speedups = panels.speedups(found.standings, found.settings["reference"])
    for draw in (speedups, panels.ratios(found)):
        labels = [x.get_text() for x in drawn(draw)[0].get_yticklabels()]
        assert "mine" not in labels and "sgdm" in labels
    said = page.page(failed(toy(), "mine"), found)
    assert "mine failed, adam 1.00" in said


def test_nothing_is_drawn_against_a_reference_that_stands_alone():
    found = failed(failed(toy(), "mine"), "sgdm")
    assert pictures.verdict(found, summary(found)) == []


def test_intervals_of_the_verdict_are_not_broken():
    headline = summary(toy()).verdict[0].headline
    assert headline not in text()
    assert headline.replace(", ", ",\N{NO-BREAK SPACE}") in text()


def test_links_lead_somewhere():
    anchors = re.findall(r'href="#([^"]+)"', text())
    assert len(anchors) > len(TASKS)
    assert {*anchors} <= {*re.findall(r'id="([^"]+)"', text())}


def test_the_verdict_is_first_and_the_protocol_last():
    parts = [
        "mine is at least 2.00 times as fast",
        "Over all tasks",
        "Failed and",
        "As tasks",
    ]
    parts += [f"{task}</h3>" for task in TASKS]
    parts += ["At equal compute</h2>", "Protocol</h2>", "Tuning budget", "Environment"]
    places = [text().index(part) for part in parts]
    assert places == sorted(places)


def test_pictures_say_their_numbers():
    alts = re.findall(r'<img[^>]*alt="([^"]+)"', text())
    assert len(alts) == PICTURES
    assert all(re.search(r"mine (at least )?\d", html.unescape(alt)) for alt in alts)
    assert any("sgdm diverged" in alt for alt in alts)
    assert any("sgdm failed" in alt for alt in alts)


def test_tables_say_what_their_cells_belong_to():
    assert text().count("<table") == text().count("<caption>") > len(TASKS)
    heads = re.findall(r"<th( [^>]*)?>", text())
    assert heads and all("scope=" in head for head in heads)


def test_failures_are_named():
    assert text().count(html.escape(ERROR)) == 2  # in a list, and in the task's table
    assert "sgdm on mlp-widthx2 diverged: seed 7" in text()


@pytest.mark.parametrize(
    "words", ["a note", "seeds 5, 6, 7.", "tuning seeds 1, 2 is", "1,440"]
)
def test_the_protocol_is_stated(words):
    protocol = text()[text().index('id="protocol"') :]
    assert words in re.sub(r"\s+", " ", protocol)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"protocol": "none"}, "Nothing is tuned: all run at their defaults. </dd>"),
        ({"transfer": True}, "For each task at factor 1 of its line and each of"),
        (
            {"transfer": True},
            "and tuned anew at each length, at factor 1 too.",
        ),
        ({}, "adam, run for 1, 2 times the steps of each task, and tuned anew at"),
    ],
)
def test_the_tuning_that_was_done_is_described(change, words):
    settings = toy().settings
    tuning = settings["tuning"] | change
    found = toy()._replace(settings=settings | {"tuning": tuning})
    said = re.sub(r"\s+", " ", page.page(found, summary(found)))
    assert words in said and "None" not in said


def test_hyperparameters_are_stated():
    assert text().count("learning rate 0.1, schedule linear") == 3 * 5  # metrics, cells


def test_names_are_escaped():
    found = renamed(toy(), {name: f"<b>{name}&" for name in RATES})
    said = page.page(found, summary(found))
    assert "<b>mine" not in said and "&lt;b&gt;mine&amp;" in said


def test_many_warnings_are_folded():
    found = toy()._replace(notes=tuple(f"note {i}" for i in range(11)))
    assert "<summary>11 warnings</summary>" in page.page(found, summary(found))
    assert "warnings</summary>" not in text()


def test_no_two_optimizers_look_alike_without_colour():
    many = {f"{i}": {"baseline": i > 2} for i in range(41)}
    looks = style.styles(many, LIGHT).values()
    assert len({(str(x["ls"]), x["marker"]) for x in looks}) == len(many)


def looks(*names):
    """Returns how each is drawn, whatever it is by."""
    known = {name: {"baseline": name in BASELINES} for name in names}
    return style.styles(known, LIGHT)


@pytest.mark.parametrize("name", ["adam", "muadam", "demo", "mine"])
def test_an_optimizer_looks_the_same_whatever_else_is_on_the_page(name):
    others = ("sgdm", "adamw", "yours", "learned", "mu_mlp")
    alone = looks(name)[name]
    assert looks(*others, name)[name] == looks(name, *others)[name] == alone


def test_looks_are_the_same_in_another_process():
    assert looks("mine")["mine"]["marker"] == "v"
    assert looks("adam")["adam"]["marker"] == style.MARKERS[[*BASELINES].index("adam")]


def test_house_baselines_and_released_rules_differ_in_colour():
    for names in (list(BASELINES)[:7], lopt.released()):
        colours = {x["color"] for x in looks(*names).values()}
        assert len(colours) == len(names)


def test_of_two_that_would_look_alike_the_later_by_name_gives_way(monkeypatch):
    monkeypatch.setattr(style, "_digest", lambda name: bytes(9))
    first, second = looks("a")["a"], looks("b", "a")
    assert second["a"] == first and looks("b")["b"] == first
    assert second["b"]["marker"] != first["marker"]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_lines_stand_out_from_the_ground(theme):
    for colour in (theme.ink, *theme.candidates, *theme.baselines):
        assert contrast(colour, theme.ground) >= 3  # WCAG 2.1, 1.4.11


def contrast(*colours):
    """Returns the contrast ratio of WCAG 2.1."""
    lights = []
    for colour in colours:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
        ]
        lights.append(np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05)
    return max(lights) / min(lights)


def test_pictures_are_small_and_keep_their_text():
    found = changed(toy(), "mine", "bowl", lambda x: x._replace(train=x.train / 1000))
    draw = panels.curves(found, "bowl", "train")
    svg = style.svg(draw, toy().settings["optimizers"], LIGHT)
    texts = [
        x.text for x in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"0.001", "0.01", "mine", "adam", "training loss"} <= {*texts}
    assert len(svg) < 40_000 and "fill-opacity:0.15" in svg


@pytest.mark.parametrize("split, offset", [("train", 0.0), ("valid", 0.1)])
def test_lines_are_means_over_seeds(split, offset):
    lines = drawn(panels.curves(toy(), "bowl", split))[1]
    assert lines.keys() == {"mine", "adam"}  # sgdm failed
    start = 1 + np.mean(SEEDS) / 10
    first = start * (1 if split == "valid" else 2**-0.5) + offset
    assert lines["adam"].get_ydata()[0] == pytest.approx(first)
    assert lines["adam"].get_xdata()[-1] == STEPS


@pytest.mark.parametrize("split, metric", [("train", "final"), ("valid", "valid")])
def test_lines_are_of_what_was_tuned_for_them(split, metric):
    found = changed(
        toy(),
        "adam",
        "bowl",
        lambda x: x._replace(train=x.train + 1, valid=x.valid + 1),
    )
    cells = [
        x._replace(chosen=x.chosen | {metric: toy().cell("adam", "bowl").best(metric)})
        if (x.optimizer, x.task) == ("adam", "bowl")
        else x
        for x in found.cells
    ]
    draws = [
        panels.curves(one, "bowl", split)
        for one in (toy(), found._replace(cells=tuple(cells)))
    ]
    expected, line = (drawn(draw)[1]["adam"].get_ydata() for draw in draws)
    np.testing.assert_array_equal(line, expected)


def test_a_line_ends_where_a_run_diverges():
    line = drawn(panels.curves(toy(), "mlp-widthx2", "train"))[1]["sgdm"]
    ends = np.isfinite(line.get_ydata())
    assert ends.tolist() == [True] * (STEPS // 2) + [False] * (STEPS // 2)


@pytest.mark.parametrize("shift, scale", [(0.0, "log"), (-1.0, "linear")])
def test_the_scale_is_logarithmic_where_all_losses_are_positive(shift, scale):
    found = changed(toy(), "mine", "bowl", lambda x: x._replace(train=x.train + shift))
    assert drawn(panels.curves(found, "bowl", "train"))[0].get_yscale() == scale


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.filterwarnings("error")
def test_runs_that_blow_up_leave_a_picture_of_the_others(value):
    found = diverged(toy(), "mine", "bowl", seeds=[0, 1, 2], value=value)
    low, high = drawn(panels.curves(found, "bowl", "train"))[0].get_ylim()
    assert low < 0.3 < high < 30


def test_profiles_are_shares_of_tasks():
    times = {"steps": np.array([[10.0, 10.0, np.inf], [15.0, 5.0, np.inf]])}
    pool = time_to_target.Pool(["a", "b"], ["x", "y", "z"], times)
    known = {name: {"baseline": True} for name in "ab"}
    lines = drawn(panels.profile(pool, "steps"), known)[1]
    for name, solved in (("a", [(1.0, 1), (2.0, 2)]), ("b", [(1.0, 1), (1.5, 2)])):
        line = dict(zip(*lines[name].get_data(), strict=True))
        assert [line[tau] for tau, _ in solved] == [count / 3 for _, count in solved]
        assert lines[name].get_drawstyle() == "steps-post"


def test_growth_is_drawn_against_its_factor_and_divergence_at_the_edge():
    axes, lines = drawn(panels.growth(toy(), "mlp width"))
    assert lines["adam"].get_xdata().tolist() == [1, 2]
    assert axes.get_xscale() == "log"
    assert np.isnan(lines["sgdm"].get_ydata()).tolist() == [False, True]
    edge = [x for x in axes.lines if x.get_linestyle() == "None" and len(x.get_xdata())]
    (mark,) = edge
    assert mark.get_ydata().tolist() == [1.0] and mark.get_xdata()[0] >= 2


PROBE = """<script>onload = () => parent.postMessage(JSON.stringify({
  wide: document.documentElement.scrollWidth, window: innerWidth,
  broken: [...document.images].filter(image => !image.naturalWidth).length,
  images: document.images.length,
  dark: [...document.images].filter(image =>
    image.currentSrc == image.parentNode.querySelector("source").srcset).length,
  verdict: document.querySelector(".verdict").getBoundingClientRect().bottom,
  table: document.querySelector("table").getBoundingClientRect().top,
  ground: getComputedStyle(document.body).backgroundColor}), "*")</script>"""

# Windows are at least 500 pixels wide, so a phone is a frame.
FRAME = """<link rel="icon" href="data:,"><script>
onmessage = event => document.title = event.data</script>
<iframe src="page.html" style="border:0" width="{width}" height="900"></iframe>"""


def opened(directory, width, scheme):
    """Returns what Chromium finds in the page, and what it logs."""
    probed = text().replace("</body>", PROBE + "</body>")
    (directory / "page.html").write_text(probed)
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
    assert found["images"] == PICTURES and not found["broken"]
    assert found["dark"] == (PICTURES if scheme == "dark" else 0)
    assert found["wide"] <= found["window"] == width
    assert found["verdict"] < found["table"] < 400  # on the first screen
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}
    assert found["ground"] == ground[scheme]


def test_what_is_nan_from_the_first_update_and_odd_names_are_shown():
    def spoilt(found):
        return type(found)(*(np.full_like(x, np.nan) for x in found))

    found = toy()
    for task in TASKS:
        found = changed(found, "mine", task, spoilt)
    named = renamed(found, {"mine": "a$_$b", "sgdm": "<sgdm>", "adam": "adam"})
    written = page.page(named, summary(named))
    assert "a$_$b" in written and "&lt;sgdm&gt;" in written
    assert "diverged" in written
