"""Text is UTF-8 on disk and on the way there, whatever the locale."""

import ast

import pytest
from places import ROOT

PLACES = (
    "common",
    "lopt",
    "tasks",
    "evaluation",
    "meta_train",
    "benchmarks",
    "configs",
)


def careless(source):
    """Yields the lines of calls that read or write text in the locale's encoding."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {x.arg: getattr(x.value, "value", None) for x in call.keywords}
        modes = [*given.values(), *(getattr(x, "value", None) for x in call.args)]
        binary = any(isinstance(x, str) and x in ("rb", "wb", "ab") for x in modes)
        opens = name in ("read_text", "write_text") or name == "open" and not binary
        if "encoding" not in given and (opens or given.get("text") is True):
            yield call.lineno


@pytest.mark.parametrize("place", PLACES)
def test_every_text_file_names_its_encoding(place):
    found = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / place).rglob("*.py")
        if (lines := [*careless(path.read_text(encoding="utf-8"))])
    }
    assert not found


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "path.open('a')",
        "subprocess.run(words, text=True)",
    ],
)
def test_a_call_that_leaves_it_to_the_locale_is_seen(call):
    assert [*careless(call)] == [1]


@pytest.mark.parametrize("call", ["read_text(encoding='utf-8')", "open(path, 'wb')"])
def test_a_call_that_does_not_is_none(call):
    assert not [*careless(call)]
