"""Where something was made: the revision of this code, and of no other."""

import subprocess

import jax
import pytest

from common import machine


@pytest.mark.parametrize("tracked", [True, False])
def test_revision_is_of_this_code_and_not_of_a_repository_around_it(
    tmp_path, monkeypatch, tracked
):
    file = tmp_path / "evaluation" / "machine.py"
    file.parent.mkdir()
    file.write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    commands = [["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]]
    commands[1:1] = [["add", "."]] if tracked else []
    for words in commands:
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(machine, "__file__", str(file))
    clean, changed = machine.revision(), []
    assert (clean is not None and len(clean) == 40) if tracked else clean is None
    for text in ("a = 1", "a = 2", "a = 1"):
        file.write_text(text)
        changed.append(machine.revision())
    if tracked:
        assert changed[0].startswith(f"{clean}-dirty-") and len(changed[0]) == 59
        assert changed[0] == changed[2] != changed[1]
        subprocess.run([*git, "checkout", "-q", "."], check=True)
        assert machine.revision() == clean
        (tmp_path / "mine.py").write_text("of no commit")
        assert machine.revision().startswith(f"{clean}-dirty-")
    else:
        assert changed == [None] * 3


@pytest.mark.parametrize(("platform", "there"), [("cpu", False), ("gpu", True)])
def test_what_is_no_cpu_is_an_accelerator(monkeypatch, platform, there):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert machine.accelerated() == there
