"""Settings: every field can be named, changed and explained; a wrong one is one sentence."""

from pathlib import Path
from typing import Any

import pytest

from aegis_core import plan as plans
from aegis_core.cli.tables import settings
from aegis_core.failures import UsageError
from aegis_core.plan import Plan, changed, demo_plan, dumps, get, loads, parsed
from aegis_core.platforms.posix import Posix
from aegis_core.resources import system_language

ALL = [(name, value) for name, value, _, _ in settings(Plan())]


@pytest.mark.parametrize(("name", "value"), ALL, ids=[name for name, _ in ALL])
def test_every_setting_can_be_written_as_it_is_listed_and_comes_back_the_same(name: str, value: Any) -> None:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert changed(Plan(), dict([parsed(f"{name}={text}")])) == Plan()
    assert get(Plan(), name) == value


def test_every_setting_is_explained() -> None:
    assert all(meaning.rstrip(")").strip() for _, _, _, meaning in settings(Plan()))


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("train.steps=200", 200),
        ("train.learning_rate=1e-4", 1e-4),
        ("model.source=123", "123"),
        ("model.source=C:\\モデル\\a b=c", "C:\\モデル\\a b=c"),
        ("export.types=f16", ("f16",)),
        ('export.types=["q4_k_m"]', ("q4_k_m",)),
        ("search.batch_sizes=1, 8", (1, 8)),
        ("soul.calibrate=false", False),
        ("soul.schedule.kind=linear", "linear"),
        (" train.seed =7", 7),
    ],
)
def test_a_setting_is_read_from_the_command_line(assignment: str, value: Any) -> None:
    name, parsed_value = parsed(assignment)
    assert get(changed(Plan(), {name: parsed_value}), name) == value


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.steps=1", ["train.steps", "1", "greater than or equal to 2"]),
        ("train.steps=many", ["train.steps", "many"]),
        ("train.learning_rate=NaN", ["train.learning_rate"]),
        ("train.stops=3", ["no setting train.stops"]),
        ("train=3", ["train"]),
        ("train.steps.more=3", ["no setting train.steps.more"]),
        ("train.steps", ["section.field=value"]),
        ("model.source=", ["model.source"]),
        ("search.batch_sizes=0", ["search.batch_sizes.0"]),
        ("search.learning_rate_low=0.5", ["search", "learning_rate_low lies above learning_rate_high"]),
        ("soul.schedule.end_fraction=0.2", ["soul.schedule", "end_fraction"]),
        ("chat.model_name=ein Name", ["chat.model_name"]),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(assignment: str, words: list[str]) -> None:
    plan = changed(Plan(), {"soul.schedule.warmup_fraction": 0.3})
    with pytest.raises(UsageError) as refused:
        changed(plan, dict([parsed(assignment)]))
    assert all(word in refused.value.reason for word in words), refused.value.reason
    assert "\n" not in refused.value.reason
    assert refused.value.advice


def test_a_plan_comes_back_from_its_file() -> None:
    plan = changed(demo_plan(), {"model.source": "D:/モデル", "soul.alpha_target": 1.618033988749895})
    assert loads(dumps(plan), Path("plan.json")) == plan


def test_a_plan_of_an_older_version_gets_defaults_for_what_it_does_not_know() -> None:
    assert loads('{"train": {"steps": 7}}', Path("plan.json")) == changed(Plan(), {"train.steps": 7})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["my plan.json", "line 1"]),
        ("{\n  oops", ["my plan.json", "line 2"]),
        ("[]", ["my plan.json"]),
        ('{"train": {"stops": 7}}', ["train.stops", "my plan.json"]),
        ('{"train": 3}', ["train", "my plan.json"]),
        ('{"train": {"steps": null}}', ["train.steps", "None"]),
        ('{"train": {"learning_rate": Infinity}}', ["train.learning_rate"]),
    ],
)
def test_a_damaged_plan_is_one_sentence_that_names_file_and_field(text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        loads(text, Path("my plan.json"))
    assert all(word in refused.value.reason for word in words), refused.value.reason


def test_the_golden_ratio_is_where_alpha_goes() -> None:
    assert Plan().soul.alpha_target == pytest.approx(1.618, abs=1e-3)
    assert abs(plans.GOLDEN_RATIO**2 - plans.GOLDEN_RATIO - 1) < 1e-15


@pytest.mark.parametrize(("lang", "expected"), [("ja_JP.UTF-8", "ja"), ("de_DE.UTF-8", "en"), ("C", "en"), ("", "en")])
def test_the_run_log_follows_the_system_s_language(monkeypatch: pytest.MonkeyPatch, lang: str, expected: str) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", lang)
    monkeypatch.setattr("aegis_core.platforms.here", lambda: Posix("linux"))
    assert system_language() == expected
