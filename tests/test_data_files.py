"""Local datasets of every format, as people really have them: marks, quotes, Japanese headers, the wrong encoding."""

import json
from pathlib import Path
from typing import Any

import pytest

from aegis_core.data.preview import preview
from aegis_core.data.readers import open_source
from aegis_core.data.samples import Sample, asked, plain
from aegis_core.failures import UserError
from aegis_core.plan import DataPlan

QA = [
    {"質問": "なぜ,空は\n青い?", "回答": 'レイリー"散乱"のため。'},
    {"質問": "時間とは?", "回答": "進むもの。\u2028止まらない。"},
]
EXPECTED = [asked("なぜ,空は\n青い?", 'レイリー"散乱"のため。'), asked("時間とは?", "進むもの。\u2028止まらない。")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "データ 集"
    made.mkdir()
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the file's name."""
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        case ".json":
            text = json.dumps(rows, ensure_ascii=False, indent=1)
        case ".csv" | ".tsv":
            separator = "\t" if path.suffix == ".tsv" else ","
            cells = [list(rows[0]), *(list(row.values()) for row in rows)]
            lines = [separator.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in cells]
            text = "\r\n".join(lines) + "\r\n"
        case ".parquet":
            from pyarrow import Table, parquet

            with path.open("wb") as file:
                parquet.write_table(Table.from_pylist(rows), file)
            return path
    path.write_bytes(text.encode())
    return path


def read(path: Path, **settings: Any) -> list[Sample]:
    return list(open_source(DataPlan(source=str(path), **settings)).samples())


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.parquet", "A.JSONL"])
def test_every_format_gives_the_same_samples(folder: Path, name: str) -> None:
    assert read(write(folder / name, QA)) == EXPECTED


def test_paragraphs_of_a_text_file_are_samples(folder: Path) -> None:
    path = folder / "文章.txt"
    path.write_bytes("一つ目。\r\n続き。\r\n\r\n \r\n二つ目。".encode())
    assert read(path) == [plain("一つ目。\n続き。"), plain("二つ目。")]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"version": 1, "data": QA}),
        json.dumps({"test": [{"a": 1}], "train": QA}),
        "\n".join(json.dumps(row) for row in QA),
        json.dumps({"質問": "なぜ?", "回答": "ため。", "data": QA}),
    ],
)
def test_json_may_be_an_object_with_the_list_or_one_object_a_line(folder: Path, text: str) -> None:
    path = folder / "a.json"
    path.write_text(text, encoding="utf-8")
    assert read(path) == EXPECTED


def test_files_of_a_folder_follow_each_other_in_the_order_of_their_names(folder: Path) -> None:
    write(folder / "2.csv", QA[1:])
    write(folder / "1.jsonl", QA[:1])
    (folder / "3.txt").write_text("文章。", encoding="utf-8")
    (folder / "readme.md").write_text("no data", encoding="utf-8")
    (folder / ".hidden.txt").write_text("no data", encoding="utf-8")
    assert read(folder) == [*EXPECTED, plain("文章。")]


def test_no_more_samples_are_read_than_asked_for(folder: Path) -> None:
    write(folder / "1.jsonl", QA)
    (folder / "2.txt").write_text("文章。\n\nもう一つ。", encoding="utf-8")
    assert read(folder, max_samples=3) == [*EXPECTED, plain("文章。")]


def test_a_semicolon_may_separate_and_cells_may_be_missing(folder: Path) -> None:
    path = folder / "a.csv"
    path.write_text("question;answer;topic\nWhy?;So.;heat\n\nHow?;Thus.\n", encoding="utf-8")
    assert read(path) == [asked("Why?", "So.", "heat"), asked("How?", "Thus.")]


def test_a_line_end_inside_a_cell_stays_as_it_is(folder: Path) -> None:
    path = folder / "a.csv"
    path.write_bytes(b'text\r\n"one\r\ntwo"\r\n')
    assert read(path) == [plain("one\r\ntwo")]


