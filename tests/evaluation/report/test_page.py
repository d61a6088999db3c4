"""The page: in itself whole, its words and numbers, and how browsers show it."""

import functools
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from results import ERROR, RATES, TASKS, changed, renamed
from results import results as toy

from evaluation.report import page, wording
from evaluation.report.summary import summary
from evaluation.runs import tuning

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
PICTURES = 2 + 1 + 2 * len(TASKS)  # intervals, growth, curves


@functools.cache
def text():
    return page.page(toy(), summary(toy()))


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


def test_the_page_says_how_large_tasks_are_and_what_that_decides():
    table = text()[text().index("How large tasks are") :]
    table = re.sub(r"\s+", " ", table[: table.index("</p>")])
    assert "<td>2,000 tokens in 4 examples</td> <td>200</td> <td>1,234</td>" in table
    assert table.endswith(f'<p class="soft">{wording.PROPORTION}')


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


def test_every_tuning_protocol_is_explained():
    assert page.PROTOCOLS.keys() == tuning.PROTOCOLS.keys()
