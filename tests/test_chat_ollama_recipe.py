"""What is sent to Ollama beside the weights, and the Modelfile that says the same by hand."""

from pathlib import Path

import gguf
import modelfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_core.chat.ollama_recipe import Recipe, adds_bos, write_modelfile
from aegis_core.chat.prompt import ChatPrompts
from aegis_core.events import Event, Log
from aegis_core.freshness import BY_ID, settings_of
from aegis_core.plan import ChatPlan, changed
from aegis_core.run_directory import RunDirectory

SYSTEM = 'あなたは"物理"の先生です。\n\n  短く答えてください。"""で囲みません "'
PARAMETERS = {"stop": ["<|end|>", '"quoted"', "\n\nuser:"], "temperature": 0.7, "top_k": 40, "num_ctx": 4096}


def small_gguf(path: Path, add_bos: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_add_bos_token(add_bos)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def prompts(pico_model: Path) -> ChatPrompts:
    return ChatPrompts(pico_model)


@pytest.fixture
def exported(run: RunDirectory) -> Path:
    return small_gguf(run.path / "export" / "aegis-Q4_K_M.gguf")


def recipe(system: str = SYSTEM, template: str = "{{ .Prompt }}") -> Recipe:
    return Recipe(template, system, PARAMETERS, "mit")


def write(run: RunDirectory, file: Path, made: Recipe) -> tuple[Path | None, list[Event]]:
    heard: list[Event] = []
    return write_modelfile(run, file, made, "aegis", heard.append), heard


def read(path: Path | None) -> dict[str, object]:
    assert path is not None
    return modelfile.request(path.read_bytes().decode())


def test_the_leading_token_is_known_from_the_file(tmp_path: Path) -> None:
    assert adds_bos(small_gguf(tmp_path / "a.gguf", add_bos=True))
    assert not adds_bos(small_gguf(tmp_path / "b.gguf", add_bos=False))


def test_a_request_holds_everything_the_plan_says(prompts: ChatPrompts, exported: Path) -> None:
    plan = ChatPlan(system="Be brief.", temperature=0.1, top_p=0.5, top_k=7, num_ctx=512, repeat_penalty=1.3)
    row = Recipe.of(exported, prompts, plan, "apache-2.0").request("aegis", {"m.gguf": "sha256:0"})
    assert (row["model"], row["files"], row["license"]) == ("aegis", {"m.gguf": "sha256:0"}, "apache-2.0")
    assert row["system"] == "Be brief." and "range .Messages" in row["template"]
    numbers = {"temperature": 0.1, "top_p": 0.5, "top_k": 7, "num_ctx": 512, "repeat_penalty": 1.3}
    assert row["parameters"] == {"stop": list(prompts.stops), **numbers}


def test_what_is_empty_is_not_sent(prompts: ChatPrompts, exported: Path) -> None:
    row = Recipe.of(exported, prompts, ChatPlan(), "").request("aegis", {})
    assert "system" not in row and "license" not in row


def test_by_hand_the_modelfile_gives_what_was_sent(run: RunDirectory, prompts: ChatPrompts, exported: Path) -> None:
    made = Recipe.of(exported, prompts, ChatPlan(system=SYSTEM), "apache-2.0")
    path, heard = write(run, exported, made)
    assert path == run.path / "export" / "Modelfile" and heard == []
    sent = made.request("aegis", {})
    assert read(path) == {
        "from": "./aegis-Q4_K_M.gguf",
        **{name: sent[name] for name in ("template", "system", "license", "parameters")},
    }


def test_it_names_nothing_outside_its_own_folder(run: RunDirectory, exported: Path) -> None:
    path, _ = write(run, exported, recipe())
    assert path is not None
    text = path.read_text(encoding="utf-8")
    assert str(run.path) not in text and str(Path.home()) not in text
    assert [value for name, value in modelfile.parse(text) if name == "from"] == ["./aegis-Q4_K_M.gguf"]
    assert sorted(path.parent.iterdir()) == sorted([path, exported])


@given(st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "S")) | st.sampled_from(' "\n\r\t#')))
def test_any_printable_text_survives_or_is_refused(text: str) -> None:
    made = recipe(system=text)
    try:
        written = made.modelfile(Path("m.gguf"))
    except ValueError as error:
        assert str(error) == "system" and '"""' in text
        return
    assert modelfile.request(written).get("system", "") == text


@pytest.mark.parametrize("text", ['ends early"""\nhere', "full\u3000width", "joined\u200demoji", "zero\x00"])
def test_what_a_modelfile_cannot_hold_is_told_and_nothing_is_written(
    run: RunDirectory, exported: Path, text: str
) -> None:
    path, heard = write(run, exported, recipe(system=text))
    assert path is None and not (run.path / "export" / "Modelfile").exists()
    assert [event.level for event in heard if isinstance(event, Log)] == ["warning"]


def test_the_template_says_what_would_be_dropped_by_its_number(
    run: RunDirectory, exported: Path, prompts: ChatPrompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(prompts.format), "go_template", lambda *a, **k: '{{ "\u3000|\U000e0001" }}')
    made = Recipe.of(exported, prompts, ChatPlan(), "mit")
    assert made.template == '{{ "\\u3000|\\U000e0001" }}'
    assert read(write(run, exported, made)[0])["template"] == made.template


def test_it_is_written_anew_only_where_it_changes(run: RunDirectory, exported: Path) -> None:
    path, _ = write(run, exported, recipe())
    assert path is not None
    before = path.stat()
    write(run, exported, recipe())
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    write(run, exported, recipe(system="Other."))
    assert read(path)["system"] == "Other."


def test_in_a_shared_folder_it_carries_the_files_name_and_leaves_others_alone(
    run: RunDirectory, tmp_path: Path
) -> None:
    file = small_gguf(tmp_path / "共有 drive" / "aegis-F16.gguf")
    path, _ = write(run, file, recipe())
    assert path == file.with_name("aegis-F16.Modelfile") and read(path)["from"] == "./aegis-F16.gguf"
    assert write(run, file, recipe(system="Mine."))[0] == path
    path.write_text("FROM llama3\n", encoding="utf-8")
    found, heard = write(run, file, recipe())
    assert found is None and path.read_text(encoding="utf-8") == "FROM llama3\n"
    assert "not written by this run" in getattr(heard[0], "text", "")


def test_a_folder_that_cannot_be_written_is_only_a_warning(run: RunDirectory, exported: Path) -> None:
    (exported.parent / "Modelfile").mkdir()
    path, heard = write(run, exported, recipe())
    assert path is None and "could not be written" in getattr(heard[0], "text", "")


def test_the_setting_that_lets_a_model_be_replaced_makes_no_result_stale(run: RunDirectory) -> None:
    plan = run.plan()
    after = changed(plan, {"chat.replace_model": "llama3:8b"})
    assert settings_of(plan, BY_ID["chat"]) == settings_of(after, BY_ID["chat"])
