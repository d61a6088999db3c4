"""How optimizers look: each as ever, no two alike; and how small pictures are."""

import xml.etree.ElementTree as ET

import pytest
from results import changed
from results import results as toy

import lopt
from common.canvas import LIGHT
from evaluation.report import panels, style
from lopt.baselines import BASELINES


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


def test_pictures_are_small_and_keep_their_text():
    found = changed(toy(), "mine", "bowl", lambda x: x._replace(train=x.train / 1000))
    draw = panels.curves(found, "bowl", "train")
    svg = style.svg(draw, toy().settings["optimizers"], LIGHT)
    texts = [
        x.text for x in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"0.001", "0.01", "mine", "adam", "training loss"} <= {*texts}
    assert len(svg) < 40_000 and "fill-opacity:0.15" in svg
