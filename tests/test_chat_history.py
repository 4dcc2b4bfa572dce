"""Conversations on the disk: what stands, what is kept, what a kill or a stranger's hand makes of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_core import plan as plans
from aegis_core.chat import history
from aegis_core.failures import UserError
from aegis_core.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "ri tual 日本語", plans.demo_plan())


def talk(run, *contents, id="a"):
    for n, content in enumerate(contents):
        history.add(run, id, "user" if n % 2 == 0 else "assistant", content)


def contents(run, id="a"):
    return [row["content"] for row in history.conversation(run, id).messages]


def test_what_was_said_comes_back_in_order_with_its_figures(run):
    talk(run, "光とは？\u2028二行目", "波。")
    history.add(run, "a", "assistant", "また波。", n_tokens=3)
    found = history.conversation(run, "a")
    assert contents(run) == ["光とは？\u2028二行目", "波。", "また波。"]
    assert found.title == "光とは？ 二行目" and found.messages[2]["n_tokens"] == 3


def test_going_back_leaves_the_first_messages_and_loses_no_row(run):
    talk(run, "1", "2", "3", "4")
    history.go_back(run, "a", 2)
    talk(run, "5")
    assert contents(run) == ["1", "2", "5"]
    rows = (run.path / history.FOLDER / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row).get("content") for row in rows] == ["1", "2", "3", "4", None, "5"]


def test_the_latest_conversation_comes_first_and_an_empty_one_not_at_all(run):
    talk(run, "old", id="20260101-000000-aaaa")
    talk(run, "new", id="20260102-000000-aaaa")
    talk(run, "taken back", id="20260103-000000-aaaa")
    history.go_back(run, "20260103-000000-aaaa", 0)
    assert [found.title for found in history.conversations(run)] == ["new", "old"]


def test_a_title_of_its_own_stands_over_the_first_question(run):
    talk(run, "hello")
    history.rename(run, "a", "  Light\n and  water ")
    assert history.conversation(run, "a").title == "Light and water"
    with pytest.raises(UserError, match="needs a title"):
        history.rename(run, "a", " ")


def test_a_deleted_conversation_is_gone_and_deleting_it_twice_is_no_error(run):
    talk(run, "hello")
    history.delete(run, "a")
    history.delete(run, "a")
    assert contents(run) == [] and history.conversations(run) == []


@pytest.mark.parametrize("id", ["", "../plan", "a/b", "a\\b", "a.b", "C:", "a\0"])
def test_no_name_leads_out_of_the_folder(run, id):
    with pytest.raises(UserError, match="no name of a conversation"):
        history.add(run, id, "user", "hello")


@given(st.data())
def test_a_file_cut_anywhere_gives_the_whole_rows_before_the_cut(tmp_path_factory, data):
    run = RunDirectory.create(tmp_path_factory.mktemp("cut") / "run", plans.demo_plan())
    talk(run, "光", "波", "水")
    path = run.path / history.FOLDER / "a.jsonl"
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:length])
    n_rows = whole[:length].count(b"\n")
    assert contents(run) == ["光", "波", "水"][:n_rows]
    talk(run, "次")
    assert contents(run) == [*["光", "波", "水"][:n_rows], "次"]


@pytest.mark.parametrize(
    "damage", ['{"role": "user"}', "[1]", "{", '"x"', '{"role": "god", "content": "a", "at": "b"}', '{"keep": "x"}']
)
def test_a_damaged_file_is_named_and_the_others_are_listed_all_the_same(run, damage):
    talk(run, "hello", id="b")
    talk(run, "hello", id="a")
    with (run.path / history.FOLDER / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write(damage + "\n")
    with pytest.raises(UserError, match="damaged"):
        history.conversation(run, "a")
    assert [(found.title, len(found.messages)) for found in history.conversations(run)] == [
        ("hello", 1),
        ("a.jsonl", 0),
    ]


def test_a_conversation_reads_well_as_markdown(run):
    history.add(run, "a", "user", "hello")
    history.add(run, "a", "assistant", " hi \n", model="aegis")
    shown = history.as_markdown(history.conversation(run, "a"))
    assert shown.startswith("# hello\n\n**You** · ") and shown.endswith("\n\nhi\n")
