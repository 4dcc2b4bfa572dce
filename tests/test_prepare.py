"""The step prepare with a real tokenizer: what it counts, tells, refuses, and writes twice the same; and preview."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_dataset_hub import FakeDataset, FakeDatasetHub
from typer.testing import CliRunner

from aegis_core.cancel import Cancelled, CancelToken
from aegis_core.cli import app
from aegis_core.context import StepContext
from aegis_core.data.packed import IGNORED, load_packed
from aegis_core.events import Event, Log, Progress
from aegis_core.failures import UserError
from aegis_core.models.loading import load_tokenizer
from aegis_core.plan import changed
from aegis_core.run_directory import RunDirectory, read_json, sha256_of_file
from aegis_core.steps import prepare

Prepare = Callable[..., tuple[dict[str, Any], list[Event]]]
ROWS: list[dict[str, Any]] = [
    {"質問": f"{n} は何?", "回答": f"It moves {n} waves at once."} for n in range(12)
]  # fmt: skip


@pytest.fixture
def prepared(run: RunDirectory, tmp_path: Path) -> Prepare:
    """Runs the step on rows of a file; returns data.json and the events."""

    def go(rows: list[dict[str, Any]], cancel: CancelToken | None = None, **settings: Any) -> Any:
        path = tmp_path / "質問 集.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        changes = {f"data.{name}": value for name, value in {"source": str(path), **settings}.items()}
        plan = changed(run.plan(), changes)
        events: list[Event] = []
        prepare.run(plan, StepContext(run, "prepare", events.append, cancel or CancelToken()))
        return read_json(run.step_folder("prepare") / "data.json"), events

    return go


def said(events: list[Event], level: str) -> list[str]:
    return [event.text for event in events if isinstance(event, Log) and event.level == level]


def test_everything_left_out_is_counted_and_told(prepared: Prepare) -> None:
    rows = [*ROWS, {"質問": "", "回答": ""}, {"質問": "なぜ?", "回答": " "}, {"質問": "なぜ?", "回答": None}]
    data, events = prepared(rows)
    assert (data["n_samples"], data["n_blank"], data["n_without_answer"]) == (15, 1, 2)
    assert data["train"]["n_samples"] + data["held_out"]["n_samples"] == 12
    assert said(events, "warning") == [
        "1 samples are blank and are left out.",
        "2 samples have no answer and are left out.",
    ]
    assert data["preview"]["reads"] == {"question": "質問", "answer": "回答"}


def test_half_a_character_costs_its_sample_and_nothing_else(prepared: Prepare) -> None:
    rows = [*ROWS, {"質問": "なぜ \ud83d?", "回答": "So."}, {"質問": "なぜ?", "回答": "Whole: \ud83d\ude00"}]
    data, events = prepared(rows)
    assert (data["n_samples"], data["n_half_character"]) == (14, 1)
    assert data["train"]["n_samples"] + data["held_out"]["n_samples"] == 13
    assert said(events, "warning") == ["1 samples hold half a character (a lone surrogate) and are left out."]
    with pytest.raises(UserError, match=r"Every sample of .* holds half a character"):
        prepared([rows[12]] * 3)


def test_no_sequence_has_nothing_to_learn_and_the_counts_are_those_of_the_files(
    prepared: Prepare, run: RunDirectory
) -> None:
    data, _ = prepared([*ROWS, {"質問": "long " * 60, "回答": "Short."}])
    for part in ("train", "held_out"):
        found = load_packed(run.step_folder("prepare") / f"{part}.safetensors")
        assert (found.labels[:, 1:] != IGNORED).any(dim=1).all()
        assert data[part]["n_sequences"] == len(found)
        assert data[part]["n_tokens"] == found.input_ids.numel()
        assert data[part]["n_counted_tokens"] == found.n_counted


@pytest.mark.parametrize(
    ("over_long", "level", "sentence"),
    [
        ("split", "info", "1 samples are longer than one sequence and were split."),
        ("drop", "warning", "1 samples are longer than one sequence and are left out."),
    ],
)
def test_an_over_long_sample_is_split_or_left_out_and_told(
    prepared: Prepare, over_long: str, level: str, sentence: str
) -> None:
    rows = [*ROWS, {"質問": "long?", "回答": "word " * 200}]
    data, events = prepared(rows, over_long=over_long, packing=False, sequence_length=64)
    assert data["n_longer_than_sequence"] == 1
    assert sentence in said(events, level)
    n_sequences = data["train"]["n_sequences"] + data["held_out"]["n_sequences"]
    assert n_sequences == 12 if over_long == "drop" else n_sequences > 13


def test_without_packing_the_rest_of_a_sequence_is_the_padding_token(
    prepared: Prepare, run: RunDirectory, pico_model: Path
) -> None:
    data, _ = prepared(ROWS, packing=False, sequence_length=64)
    found = load_packed(run.step_folder("prepare") / "train.safetensors")
    assert len(found) == data["train"]["n_samples"]
    assert data["train"]["n_padding_tokens"] > 0
    end = load_tokenizer(pico_model).pad_token_id
    assert (found.input_ids[:, -1] == end).all()
    assert (found.labels[:, -1] == IGNORED).all()


def test_the_same_file_gives_the_same_bytes(prepared: Prepare, run: RunDirectory) -> None:
    folder = run.step_folder("prepare")

    def digests() -> list[str]:
        return [sha256_of_file(folder / f"{part}.safetensors") for part in ("train", "held_out")]

    data, _ = prepared(ROWS)
    first = digests()
    again, _ = prepared(ROWS)
    assert digests() == first
    assert again["sha256"] == data["sha256"]
    other, _ = prepared(ROWS[::-1])
    assert digests() != first
    assert other["sha256"] != data["sha256"]


def test_the_example_tells_what_of_it_is_learned(prepared: Prepare) -> None:
    data, _ = prepared(ROWS)
    asked, answered = data["example_parts"]
    assert (asked["learned"], answered["learned"]) == (False, True)
    assert answered["text"].startswith("It moves")
    assert asked["text"] + answered["text"] == data["example"]


def test_plain_text_of_chats_is_learned_whole(prepared: Prepare) -> None:
    data, _ = prepared(ROWS, format="text")
    assert [part["learned"] for part in data["example_parts"]] == [True]
    assert data["preview"]["as_text"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"question": "", "answer": ""}] * 3, "is empty"),
        ([{"question": "Why?", "answer": ""}] * 3, "No sample of .* has an answer"),
        ([{"messages": [{"role": "narrator", "content": "Once."}]}] * 3, "other roles than user, assistant and system"),
    ],
)
def test_a_dataset_without_a_usable_sample_is_refused(
    prepared: Prepare, rows: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepared(rows)


def test_a_stop_is_heard_while_rows_are_read(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "resolve", lambda *_: pytest.fail("the model's turn came first"))
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        prepared(ROWS * 60, cancel)


def test_progress_knows_the_number_of_samples_once_they_were_counted(prepared: Prepare) -> None:
    _, events = prepared(ROWS)
    shown = [(event.done, event.total, event.phase) for event in events if isinstance(event, Progress)]
    assert (12, 0, "reading") in shown
    assert (12, 12, "tokenising") in shown


# ---- aegis preview


def preview(run: RunDirectory, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["preview", str(run.path), "--only", "data", *options])
    return result.exit_code, result.stdout


def test_the_preview_prints_columns_and_samples(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "表 1.csv"
    path.write_text("質問,回答\nなぜ?,暖かい。\n", encoding="utf-8")
    run.write_plan(changed(run.plan(), {"data.source": str(path)}))
    code, shown = preview(run)
    assert code == 0
    assert "質問 as question, 回答 as answer" in shown
    assert "assistant: 暖かい。" in shown
    code, shown = preview(run, "--json")
    row = json.loads(shown)["data"]
    assert (row["n_rows"], row["columns"]) == (1, ["質問", "回答"])
    assert not run.step_folder("prepare").exists()


def test_a_preview_that_fails_says_why_and_what_mends_it(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "表 1.csv"
    path.write_bytes("質問,回答\nなぜ熱は伝わる?,暖かいから。\n".encode("cp932"))
    run.write_plan(changed(run.plan(), {"data.source": str(path)}))
    code, shown = preview(run, "--json")
    assert code == 1
    failure = json.loads(shown)["data"]["failure"]
    assert failure["changes"] == {"data.encoding": "shift_jis"}
    assert failure["values"]["path"] == str(path)
    run.write_plan(changed(run.plan(), failure["changes"]))
    assert preview(run)[0] == 0


def test_the_preview_loads_no_model_library(run: RunDirectory) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from aegis_core.data.preview import preview\n"
        "from aegis_core.run_directory import RunDirectory\n"
        f"preview(RunDirectory.open(Path({str(run.path)!r})).plan().data)\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_a_dataset_of_the_hub_is_prepared_at_its_commit(run: RunDirectory, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    with FakeDatasetHub({"maker/qa": FakeDataset({"train.jsonl": lines})}) as hub:
        run.write_plan(changed(run.plan(), {"data.source": "maker/qa"}))
        command = [sys.executable, "-m", "aegis_core", "run", str(run.path), "--to", "prepare"]
        environment = {**os.environ, **hub.environment(tmp_path / "cache")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "Fetching the dataset maker/qa from the hub" in done.stdout
    data = read_json(run.step_folder("prepare") / "data.json")
    assert data["commit"] == hub.datasets["maker/qa"].commit
    assert data["n_samples"] == 12
