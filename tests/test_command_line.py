"""The plan as a command line: whatever shell it is pasted into, the run that comes of it has the very same plan."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_core import plan as plans
from aegis_core.command_line import Shell, assignment, flat, new_command, quoted
from aegis_core.failures import UserError
from aegis_core.plan import Plan, changed, demo_plan
from aegis_core.run_directory import RunDirectory

AWKWARD = changed(
    demo_plan(),
    {
        "chat.system": "Say \"yes\" & 'no' for 50% of %PATH%, $HOME `x` ^ <b> | ‘そう’ (1;2) \\",
        "data.text_field": "質問 と答え",
        "export.types": ["f16", "q8_0"],
        "export.directory": "D:\\モデル 置き場\\",
        "lora.targets": ["q_proj", "1e5", "o proj"],
        "search.ranks": [8, 16],
        "train.learning_rate": 1e-3,
        "soul.calibrate": False,
        "report.language": "ja",
    },
)


def windows_words(line: str) -> list[str]:
    """What Microsoft's C library makes of a command line: the documented rules, including "" within quotes."""
    words, word, begun, inside, place = [], "", False, False, 0
    while place < len(line):
        sign = line[place]
        if sign == "\\":
            run = len(line[place:]) - len(line[place:].lstrip("\\"))
            before_quote = line[place + run : place + run + 1] == '"'
            word += "\\" * (run // 2 if before_quote else run)
            place += run
            begun = True
            if before_quote and run % 2:
                word += '"'
                place += 1
        elif sign == '"':
            begun = True
            if inside and line[place + 1 : place + 2] == '"':
                word += '"'
                place += 1
            else:
                inside = not inside
            place += 1
        elif sign in " \t" and not inside:
            if begun:
                words.append(word)
            word, begun = "", False
            place += 1
        else:
            word, begun = word + sign, True
            place += 1
    return [*words, word] if begun else words


def cmd_sees(line: str) -> tuple[bool, list[str]]:
    """Whether cmd would take a sign of the line for its own, and the names it would replace: text between two %."""
    inside = special = False
    for sign in line:
        if sign == '"':
            inside = not inside
        elif sign in "&|<>^()" and not inside:
            special = True
    return special, line.split("%")[1:-1:1]


@pytest.mark.parametrize("plan", [Plan(), demo_plan(), AWKWARD], ids=["default", "demo", "awkward"])
@pytest.mark.skipif(os.name == "nt", reason="sh")
def test_the_line_run_by_a_shell_begins_a_run_with_the_same_plan(plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "new 'run' $HOME 実行"
    line = new_command(folder, plan, "sh")
    assert line.startswith("aegis new ")
    script = f'aegis() {{ {shlex.quote(sys.executable)} -m aegis_core "$@"; }}\n{line}\n'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert RunDirectory.open(folder).plan() == plan


@pytest.mark.parametrize("shell", ["powershell", "cmd"])
@pytest.mark.skipif(os.name != "nt", reason="Windows' own shells")
def test_windows_shells_begin_a_run_with_the_same_plan(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "new 'run' 実行"
    line = new_command(folder, AWKWARD, shell).replace("aegis", f'"{sys.executable}" -m aegis_core', 1)
    command = ["powershell", "-NoProfile", "-Command", f"& {line}"] if shell == "powershell" else f'cmd /s /c "{line}"'
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert RunDirectory.open(folder).plan() == AWKWARD


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_windows_reads_every_word_back(words: list[str]) -> None:
    assert windows_words(quoted(["aegis", *words], "cmd")) == ["aegis", *words]


@given(st.text('ab "%\\&^|<>', min_size=1))
def test_cmd_finds_nothing_of_its_own_in_a_word(word: str) -> None:
    line = quoted(["aegis", word], "cmd")
    special, names = cmd_sees(line)
    assert not special
    assert all('"' in name for name in names), "a name between two % that a variable could have"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters='"'), min_size=1))
def test_powershell_reads_a_word_in_single_quotes_back(word: str) -> None:
    line = quoted(["aegis", word], "powershell")
    if line.startswith("aegis --% "):
        assert windows_words(line.removeprefix("aegis --% ")) == [word]
        return
    written = line.removeprefix("aegis ")
    if written.startswith("'"):
        body = written[1:-1]
        for quote in "'‘’‚‛":
            assert body.count(quote) % 2 == 0
            body = body.replace(quote * 2, quote)
        written = body
    assert written == word


def test_a_quote_or_a_last_backslash_goes_past_what_versions_of_powershell_disagree_about() -> None:
    assert quoted(["aegis", "new", "C:\\実行 1", "--set", "a=b"], "powershell") == "aegis new 'C:\\実行 1' --set a=b"
    assert quoted(["aegis", 'a="b"'], "powershell") == 'aegis --% "a=""b"""'


def test_the_line_names_what_differs_and_nothing_else() -> None:
    line = new_command(Path("/r/x"), changed(demo_plan(), {"train.steps": 90}), "sh")
    assert line == "aegis new /r/x --demo --set train.steps=90 --set report.language=ja"


def test_every_setting_survives_being_written_as_an_assignment() -> None:
    for name, value in flat(AWKWARD).items():
        assert plans.parsed(assignment(name, value)) == (name, value)


def test_a_line_break_is_refused_where_a_command_line_has_none() -> None:
    plan = changed(Plan(), {"chat.system": "one\ntwo"})
    for shell in ("powershell", "cmd"):
        with pytest.raises(UserError, match="The setting chat"):
            new_command(Path("x"), plan, shell)
    assert "one\ntwo" in new_command(Path("x"), plan, "sh")
