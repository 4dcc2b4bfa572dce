"""What an attempt leaves for the next one vouches for itself, and what a kill left half made is cleared away."""

import errno
import json
from pathlib import Path

import pytest
import torch

from aegis_core.chat.transcript import append_row, read_answers, rows_as_text
from aegis_core.evaluation.measurement import Measurement, load_measurement, save_measurement
from aegis_core.failures import UserError, explain
from aegis_core.fusion.target import refuse_foreign
from aegis_core.run_directory import write_json
from aegis_core.sealed import KEY, UNSEALED, is_whole, read_sealed, sealed
from aegis_core.training import checkpoints
from aegis_core.training.metrics import METRICS, read_metrics, restore_metrics
from aegis_core.training.to_the_end import resume_point

ROWS = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]


def test_a_sealed_file_reads_back_and_no_other_letter_in_it_goes_unnoticed(tmp_path: Path) -> None:
    path, row = tmp_path / "値 1.json", {"value": 0.1 + 0.2, "settings": {"名": None}, "list": [1, 2]}
    write_json(path, sealed(row))
    assert read_sealed(path) == row
    whole = path.read_text(encoding="utf-8")
    for before, after in (("0.3", "0.2"), ("null", "true"), ("名", "各"), (KEY, "self_sha257"), ("{", "[")):
        path.write_text(whole.replace(before, after, 1), encoding="utf-8")
        if before == KEY:  # then there is no seal, but another key: whoever reads it by name does not see it
            assert read_sealed(path).items() >= row.items()
            continue
        with pytest.raises(UserError, match="is damaged"):
            read_sealed(path)


def test_what_older_versions_left_without_a_seal_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "row.json", {"value": 1})
    write_json(tmp_path / "rows.json", [{"seed": 1}])
    assert read_sealed(tmp_path / "row.json") == {"value": 1}
    assert read_sealed(tmp_path / "rows.json") == {"rows": [{"seed": 1}]}


@pytest.mark.parametrize("place", [12, 60, -1], ids=["header", "header's text", "last byte"])
def test_a_measurement_of_which_one_bit_is_another_is_damaged(tmp_path: Path, place: int) -> None:
    path, measured = tmp_path / "gated.safetensors", Measurement(torch.rand(50), torch.rand(7))
    save_measurement(path, measured, {"tokens": "ab"})
    assert is_whole(path)
    found, of = load_measurement(path)
    assert of == {"tokens": "ab", "format": "pt"} or of == {"tokens": "ab"}
    assert found.losses.equal(measured.losses)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    (tmp_path / "copy").mkdir()
    copy = (tmp_path / "copy" / path.name).resolve()  # another name: what was read is known by name, size and time
    copy.write_bytes(content)
    assert not is_whole(copy)
    with pytest.raises(UserError, match="is damaged"):
        load_measurement(copy)


def test_a_file_never_sealed_is_not_whole(tmp_path: Path) -> None:
    from aegis_core.fixed_order import in_fixed_order

    for name, metadata in (("without", {}), ("not yet", UNSEALED)):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(in_fixed_order({"x": torch.ones(3)}, {"a": "b"} | metadata))
        assert not is_whole(path)


def test_an_answer_of_which_a_letter_is_another_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    for answer in ("It is warm.", "温度は…"):
        append_row(path, sealed({"question": "q", "answer": answer}))
    assert [row["answer"] for row in read_answers(path)] == ["It is warm.", "温度は…"]
    path.write_text(rows_as_text(read_answers(path)), encoding="utf-8")
    assert len(read_answers(path)) == 2
    path.write_text(path.read_text(encoding="utf-8").replace("warm", "worm"), encoding="utf-8")
    with pytest.raises(UserError, match=r"transcript\.jsonl is damaged"):
        read_answers(path)
    path.write_text('{"question": "q", "answer": "as older versions wrote it"}\n', encoding="utf-8")
    assert read_answers(path)[0]["answer"] == "as older versions wrote it"


# ---- checkpoints


def rows_file(path: Path, rows: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("found", "restored"),
    [
        (ROWS, False),
        ([*ROWS, {"step": 4, "loss": 0.1}], False),
        ([*ROWS[:2], ROWS[2] | {"held_out_loss": 2.0}], False),
        (ROWS[:2], True),
        ([], True),
        ([ROWS[0], ROWS[1] | {"loss": 9.0}, ROWS[2]], True),
        ([*ROWS[:2], ROWS[2] | {"loss": 9.0}], True),
        ([*ROWS[:2], 3.0], True),
    ],
)
def test_the_rows_up_to_a_checkpoint_are_those_it_holds(
    tmp_path: Path, found: list[dict[str, float]], restored: bool
) -> None:
    rows_file(tmp_path / "checkpoint-000003" / METRICS, ROWS)
    rows_file(tmp_path / METRICS, found)
    restore_metrics(tmp_path, tmp_path / "checkpoint-000003")
    assert read_metrics(tmp_path / METRICS) == (ROWS if restored else found)


def test_a_checkpoint_of_an_older_version_holds_no_rows_and_changes_none(tmp_path: Path) -> None:
    rows_file(tmp_path / METRICS, ROWS[:1])
    (tmp_path / "checkpoint-000003").mkdir()
    restore_metrics(tmp_path, tmp_path / "checkpoint-000003")
    assert read_metrics(tmp_path / METRICS) == ROWS[:1]


def test_what_a_kill_left_of_a_checkpoint_is_cleared_away_and_a_damaged_copy_of_the_rows_is_passed_over(
    tmp_path: Path,
) -> None:
    for step in (2, 3):
        rows_file(tmp_path / METRICS, ROWS[:step])
        draft = tmp_path / checkpoints.DRAFT / "checkpoint-9"
        draft.mkdir(parents=True)
        (draft / "trainable.safetensors").write_bytes(b"x" * step)
        checkpoints.seal(draft, tmp_path, step)
    assert (tmp_path / checkpoints.DRAFT).is_dir()
    assert resume_point(tmp_path) == (tmp_path / "checkpoint-000003", 3)
    assert not (tmp_path / checkpoints.DRAFT).exists()
    rows_file(tmp_path / "checkpoint-000003" / METRICS, ROWS[:1])
    rows_file(tmp_path / METRICS, ROWS[:1])
    assert resume_point(tmp_path) == (tmp_path / "checkpoint-000002", 2)
    assert read_metrics(tmp_path / METRICS) == ROWS[:2]


def test_a_full_disk_is_recognised_through_the_words_of_a_library() -> None:
    def fail() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("An exception is raised during the commit.") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert explain(caught.value).reason == "The disk is full."
    assert explain(RuntimeError("An exception is raised during the commit.")).reason.startswith("Something unexpected")


@pytest.mark.parametrize(
    ("files", "refused"),
    [((), False), (("aegis.json.part",), False), (("aegis.json.part", "thesis.docx"), True), (("config.json",), True)],
)
def test_a_draft_of_a_fused_model_that_was_only_begun_is_ours_and_nothing_else_is(
    tmp_path: Path, files: tuple[str, ...], refused: bool
) -> None:
    draft = tmp_path / "model.unproven.part"
    draft.mkdir()
    for name in files:
        (draft / name).write_text("x", encoding="utf-8")
    if refused:
        with pytest.raises(UserError, match=r"model\.unproven\.part is there already"):
            refuse_foreign(tmp_path / "model", "run")
    else:
        refuse_foreign(tmp_path / "model", "run")
