"""Derived Go templates render what the tokenizer renders: by recorded outputs of real Go, and by a stand-in like it."""

import json
from pathlib import Path
from typing import Any

import go_template
import pytest
from chat_families import FAMILIES, TEMPLATES, prompts_of

from aegis_core.chat.prompt import ChatPrompts
from aegis_core.chat.template_verify import probe_conversations

ROWS: list[dict[str, Any]] = json.loads((TEMPLATES / "go.json").read_text(encoding="utf-8"))
NAMES = sorted(FAMILIES)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatPrompts]:
    root: Path = tmp_path_factory.mktemp("templates")
    return {name: prompts_of(name, root / name) for name in FAMILIES}


def as_go_sees(messages: list[dict[str, str]]) -> dict[str, Any]:
    rows = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    return {"Messages": rows, "System": system, "Tools": []}


def test_the_stand_in_renders_and_refuses_like_go() -> None:
    for row in ROWS:
        if row["go"] is None:
            with pytest.raises(go_template.TemplateSyntaxError):
                go_template.check(row["template"])
        else:
            go_template.check(row["template"])
            assert go_template.render(row["template"], as_go_sees(row["messages"])) == row["go"], row["template"]
    assert sum(row["go"] is None for row in ROWS) > 10


@pytest.mark.parametrize("name", NAMES)
def test_go_renders_what_the_tokenizer_renders(families: dict[str, ChatPrompts], name: str) -> None:
    prompts = families[name]
    rows = [row for row in ROWS if row.get("family") == name]
    assert rows
    for row in rows:
        expected = prompts.prompt(row["messages"])
        assert row["go"] == (expected.removeprefix(prompts.format.bos) if row["adds_bos"] else expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_go_rendered_is_what_is_derived_today(families: dict[str, ChatPrompts], name: str) -> None:
    """If this fails after a change on purpose: run tests/record_go.py with a Go compiler and look at the outcome."""
    for row in ROWS:
        if row.get("family") == name:
            assert row["template"] == families[name].format.go_template(server_adds_bos=row["adds_bos"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("adds_bos", [False, True])
def test_every_probe_conversation_comes_out_the_same(
    families: dict[str, ChatPrompts], name: str, adds_bos: bool
) -> None:
    prompts = families[name]
    source = prompts.format.go_template(server_adds_bos=adds_bos)
    for messages in probe_conversations(with_system=prompts.format.system is not None):
        rendered = go_template.render(source, as_go_sees(prompts.for_server(messages)))
        assert (prompts.format.bos if adds_bos else "") + rendered == prompts.prompt(messages)
    assert "range" in source and ".Messages" in source


def test_the_template_of_phi_reads_like_one_written_by_hand(families: dict[str, ChatPrompts]) -> None:
    assert families["phi-3.5-mini-instruct"].format.go_template(server_adds_bos=False) == (
        '{{- $before := "" }}\n'
        "{{- range .Messages }}\n"
        '{{- if eq .Role "system" }}{{ "<|system|>\\n" }}{{ .Content }}{{ "<|end|>\\n" }}'
        '{{- $before = "system" }}{{- end }}\n'
        '{{- if eq .Role "user" }}{{ "<|user|>\\n" }}{{ .Content }}{{ "<|end|>\\n" }}'
        '{{- $before = "user" }}{{- end }}\n'
        '{{- if eq .Role "assistant" }}{{ "<|assistant|>\\n" }}{{ .Content }}{{ "<|end|>\\n" }}'
        '{{- $before = "assistant" }}{{- end }}\n'
        '{{- end }}{{ "<|assistant|>\\n" }}'
    )
