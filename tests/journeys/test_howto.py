"""The pages of docs/howto are executed: files, then programs and commands, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
ELSEWHERE = {"add_a_family.md"}  # test_adding_a_family.py does what it says
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def blocks(page):
    """Yields (language, text) of each block of code."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.M)


def run(words, place):
    """Runs a command in a folder, where it must succeed."""
    done = subprocess.run(
        words,
        cwd=place,
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, (words, done.stdout[-1000:], done.stderr[-2000:])
    return done.stdout


def execute(page, place):
    """Writes the files of a page, then runs its programs as one, and its commands."""
    program, commands = "", []
    for language, text in blocks(page):
        named = re.match(r"# (in )?(\w+\.py)\n", text)
        if named:
            with (place / named[2]).open("a") as file:
                file.write(text)
        elif language == "python":
            program += text
        elif language == "sh":
            commands.append(text)
    if program:
        run([sys.executable, "-c", program], place)
    return [run(["bash", "-ec", command], place) for command in commands]


@pytest.mark.parametrize(
    "page", [x for x in PAGES if x.name not in ELSEWHERE], ids=lambda x: x.stem
)
def test_a_page_runs_from_its_first_line_to_its_last(page, tmp_path):
    if page.stem == "train":  # commands are those of the house all the same
        for name in ("tasks", "evaluation", "meta_train", "common", "configs"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    printed = execute(page, tmp_path)
    assert page.stem != "train" or "metrics 20" in printed[0]
    made = [x for x in tmp_path.glob("runs/*/artifact/card.json")]
    assert made or page.stem in ("load", "judge")


def test_every_page_is_executed():
    assert {x.name for x in PAGES} >= ELSEWHERE
    assert len(PAGES) == 8
    assert all(list(blocks(page)) for page in PAGES)
