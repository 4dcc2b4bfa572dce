"""What the run log tells, in which order, in the user's language."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import __version__
from ..freshness import State
from . import background
from .answers import answers_section
from .controls import controls_section
from .document import Block, Document, Missing, Section
from .phrases import STEP_TITLES, Translate, phrase
from .quality_section import quality_section, verdict_table
from .record import Record
from .results import export_section, fusion_section, training_section
from .summary import summary
from .wording import date

INDICATOR_TITLES = {
    "training_completed": "Training completed all its steps",
    "alpha_reached": "Alpha reached the golden ratio",
    "soul_saved": "Adapter, gate and rotation saved",
    "fusion_equal": "Fusion equal to the gated model",
    "gguf_verified": "GGUF written and verified",
    "ollama_loaded": "Loads in Ollama",
    "answer_meaningful": "Meaningful answer to a physics question",
}


def compose(record: Record, t: Translate) -> Document:
    """The whole log: the verdicts, then the ritual in its order, then what it takes to check and repeat it."""
    row = record.row
    chapters: dict[str, tuple[str, Callable[[], Section]]] = {
        "indicators": ("Success indicators", lambda: _indicators(record, t)),
        "quality": (
            "Quality from base to GGUF",
            lambda: quality_section(record.row["quality"], record.quality_checks, record.gaps, t),
        ),
        "data": (STEP_TITLES["prepare"], lambda: background.data(row, t)),
        "studies": ("Studies", lambda: background.studies(row, t)),
        "training": (STEP_TITLES["train"], lambda: training_section(row, t)),
        "controls": ("Control runs", lambda: controls_section(row["control"], record.control_problems, t)),
        "fusion": (STEP_TITLES["fuse"], lambda: fusion_section(row, t)),
        "gguf": (STEP_TITLES["export"], lambda: export_section(row, t)),
        "answers": (STEP_TITLES["chat"], lambda: answers_section(row, t)),
        "environment": (STEP_TITLES["check"], lambda: background.environment(row, t)),
        "course": ("Course of the run", lambda: background.course(row, t)),
        "plan": ("Plan, seeds and versions", lambda: background.plan(row, t)),
        "files": ("Files", lambda: background.files(row, t)),
        "repeat": ("To repeat", lambda: background.commands(row, t)),
    }
    sections = {anchor: _readable(title, chapter, t) for anchor, (title, chapter) in chapters.items()}
    subtitle = t("Written on {time} by AEGIS {version}", time=date(row["made_at"], t), version=_version(row))
    return Document(
        t.language,
        row["run"],
        subtitle,
        tuple(replace(section, anchor=anchor) for anchor, section in sections.items()),
        kicker=t("AEGIS run log"),
        lead=summary(row, t),
        contents=t("Contents"),
    )


def _readable(title: str, chapter: Callable[[], Section], t: Translate) -> Section:
    """The chapter, or where a file of the run has a form that cannot be told, the gap it leaves and why."""
    try:
        return chapter()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = phrase("its file does not have the expected form ({problem})", problem=repr(error))
        return Section(t(title), (Missing(t("{gap}: this cannot be shown.", gap=t(problem))),))


def _version(row: dict[str, Any]) -> str:
    return str(row["versions"].get("AEGIS") or __version__)


def _indicators(record: Record, t: Translate) -> Section:
    blocks: list[Block] = [verdict_table(record.indicators, INDICATOR_TITLES, t)]
    for step in record.row["gaps"]:
        stale = record.row["steps"][step] == State.STALE
        text = (
            t("The result of this step no longer fits: {title}.", title=t(STEP_TITLES[step]))
            if stale
            else t("This step has no finished result: {title}.", title=t(STEP_TITLES[step]))
        )
        blocks.append(Missing(text))
    return Section(t("Success indicators"), tuple(blocks))