def test_empty_cells_of_a_parquet_file_are_blank_not_none(folder: Path) -> None:
    path = write(folder / "a.parquet", [{"text": "one"}, {"text": None}, {"text": "two"}])
    assert read(path) == [plain("one"), plain(""), plain("two")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_a_byte_order_mark_does_no_harm(folder: Path, name: str) -> None:
    path = folder / name
    if name == "a.txt":
        path.write_text("なぜ?", encoding="utf-8")
    else:
        write(path, QA)
    expected = read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == expected


# ---- encodings


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"])
def test_shift_jis_is_recognised_and_read_when_the_plan_says_so(folder: Path, name: str) -> None:
    path = folder / name
    rows = [{"質問": "熱はなぜ①伝わる?", "回答": "分子～が動くから。"}]
    if name == "a.txt":
        path.write_text("熱はなぜ①伝わる?", encoding="utf-8")
    else:
        write(path, rows)
    expected = read(path)
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp932"))
    with pytest.raises(UserError, match=r"is not UTF-8, but reads as Shift-JIS: “[^”]*[はが]") as caught:
        read(path)
    assert caught.value.changes == {"data.encoding": "shift_jis"}
    assert read(path, encoding="shift_jis") == expected


def test_shift_jis_far_inside_a_file_is_found_while_reading(folder: Path) -> None:
    path = folder / "a.jsonl"
    ascii_line = b'{"text": "' + b"plain words " * 40 + b'"}\n'
    path.write_bytes(ascii_line * 12_000 + '{"text": "時間は流れる。"}\n'.encode("cp932"))
    with pytest.raises(UserError, match="reads as Shift-JIS: “時間は流れる。”"):
        read(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("It’s “so” – a café naïf, l'été".encode("cp1252"), "is not UTF-8 text \\(byte 2\\)"),
        ("Größe, Maß, Übung und Öl".encode("latin-1"), "is not UTF-8 text \\(byte 2\\)"),
        ("It’s fine. Don’t worry, it’s so.".encode("cp1252"), "is not UTF-8 text"),
        ("‘a’b déjàvu prénom élan éléphant".encode("cp1252"), "is not UTF-8 text"),
        ("熱はなぜ伝わるのですか".encode("euc_jp"), "is not UTF-8 text"),
        ("なぜ?".encode("utf-16"), "is written in UTF-16"),
        ("plain words".encode("utf-16-le"), "is written in UTF-16"),
        ("なぜ?".encode("utf-32"), "is written in UTF-32"),
        (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_other_encodings_are_named_or_placed_and_never_taken_for_shift_jis(
    folder: Path, content: bytes, sentence: str
) -> None:
    path = folder / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read(path)
    assert caught.value.changes == {}


def test_utf_8_is_not_read_as_shift_jis(folder: Path) -> None:
    path = write(folder / "a.jsonl", QA)
    with pytest.raises(UserError, match="is UTF-8 text, not Shift-JIS") as caught:
        read(path, encoding="shift_jis")
    assert caught.value.changes == {"data.encoding": "utf-8"}


def test_plain_ascii_is_both(folder: Path) -> None:
    path = folder / "a.txt"
    path.write_text("plain", encoding="utf-8")
    assert read(path, encoding="shift_jis") == read(path) == [plain("plain")]


# ---- what cannot be read


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.jsonl", "", "is empty"),
        ("empty.json", "[]", "is empty"),
        ("empty.csv", "", "is empty"),
        ("torn.jsonl", '{"text": "a"}\n{"te', "Line 2 of .*torn.jsonl is not JSON"),
        ("torn.json", '[{"text": "a"', "torn.json is not JSON"),
        ("list.jsonl", "[1]\n", "Line 1 of .* is not a JSON object"),
        ("words.json", '["a"]', "holds no list of JSON objects"),
        ("two.json", '{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "holds no list of JSON objects"),
        ("cells.csv", "text\nno, quotes\n", "Row 1 of .*cells.csv has 2 cells, but the first line names 1"),
        ("quote.csv", 'text,b\n"never closed,1\n', "Line .* of .*quote.csv is no valid row"),
        ("data.parquet", "no parquet", "is no readable parquet file"),
        ("kind.docx", "x", "of no known kind"),
        ("lists.jsonl", '{"text": ["a"]}\n', "column text holds lists instead of text \\(lists.jsonl, line 1\\)"),
        ("chat.jsonl", '{"messages": "hello"}\n', "holds no list of messages"),
        ("chat.jsonl", '{"messages": [{"text": "hello"}]}\n', "has no role and content \\(chat.jsonl, line 1\\)"),
    ],
)
def test_a_bad_dataset_gives_one_clear_sentence(folder: Path, name: str, content: str, sentence: str) -> None:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        read(path)


@pytest.mark.parametrize("name", ["none.jsonl", "none"])
def test_a_missing_file_is_not_looked_for_on_the_hub(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="There is no dataset file"):
        read(folder / name)


def test_a_folder_without_data_says_so(folder: Path) -> None:
    with pytest.raises(UserError, match="There is no dataset file in"):
        read(folder)


# ---- the preview


def test_the_preview_shows_columns_their_use_and_the_first_samples(folder: Path) -> None:
    rows = [QA[0], {"質問": "", "回答": ""}, {"質問": "なぜ?", "回答": ""}, *[QA[1]] * 9]
    found = preview(DataPlan(source=str(write(folder / "a.csv", rows))))
    assert found.columns == ("質問", "回答")
    assert found.reads == {"question": "質問", "answer": "回答"}
    assert found.n_rows == 12
    assert found.n_flawed == {"blank": 1, "no_answer": 1}
    assert len(found.samples) == 5
    assert found.samples[0]["messages"][1] == {"role": "assistant", "content": QA[0]["回答"]}
    assert [said.text for said in found.warnings] == [
        "1 samples are blank and are left out.",
        "1 samples have no answer and are left out.",
    ]


def test_the_preview_reads_only_the_beginning_of_a_long_file(folder: Path) -> None:
    path = folder / "a.jsonl"
    path.write_text('{"text": "' + "word " * 200 + '"}\n' * 1 + '{"text": "short"}\n' * 20_000 + "torn", "utf-8")
    found = preview(DataPlan(source=str(path)))
    assert found.n_rows is None
    assert found.n_looked_at == 20_000
    assert len(found.samples[0]["text"]) == 401


def test_the_preview_knows_the_rows_of_a_parquet_file_without_reading_them(folder: Path) -> None:
    path = write(folder / "a.parquet", [{"text": "word"}] * 30_000)
    assert preview(DataPlan(source=str(path))).n_rows == 30_000
