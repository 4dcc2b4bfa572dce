"""Whatever happens to a file of the run, the run log says so and is written nevertheless."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finished_run import finished_run
from report_parts import chapter, written

from aegis_core.report import html, markdown
from aegis_core.report.card import whole_card
from aegis_core.report.phrases import translator
from aegis_core.report.record import gather
from aegis_core.report.sections import compose
from aegis_core.run_directory import RunDirectory

JSON_FILES = (
    *("check/check.json", "prepare/base.json", "prepare/data.json", "search/trials.json", "search/best.json"),
    *("train/summary.json", "train/quality.json", "fuse/proof.json", "fuse/quality.json", "fuse/model/aegis.json"),
    *("export/files.json", "export/quality.json", "chat/chat.json"),
)
ROW_FILES = ("train/metrics.jsonl", "chat/transcript.jsonl", "chat/base_transcript.jsonl", "events.jsonl")
STRANGE: tuple[Any, ...] = (None, "x", -1, 1e400, [], {}, True)


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return finished_run(tmp_path_factory.mktemp("evidence") / "run", search__enabled=True)


@pytest.fixture
def finished(finished_once: RunDirectory, tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(finished_once.path, run.path)
    return run


def test_one_byte_more_in_any_recorded_file_is_red(finished: RunDirectory) -> None:
    recorded = gather(finished, finished.plan()).row["files"]
    assert len(recorded) > 20 and {file["now"] for file in recorded} == {"same"}
    for file in recorded:
        path = finished.path / file["path"]
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        page = chapter(written(finished)[0], "files")
        assert f'<p class="missing">! {file["path"]}: changed</p>' in page and "✗" in page, file["path"]
        path.write_bytes(before)
    assert "✗" not in chapter(written(finished)[0], "files")


def test_a_recorded_file_that_is_gone_is_red(finished: RunDirectory) -> None:
    (finished.path / "train/quality.json").unlink()
    assert "train/quality.json: missing" in chapter(written(finished)[0], "files")


@pytest.mark.parametrize("name", JSON_FILES)
def test_a_file_of_any_strange_form_never_stops_the_log(finished: RunDirectory, name: str) -> None:
    """Each value in it in turn becomes each strange thing; the whole as well."""
    path = finished.path / name
    content = json.loads(path.read_text(encoding="utf-8"))
    for number, variant in enumerate(strange(content)):
        path.write_text(json.dumps(variant), encoding="utf-8")
        whole(finished, "ja" if number % 2 else "en")


@pytest.mark.parametrize("name", ROW_FILES)
def test_rows_of_any_strange_form_never_stop_the_log(finished: RunDirectory, name: str) -> None:
    path = finished.path / name
    first, *others = path.read_text(encoding="utf-8").splitlines()
    for number, variant in enumerate(strange(json.loads(first))):
        path.write_text("\n".join([json.dumps(variant), *others[:5], ""]), encoding="utf-8")
        whole(finished, "ja" if number % 2 else "en")


def strange(content: Any) -> Iterator[Any]:
    """The content with one value made strange, or one key left out; lists are changed in their first item."""
    yield from STRANGE
    if isinstance(content, dict):
        for number, key in enumerate(content):
            yield {other: value for other, value in content.items() if other != key}
            yield content | {key: STRANGE[number % len(STRANGE)]}
            yield content | {key: STRANGE[(number + 3) % len(STRANGE)]}
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        yield from ([changed, *content[1:]] for changed in strange(content[0]))


def whole(run: RunDirectory, language: str) -> None:
    """Everything but the figures, as the step writes it."""
    record, t = gather(run, run.plan()), translator(language)
    document = compose(record, t)
    page = html.render(document, {})
    assert page.encode() and markdown.render(document, {}).encode() and whole_card(record.row, t).encode()
    json.dumps(record.row, allow_nan=False, ensure_ascii=False).encode()
