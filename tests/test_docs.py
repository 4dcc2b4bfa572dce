"""The documents against the code: what they name is there, and what is there is named."""

import ast
import dataclasses
import functools
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.core import TyperGroup

from aegis_core import events, pipeline, plan
from aegis_core.chat.history import FOLDER
from aegis_core.chat.overruling import Overrule
from aegis_core.cli import app
from aegis_core.failures import UsageError
from aegis_core.models.identity import BaseModel
from aegis_core.plan import Plan
from aegis_core.run_directory import BEFORE, BEGUN, Done, RunDirectory
from benchmarks import forecast_table

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CODE = sorted([*(ROOT / "aegis_core").rglob("*.py"), *(ROOT / "aegis_gui").rglob("*.py")])
FENCED = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
NOT_FOR_PUBLIC = ("/tmp/", "/root/", "/home/")
FILES = (".json", ".jsonl", ".py", ".md", ".html", ".safetensors", ".db", ".svg", ".gguf")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def sections(text: str, level: int) -> dict[str, str]:
    """Heading -> what stands below it, up to the next heading of that level or above."""
    parts = re.split(rf"^(#{{1,{level}}}) (.*)$", text, flags=re.MULTILINE)
    return {
        title: body
        for mark, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        if len(mark) == level
    }


@functools.cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(read(path)) for path in CODE}


# Events


@pytest.mark.parametrize("kind", events.KINDS.values(), ids=events.KINDS.keys())
def test_every_event_and_each_of_its_fields_is_described_with_a_whole_example(kind: type[events.Event]) -> None:
    text = read(ROOT / "docs" / "events.md")
    body = sections(text, 3)[kind.__name__]
    common = {field.name for field in dataclasses.fields(events.Event)}
    own = {field.name for field in dataclasses.fields(kind)} - common
    described = set(
        re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in body.splitlines() if line[:3] == "| `"))
    )
    assert own <= described
    (example,) = FENCED.findall(body)
    assert json.loads(example).keys() == {"event", *common, *own}
    assert type(events.decode(example)) is kind
    assert all(f"`{name}`" in sections(text, 2)["Fields of every event"] for name in common)


def test_no_event_is_described_that_there_is_not() -> None:
    described = sections(read(ROOT / "docs" / "events.md"), 3).keys()
    assert described == events.KINDS.keys()


