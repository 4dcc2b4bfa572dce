"""The run log as a page: it needs nothing else, nothing foreign acts in it, and it speaks the reader's language."""

import ast
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from string import Formatter

import pytest
from finished_run import edit_json, edit_rows, finished_run, seal
from gui_parts import recorded_run
from report_parts import Page, chapter, reported, written

from aegis_core import events, report
from aegis_core import plan as plans
from aegis_core.chat import judge
from aegis_core.chat.questions import load_questions
from aegis_core.report import figures, html
from aegis_core.report.evidence import Evidence
from aegis_core.report.facts import metrics
from aegis_core.report.figures import draw
from aegis_core.report.foreign import shown
from aegis_core.report.history import read_history
from aegis_core.report.markdown import escape
from aegis_core.report.phrases import translator
from aegis_core.report.record import gather
from aegis_core.report.wording import date, duration, interval, number, with_error, with_minus
from aegis_core.resources import RESOURCES
from aegis_core.run_directory import RunDirectory

TRANSCRIPT = "chat/transcript.jsonl"
HOSTILE = (
    "<script>alert(1)</script> </blockquote></details></main> ````\n# not a heading\n| a | "
    '<img src=x onerror="x"> & 時間'
    " [here](javascript:x) ![](http://e.vil/x.png) <!-- &lt; ]]> <style>*{display:none}</style>"
)
INVISIBLE = "abc\u202edef\u2066\x1b[31m\x00\x07\u200b\u2028\ud800\x85 end"


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return finished_run(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture
def finished(finished_once: RunDirectory, tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "ri tual 日本語")
    shutil.copytree(finished_once.path, run.path)
    return run


@pytest.fixture(scope="module")
def page(finished_once: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = RunDirectory(tmp_path_factory.mktemp("reported") / "run")
    shutil.copytree(finished_once.path, run.path)
    reported(run)
    return (run.path / "report.html").read_text(encoding="utf-8")


# nothing foreign acts in it


def test_what_the_model_says_cannot_get_loose(finished: RunDirectory) -> None:
    edit_rows(finished.path / TRANSCRIPT, lambda rows: rows[0].update(answer=HOSTILE, question=HOSTILE))
    page, log = written(finished)
    found, innocent = Page(page), Page(written(RunDirectory(finished.path))[0])
    assert "script" not in found.tags and "img" not in found.tags and found.tags.count("style") == 1
    assert found.tags == innocent.tags and not found.actions
    assert found.text.count(HOSTILE) == 3  # the overview, the fold's title, the answer
    assert all(source.startswith("#") for source in found.sources)
    assert f"`````text\n{HOSTILE}\n`````" in log
    outside = log.replace(HOSTILE, "")
    assert not any(line.startswith(("# not", "<script", "| a |")) for line in outside.splitlines())
    assert not re.search(r"(?<!\\)\]\(", outside) and "http://" not in outside


def test_signs_that_nobody_sees_are_shown_and_turn_no_text_around(finished: RunDirectory) -> None:
    edit_rows(finished.path / TRANSCRIPT, lambda rows: rows[0].update(answer="x"))
    rows = (finished.path / TRANSCRIPT).read_text(encoding="utf-8").splitlines()
    first = json.dumps(json.loads(rows[0]) | {"answer": INVISIBLE})  # ASCII: half a character cannot be written else
    (finished.path / TRANSCRIPT).write_text("\n".join([first, *rows[1:], ""]), encoding="utf-8")
    reported(finished)
    told = "abc‹U+202E›def‹U+2066›␛[31m␀␇‹U+200B›‹U+2028›‹U+D800›‹U+0085› end"
    for name in ("report.html", "report.md"):
        text = (finished.path / name).read_text(encoding="utf-8")
        assert told in text
        assert not set(INVISIBLE[3] + "\u2066\x1b\x00\u2028") & set(text)


def test_the_words_of_other_scripts_stay_as_they_are() -> None:
    for text in ("時間は不可逆です。", "שלום עולם", "👩‍🔬 e\u0301 ½", "line\n\tindented"):
        assert shown(text) == text


@pytest.mark.parametrize(
    "name, hostile",
    [
        ("prepare/base.json", lambda row: row.update(source="a|b\n<b>*c*</b>`", license="<i>", revision="_x_ ~~y~~")),
        ("check/check.json", lambda rows: rows[2].update(found="<b>&amp; [x](y)", fix="www.e.vil $x$ http://e.vil")),
        ("export/files.json", lambda rows: rows[0].update(path="export/<b>|.gguf", sha256="<b>")),
    ],
)
def test_names_and_findings_cannot_break_page_or_table(finished: RunDirectory, name: str, hostile) -> None:  # type: ignore[no-untyped-def]
    before = Page(written(finished)[0]).tags
    edit_json(finished.path / name, hostile)
    page, log = written(finished)
    assert "b" not in Page(page).tags and "i" not in Page(page).tags
    assert before.count("table") == Page(page).tags.count("table")
    widths = [len(re.split(r"(?<!\\)\|", line)) for line in log.splitlines() if line.startswith("| ")]
    assert widths and min(widths) > 3
    assert not re.search(r"(?<!\\)<|http://|www\.", log)


def test_markdown_says_what_was_said() -> None:
    assert escape("a|b\n<b>*c*</b>`") == r"a\|b \<b\>\*c\*\</b\>\`"
    assert escape("x_y ~z~ $1$ #2 &lt; a & b") == r"x\_y \~z\~ \$1\$ \#2 &amp;lt; a & b"
    assert escape("see https://e.vil and WWW.e.vil") == r"see https\://e.vil and WWW\.e.vil"


# it needs nothing else


def test_the_page_reaches_for_nothing_outside(page: str) -> None:
    found = Page(page)
    assert all(source.startswith("#") for source in found.sources) and not found.actions
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(found.tags)
    assert not re.search(r"https?://|@import|url\((?!#)|xmlns", page)
    assert "default-src 'none'" in page


def test_every_place_the_page_leads_to_is_there_and_every_name_is_given_once(page: str) -> None:
    found = Page(page)
    assert len(found.ids) == len(set(found.ids))
    assert {source[1:] for source in found.sources} <= set(found.ids)
    assert {"indicators", "quality", "files", "repeat"} <= set(found.ids)


def test_figures_are_drawings_with_their_words_as_text(page: str) -> None:
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == 4 and all("<text" in svg and 'role="img"' in svg and "aria-label" in svg for svg in drawn)
    words = re.sub(r"<[^>]+>", " ", " ".join(drawn))
    assert all(word in words for word in ("critical point", "gate half open", "nats per token", "chance, ln V"))


def test_figures_take_the_colours_and_the_font_of_the_page(page: str) -> None:
    drawn = " ".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.findall(r"(?<!, )#[0-9a-f]{6}\b", drawn)  # each only as what to fall back on
    style = (RESOURCES / "report" / "page.css").read_text(encoding="utf-8")
    named = set(re.findall(r"var\(--([\w-]+)", drawn + style))
    light, dark = (set(re.findall(r"--([\w-]+):", part)) for part in style.split("@media screen")[:2])
    assert named <= light == dark
    assert "font-family" not in drawn and "DejaVu" not in drawn


def test_figures_can_be_had_without_any_japanese_font(
    finished: RunDirectory, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(figures, "JAPANESE_FONTS", ())
    row = gather(finished, finished.plan()).row
    drawn = draw(row, metrics(Evidence(finished)), read_history(finished).readings, "ja")
    assert "臨界点" in drawn["alpha"]
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_a_linked_figure_stands_by_itself(finished: RunDirectory) -> None:
    reported(finished)
    log = (finished.path / "report.md").read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in log.split("](")[1:]]
    assert len(links) == 4
    for link in links:
        assert (finished.path / link).read_text(encoding="utf-8").count('xmlns="http://www.w3.org/2000/svg"') == 1


def test_rows_and_columns_are_named_for_those_who_do_not_see_them(page: str) -> None:
    body = re.findall(r"<tbody>.*?</tbody>", page, re.DOTALL)
    rows = "".join(body).count("<tr>")
    assert rows and "".join(body).count('<th scope="row"') == rows
    assert page.count("<thead>") == page.count('role="region" aria-label="') == len(body)


# it speaks the reader's language


@pytest.fixture(scope="module")
def japanese(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three Japanese logs: of the recorded real ritual, of a finished run with everything, of a run just begun."""
    folder = tmp_path_factory.mktemp("japanese")
    ja = {"report.language": "ja"}
    runs = {
        "recorded": recorded_run(folder / "recorded", plans.changed(plans.demo_plan(), ja), last="chat"),
        "finished": finished_run(folder / "run", report__language="ja", search__enabled=True, schedule__enabled=True),
        "begun": RunDirectory.create(folder / "begun", plans.changed(plans.Plan(), ja)),
    }
    for run in runs.values():
        reported(run)
    logs = {name: (run.path / "report.html").read_text(encoding="utf-8") for name, run in runs.items()}
    return logs | {"card": (runs["finished"].path / "report" / "model-card.md").read_text(encoding="utf-8")}


def test_the_log_is_written_in_japanese(japanese: dict[str, str]) -> None:
    text = Page(japanese["finished"]).text
    for words in ("成功指標", "魂の注入トレーニング", "潜伏期間", "臨界転移", "安定化", "合格", "目次", "作業時間"):
        assert words in text
    assert re.search(r"20\d\d年\d+月\d+日 \d\d:\d\d", text)


SAID_BY_OTHERS = (
    "The memory was not enough for this trial.",  # a trial of the fixture
    *(question.question for language in ("en", "ja") for question in load_questions(language)),
)
ENGLISH = re.compile(r"[A-Za-z]{2,} [a-z]{2,}(?: [A-Za-z]{2,})+|[A-Z][a-z]+ [a-z]{3,} [a-z]{2,}")


@pytest.mark.parametrize("which", ["recorded", "finished", "begun"])
def test_no_sentence_of_a_japanese_log_is_english(japanese: dict[str, str], which: str) -> None:
    found = [s for s in Page(japanese[which]).sentences if s not in SAID_BY_OTHERS and ENGLISH.search(s)]
    versions_of_old = ("nobody answers at", "Install it from ollama.com")  # said by an earlier AEGIS
    found = [sentence for sentence in found if not any(old in sentence for old in versions_of_old)]
    assert [sentence for sentence in found if "tokens_per_trial = " not in sentence] == []


def test_no_sentence_of_a_japanese_model_card_is_english(japanese: dict[str, str]) -> None:
    body = re.sub(r"```.*?```", "", japanese["card"].split("---\n")[2], flags=re.DOTALL)
    assert [line for line in body.splitlines() if ENGLISH.search(line)] == []
    assert "真偽は見分けられません" in body


def test_what_checks_said_is_recognised() -> None:
    t = translator("ja")
    assert t.told("273 of 273") == "273 件中 273 件"
    assert t.told("all tensors") == "すべてのテンソル"
    assert t.told("largest difference 0.0052, mean 0.0015 nats") == "最大差 0.0052、平均 0.0015 nat"
    assert t.told("82.6 GB free at /run, about 0.7 GB will be written") == "/run の空き 82.6 GB、書き込み量は約 0.7 GB"
    assert t.told("50 conversations tokenised") == "会話 50 件をトークン化して照合"
    assert t.told("disk (run, fused model, GGUF)") == "ディスク（実行・融合モデル・GGUF）"
    assert t.told("2.13.0+cpu") == "2.13.0+cpu"
    assert translator("en").told("273 of 273") == "273 of 273"


def test_every_sentence_has_its_translation_with_the_same_values() -> None:
    table = json.loads((RESOURCES / "report" / "ja.json").read_text(encoding="utf-8"))
    templates = templates_in_the_code()
    assert len(templates) > 250 and [t for t in templates if t not in table] == []
    names = {text: {name for _, name, *_ in Formatter().parse(text) if name} for text in [*table, *table.values()]}
    assert [text for text, told in table.items() if names[text] != names[told]] == []
    assert all(told.strip() for told in table.values())


def templates_in_the_code() -> set[str]:
    """What t(…) and phrase(…) are given, and the titles in tables written in capitals that somebody says."""
    found: set[str] = set()
    folder = Path(report.__file__).parent
    for path in [*sorted(folder.glob("*.py")), Path(judge.__file__)]:  # the judge gives its reasons
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="t" | "phrase"), args=[first, *_]):
                    found |= set(_said_in(first))
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(values=values)) if name.isupper():
                    found |= {v.value for v in values if isinstance(v, ast.Constant) and " " in str(v.value)}
    return {text for text in found if "#" not in text}


def _said_in(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return [*_said_in(one), *_said_in(other)]
    return []


def test_numbers_and_times_read_as_people_write_them() -> None:
    en, ja = translator("en"), translator("ja")
    assert number(-0.00012345678) == "−0.00012346" and number(-0.0) == "0" and number(float("nan")) == "–"
    assert with_error(-0.614, 0.02764, sign=True) == "−0.6140 ± 0.0276"
    assert with_error(-7.8e-8, 4.1e-6, sign=True) == "−0.0000001 ± 0.0000041"
    assert with_error(2.1e-9, 3e-9, sign=True) == "+2.1e−09 ± 3e−09"
    assert with_error(-0.3526, 4e-6, sign=True) == "−0.3526 ± 0.0000"
    assert with_minus("loss -0.61, 3e-07 of Q4-K in a-1/-2") == "loss −0.61, 3e−07 of Q4-K in a-1/-2"
    assert interval(-0.614, 0.0276) == "−0.6681 … −0.5599"
    assert [duration(s, en) for s in (4.04, 61, 754, 7300)] == ["4.0 s", "61 s", "12 min 34 s", "2 h 1 min"]
    assert duration(754, ja) == "12 分 34 秒"
    assert date("2026-11-05T09:07:00+09:00", en) == "5 November 2026, 09:07 UTC+09:00"
    assert date("2026-11-05T09:07:00+09:00", ja) == "2026年11月5日 09:07 UTC+09:00"


# gaps


def test_a_chapter_with_a_gap_is_marked_in_the_contents(finished: RunDirectory) -> None:
    shutil.rmtree(finished.step_folder("export"))
    page, _ = written(finished)
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert re.search(r'href="#gguf">[^<]*</a><span class="mark warn">!</span>', contents)
    assert not re.search(r'href="#training">[^<]*</a><span', contents)


@pytest.mark.parametrize("step", ["check", "prepare", "train", "fuse", "export", "chat"])
def test_without_a_step_its_chapter_shows_nothing_green(finished: RunDirectory, step: str) -> None:
    anchors = {"check": "environment", "prepare": "data", "train": "training", "fuse": "fusion", "export": "gguf",
               "chat": "answers"}  # fmt: skip
    assert html.COLOURS["✓"] == "good"
    shutil.rmtree(finished.step_folder(step))
    page, _ = written(finished)
    found = chapter(page, anchors[step])
    assert '<p class="missing">' in found and 'class="mark good"' not in found


@pytest.mark.parametrize("step", ["search", "schedule"])
def test_a_study_that_was_wanted_and_is_not_there_is_a_gap(tmp_path: Path, step: str) -> None:
    run = finished_run(tmp_path / "run", search__enabled=True, schedule__enabled=True)
    assert "no finished result" not in chapter(written(run)[0], "studies")
    shutil.rmtree(run.step_folder(step))
    assert '<p class="missing">! This step has no finished result' in chapter(written(run)[0], "studies")
    edit_json(run.plan_path, lambda plan: plan[step].update(enabled=False))
    assert "no finished result" not in chapter(written(run)[0], "studies")


def test_a_run_just_begun_shows_dashes_and_nothing_green(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", plans.Plan())
    page, _ = written(run)
    assert 'class="mark good"' not in page
    assert page.count('<dd class="value">–</dd>') == 5 and page.count('<dd class="remark">not measured</dd>') == 5


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_doctored_hash_is_red_in_the_list_of_files(finished: RunDirectory, language: str) -> None:
    assert 'class="mark bad"' not in chapter(written(finished, language)[0], "files")
    (finished.path / "train/summary.json").write_text("{}", encoding="utf-8")
    page, _ = written(finished, language)
    assert "✗" in chapter(page, "files") and '<p class="missing">' in chapter(page, "files")


def test_the_course_tells_of_warnings_and_of_starts_that_broke_off(finished: RunDirectory) -> None:
    warm = events.warning("It is warm: {n} °C.", n=90)
    told = [
        events.StepStarted(at=1_790_000_000.0, stage="export"),
        events.StepFailed("The disk is full.", "Free some.", at=1_790_000_001.0, stage="export"),
        events.StepStarted(at=1_790_000_002.0, stage="export"),
        *[replace(warm, at=1_790_000_003.0 + i, stage="export") for i in range(3)],
    ]
    with finished.events_path.open("a", encoding="utf-8") as journal:
        journal.writelines(events.encode(event) + "\n" for event in told)
    course = Page(chapter(written(finished)[0], "course")).text
    assert "The disk is full." in course and "broken off" in course
    assert "It is warm: 90 °C." in course and re.search(r"90 °C\.\s*3\s", course)


def test_a_resealed_change_of_a_shown_figure_shows(finished: RunDirectory) -> None:
    """What the log shows is what the files say, figure by figure."""
    changes = {
        "check/check.json": ("environment", lambda rows: rows[3].update(found="31.7 GB"), "31.7 GB"),
        "prepare/base.json": ("data", lambda row: row.update(n_parameters=135_000_001), "135,000,001"),
        "prepare/data.json": ("data", lambda row: row["train"].update(n_samples=777), "777 texts"),
        "train/summary.json": ("training", lambda row: row.update(tokens=98_765), "98,765"),
        "fuse/proof.json": ("fusion", lambda row: row.update(head_difference=9.87e-6), "9.87e−06"),
        "export/files.json": ("gguf", lambda rows: rows[1].update(n_tensors=271), "271"),
    }
    for name, (anchor, change, sign) in changes.items():
        assert sign not in chapter(written(finished)[0], anchor)
        edit_json(finished.path / name, change)
        seal(finished, name.partition("/")[0])
        assert sign in chapter(written(finished)[0], anchor), name
