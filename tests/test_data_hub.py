"""Datasets of the hub, against a local server that speaks its API; the libraries in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_dataset_hub import FakeDataset, FakeDatasetHub

READER = """
import json, sys
from aegis_core.data.preview import preview
from aegis_core.data.readers import open_source
from aegis_core.failures import UserError, explain
from aegis_core.plan import DataPlan

def look(how, plan):
    try:
        if how == "preview":
            return preview(plan).row()
        source = open_source(plan)
        contents = [sample.content for sample in source.samples()]
        again = contents == [sample.content for sample in source.samples()]
        return {"commit": source.commit, "contents": contents, "again": again}
    except UserError as error:
        return vars(explain(error))

print(json.dumps([look(how, DataPlan(**settings)) for how, settings in json.loads(sys.argv[1])]))
"""
ROWS = [{"質問": f"なぜ{n}?", "回答": f"答え{n}。", "番号": n} for n in range(40)]
CONTENTS = [f"{row['質問']}\n{row['回答']}" for row in ROWS]
LONG_LINE = json.dumps({"text": "many words " * 90}).encode() + b"\n"
N_LONG = 100_000


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def subsets(*names: str) -> bytes:
    rows = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in names)
    return f"---\nconfigs:\n{rows}---\n".encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeDatasetHub]:
    parts = {"en.jsonl": lines([{"text": "word"}] * 3), "ja.jsonl": lines([{"text": "言葉"}] * 3)}
    with FakeDatasetHub(
        {
            "maker/qa": FakeDataset(
                {"data/train.jsonl": lines(ROWS), "data/test.jsonl": lines(ROWS[:4])},
                tags={"v1": FakeDataset({"data/train.jsonl": lines(ROWS[:2])})},
            ),
            "maker/long": FakeDataset({"train.jsonl": LONG_LINE * N_LONG}),
            "maker/parts": FakeDataset({"README.md": subsets("en", "ja"), **parts}),
            "maker/secret": FakeDataset({"train.jsonl": lines(ROWS)}, gated=True),
            "maker/program": FakeDataset({"program.py": b"raise SystemExit('run')", "train.jsonl": lines(ROWS)}),
            "maker/pictures": FakeDataset({"train/a.tar": b"tar"}),
        }
    ) as served:
        yield served


def ask(hub: FakeDatasetHub, cache: Path, *questions: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What another process reads of this hub."""
    home = Path(__file__).parent.parent
    environment = {**os.environ, **hub.environment(cache), "PYTHONPATH": str(home), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", READER, json.dumps(questions)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, cwd=home)
    assert done.returncode == 0, done.stderr.decode()
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_dataset_is_read_whole_or_piece_by_piece_and_pinned_to_its_commit(
    hub: FakeDatasetHub, tmp_path: Path
) -> None:
    commit = hub.datasets["maker/qa"].commit
    n_before = hub.n_bytes_served
    whole, test, old, piece, seen, long, part = ask(
        hub,
        tmp_path / "倉庫 cache",
        ("read", {"source": "maker/qa"}),
        ("read", {"source": "maker/qa", "split": "test", "revision": commit}),
        ("read", {"source": "maker/qa", "revision": "v1"}),
        ("read", {"source": "maker/qa", "streaming": True, "max_samples": 3}),
        ("preview", {"source": "maker/qa"}),
        ("read", {"source": "maker/long", "streaming": True, "max_samples": 3}),
        ("read", {"source": "maker/parts", "subset": "ja"}),
    )
    assert whole == {"commit": commit, "contents": CONTENTS, "again": True}
    assert test == {"commit": commit, "contents": CONTENTS[:4], "again": True}
    assert old == {"commit": hub.datasets["maker/qa"].tags["v1"].commit, "contents": CONTENTS[:2], "again": True}
    assert piece == {"commit": commit, "contents": CONTENTS[:3], "again": True}
    assert seen["columns"] == ["質問", "回答", "番号"]
    assert seen["reads"] == {"question": "質問", "answer": "回答"}
    assert seen["n_rows"] == 40
    assert seen["commit"] == commit
    assert len(long["contents"]) == 3
    assert hub.n_bytes_served - n_before < len(LONG_LINE) * N_LONG / 2, "blocks of some 16 MB, but not the whole file"
    assert part["contents"] == ["\n言葉"] * 3


def test_what_is_missing_is_said_in_one_sentence(hub: FakeDatasetHub, tmp_path: Path) -> None:
    n_requests = len(hub.requests)
    answers = ask(
        hub,
        tmp_path / "cache",
        ("read", {"source": "maker/qa", "split": "validation"}),
        ("preview", {"source": "maker/qa", "split": "validation"}),
        ("read", {"source": "maker/none"}),
        ("read", {"source": "maker/qa", "revision": "v9"}),
        ("read", {"source": "maker/secret"}),
        ("read", {"source": "maker/program"}),
        ("read", {"source": "maker/pictures"}),
        ("read", {"source": "maker/parts"}),
        ("read", {"source": "maker/qa", "streaming": True}),
        ("read", {"source": "maker/qa", "answer_field": "answer"}),
    )
    sentences = [answer.get("reason", str(answer)) for answer in answers]
    expected = [
        "maker/qa has no split validation; it has train, test.",
        "maker/qa has no split validation; it has train, test.",
        "The hub knows no maker/none",
        "maker/qa has no revision v9",
        "maker/secret is only for people who accepted its licence",
        "maker/program comes as a program, which AEGIS never runs",
        "maker/pictures holds webdataset files, which are not read here",
        "maker/parts comes in several subsets: Config name is missing. Please pick one among the available configs: "
        "['en', 'ja']",
        "read piece by piece needs a number of samples",
        "no column answer, which data.answer_field names; its columns are 質問, 回答, 番号",
    ]
    for said, wanted in zip(sentences, expected, strict=True):
        assert wanted in said
    assert answers[8]["changes"] == {"data.max_samples": 10_000}
    fetched = [path for method, path, _ in hub.requests[n_requests:] if method == "GET"]
    assert not [path for path in fetched if path.endswith(".tar")]


def test_without_the_hub_a_fetched_copy_serves_and_another_does_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with FakeDatasetHub({"maker/qa": FakeDataset({"train.jsonl": lines(ROWS)})}) as hub:
        ask(hub, cache, ("read", {"source": "maker/qa"}))
        commit = hub.datasets["maker/qa"].commit
    again, other, version = ask(
        hub,
        cache,
        ("read", {"source": "maker/qa"}),
        ("read", {"source": "maker/other"}),
        ("read", {"source": "maker/qa", "revision": "f" * 40}),
    )
    assert again == {"commit": commit, "contents": CONTENTS, "again": True}
    assert "The hub cannot be reached for maker/other" in other["reason"]
    assert "The hub cannot be reached for maker/qa" in version["reason"]


def test_a_socks_proxy_is_named_without_its_password_and_a_complete_copy_serves(
    hub: FakeDatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (online,) = ask(hub, tmp_path, ("read", {"source": "maker/qa"}))
    monkeypatch.setenv("ALL_PROXY", "socks4://user:geheim@proxy.invalid:1080")
    copy, refused = ask(hub, tmp_path, ("read", {"source": "maker/qa"}), ("read", {"source": "maker/other"}))
    assert copy["contents"] == online["contents"] == CONTENTS
    assert refused["reason"] == "The proxy socks4://proxy.invalid:1080 is of a kind (SOCKS) that AEGIS cannot use."
