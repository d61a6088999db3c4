"""Names: of tables, of modules and attributes, and what is said of unknown ones."""

import pytest

import lopt.names
from common import names

KINDS = ("LearnedOptimizer",)


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """Makes a module `outside` that can be imported."""
    text = """
import lopt


def rule() -> lopt.LearnedOptimizer: ...
def said() -> "lopt.LearnedOptimizer": ...
def other() -> int: ...
def silent(): ...


NUMBER = 3
"""
    (tmp_path / "outside.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("find", [names.find, lopt.names.find])
class TestFind:
    def test_a_key_of_the_table_comes_first(self, find):
        assert find("thing", "outside:NUMBER", {"outside:NUMBER": 5}) == 5
        assert find("thing", "outside:NUMBER", {"a": 5}) == 3

    @pytest.mark.parametrize("name", ["rule", "said"])
    def test_a_function_that_says_what_it_returns_is_found(self, find, name):
        assert find("rule", f"outside:{name}", {}, *KINDS).__name__ == name

    @pytest.mark.parametrize("name", ["outside:other", "outside:silent", "os:system"])
    def test_a_function_that_does_not_is_refused(self, find, name):
        with pytest.raises(ValueError, match="annotated `-> LearnedOptimizer`"):
            find("rule", name, {}, *KINDS)

    @pytest.mark.parametrize("name", ["nowhere:x", "outside:nothing", ":x", "outside:"])
    def test_what_is_not_there_is_named(self, find, name):
        with pytest.raises(ValueError, match=f"rule {name!r} cannot be imported"):
            find("rule", name, {})

    def test_a_plain_name_lists_the_known_and_the_nearest(self, find):
        with pytest.raises(ValueError, match=r"known: mlp, vit\. Did you mean 'mlp'"):
            find("family", "mpl", {"mlp": 1, "vit": 2})


@pytest.mark.parametrize("text", ["quik", "pes,nres", "quick,pess"])
def test_variants_are_known_and_of_those_that_exclude_each_other_one(text):
    with pytest.raises(ValueError, match="join by commas `quick` and at most one of"):
        names.variants(text, ["quick"], one_of=["pes", "nres"])