def test_every_curve_that_the_engine_draws_is_described() -> None:
    calls = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    names = {call.args[0].value for call in calls
             if ast.unparse(call.func) == "Metric" and isinstance(call.args[0], ast.Constant)}  # fmt: skip
    shown = [node.value for node in trees()[ROOT / "aegis_core" / "training" / "watch.py"].body
             if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_SHOWN"]  # fmt: skip
    names |= set(ast.literal_eval(shown[0]))
    assert {"base_loss", "present_score", "alpha"} <= names
    body = sections(read(ROOT / "docs" / "events.md"), 3)["Metric"]
    assert [name for name in sorted(names) if f"`{name}`" not in body] == []


# The run directory


def joined_to(base: str) -> set[str]:
    """The names that the code joins to something that ends in `base`, as in run.path / "id"."""
    return {
        node.right.value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        and isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
        and re.search(base, ast.unparse(node.left))
    }  # fmt: skip


def test_every_file_that_the_code_keeps_in_a_run_is_described() -> None:
    run = RunDirectory(Path("run"))
    top = {run.plan_path.name, run.events_path.name, run.stderr_path.name, run.previous_folder("x").parent.name}
    top |= {*pipeline.REPORT_FILES, *pipeline.BY_ID, FOLDER, BEFORE, BEGUN, "done.json"}
    own = {node.value for node in ast.walk(trees()[ROOT / "aegis_core" / "run_directory.py"])
           if isinstance(node, ast.Constant) and node.value in ("lock", "id")}  # fmt: skip
    names = top | own | joined_to(r"\brun\.path$") | joined_to(r"ctx\.folder$|\.step_folder\([^)]*\)$")
    assert {"plan.json", "id", "lock", "window.lock", "best.json", "soul.safetensors"} <= names
    text = read(ROOT / "docs" / "run-directory.md")
    assert [name for name in sorted(names) if f"`{name}" not in text and f"/{name}" not in text] == []


@pytest.mark.parametrize("kind", [Done, BaseModel, Overrule])
def test_every_field_of_a_recorded_fact_is_described(kind: Any) -> None:
    text = read(ROOT / "docs" / "run-directory.md")
    assert [field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in text] == []


# Commands


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in a page: lines of code blocks and code in running text."""
    text = read(page)
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    for line in lines:
        for part in re.split(r" && |; ", line):
            if (
                re.match(r"(aegis|aegis-gui|python|pytest|pip|accelerate|bash) \S", part)
                and "[" not in part.split("'")[0]
            ):
                yield shlex.split(part, comments=True)


def every_command() -> list[Any]:
    return [pytest.param(words, id=f"{page.name}: {' '.join(words)}") for page in PAGES for words in commands(page)]


@pytest.mark.parametrize("words", every_command())
def test_every_command_in_the_documents_exists_with_its_options(words: list[str]) -> None:
    program, *rest = words
    if program == "accelerate" and "aegis_core" not in rest:
        assert rest[0] == "launch"
    elif "aegis_core" in rest:
        require_aegis(rest[rest.index("aegis_core") + 1 :])
    elif program == "aegis":
        require_aegis(rest)
    elif rest[0] == "start.py":
        assert rest[1:2] in ([], ["demo"], ["test"])
        if rest[1:2] == ["demo"]:
            require_aegis(rest[1:])
    elif program == "pytest" or rest[:2] == ["-m", "pytest"]:
        require_pytest(rest)
    elif program == "pip":
        extras = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
        assert rest[:2] == ["install", "-e"] or rest[0] == "install"
        assert all(name in extras for name in re.findall(r"\.\[(\w+)\]", rest[-1]))
    elif program == "bash":
        assert (ROOT / rest[0]).is_file()
    elif rest[0] == "-m":
        found = importlib.util.find_spec(rest[1])
        assert found is not None, f"there is no module {rest[1]}"
        if rest[1].split(".")[0] in ("benchmarks", "tests", "aegis_gui"):
            main = importlib.util.find_spec(f"{rest[1]}.__main__") if found.submodule_search_locations else found
            assert main is not None and main.origin
            require_options(Path(main.origin), rest[2:])
    else:
        require_options(ROOT / rest[0], rest[1:])


def require_aegis(words: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = list(words)
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    known = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in rest if word.startswith("--") and word not in known] == []
    for word in rest:
        if re.match(r"[a-z_]+\.[a-z_.]+=", word):
            plan.changed(Plan(), dict([plan.parsed(word)]))


def require_pytest(words: list[str]) -> None:
    markers = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    known = [marker.partition(":")[0] for marker in markers]
    wanted = [words[i + 1].removeprefix("not ") for i, word in enumerate(words) if word == "-m"]
    assert all(name in known or name == "pytest" for name in wanted)
    assert all((ROOT / word).is_file() for word in words if word.endswith(".py"))


def require_options(script: Path, words: list[str]) -> None:
    text = read(script)
    wanted = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [word for word in wanted if f'"{word}"' not in text] == []


# Settings, links, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_document_names_exists(page: Path) -> None:
    for name in re.findall(r"`(\w+(?:\.\w+)+)(?:=[^`]*)?`", read(page)):
        if name.split(".")[0] in Plan.model_fields and not name.endswith(FILES):
            plan.get(Plan(), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_document_names_is_there(page: Path) -> None:
    folders = ("aegis_core", "aegis_gui", "benchmarks", "packaging", "tests")
    known = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")}
    known |= {"start.py"}
    named = re.findall(r"`([\w/]+\.py)`", FENCED.sub("", read(page)))
    assert [name for name in named if not any(("/" + path).endswith("/" + name) for path in known)] == []


def slug(title: str) -> str:
    """As GitHub makes anchors of headings."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", read(page))):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.*)$", read(there), re.MULTILINE)), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_document_names_a_folder_of_one_machine(page: Path) -> None:
    assert [word for word in NOT_FOR_PUBLIC if word in read(page)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_emphasised_comes_out_so(page: Path) -> None:
    """Beside Japanese letters two stars and a bracket are easily no mark at all."""
    inline = [token for token in MarkdownIt().enable("table").parse(read(page)) if token.type == "inline"]
    texts = [part.content for token in inline for part in token.children or () if part.type == "text"]
    assert [text for text in texts if "**" in text] == []


def test_each_readme_leads_to_the_other_at_its_top() -> None:
    for page, other in (("README.md", "README.ja.md"), ("README.ja.md", "README.md")):
        assert f"]({other})" in "\n".join(read(ROOT / page).splitlines()[:4])


# What goes wrong, in the program's own words


def dots(text: str) -> str:
    """A template with every value left open."""
    return re.sub(r"\{[^{}]*\}", "…", text)


def troubles(page: str, heading: str) -> list[str]:
    body = sections(read(ROOT / page), 2)[heading]
    return [line.split(" | ")[0].removeprefix("| ") for line in body.splitlines() if line.startswith("| ")][1:]


@functools.cache
def sentences() -> dict[str, int]:
    """Every text of the code, values left open."""
    found: dict[str, int] = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found[dots(node.value)] = node.lineno
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found["".join(map(str, parts))] = node.lineno
    return found


def test_what_goes_wrong_is_told_in_the_program_s_own_words_in_both_languages() -> None:
    english = troubles("README.md", "When something goes wrong")
    japanese = troubles("README.ja.md", "困ったとき")
    catalogue = json.loads(read(ROOT / "resources" / "translations" / "ja.json"))
    pairs = {(dots(key), dots(value)) for key, value in catalogue.items()}
    assert len(english) == len(japanese) >= 15
    assert [sentence for sentence in english if sentence not in sentences()] == []
    assert [pair for pair in zip(english, japanese, strict=True) if pair not in pairs] == []


def test_at_least_fifteen_of_these_are_what_the_engine_raises() -> None:
    raised = {
        dots(node.args[0].value)
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("UserError", "UsageError") and node.args
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert (
        len([sentence for sentence in troubles("README.md", "When something goes wrong") if sentence in raised]) >= 15
    )


# Figures


def test_the_forecast_in_the_documents_is_the_program_s(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["forecast_table.py"])
    forecast_table.main()
    printed = capsys.readouterr().out.strip()
    assert printed in read(ROOT / "docs" / "measurements.md")
    told = {row.split("|")[2].strip() for row in printed.splitlines()[2:]}
    for page in ("README.md", "README.ja.md"):
        rows = [line for line in read(ROOT / page).splitlines() if re.search(r"\| (forecast|予測)", line)]
        figures = {number for row in rows for number in re.findall(r"\| (\d+\.\d\d) GB \|", row)}
        assert len(figures) >= 3 and figures <= told


def test_a_wrong_setting_would_be_noticed() -> None:
    with pytest.raises(UsageError):
        plan.get(Plan(), "train.no_such_setting")
