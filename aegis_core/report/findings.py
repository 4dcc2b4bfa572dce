"""One measured claim, and the wrapper that turns missing or senseless evidence into a red one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..failures import UserError
from .evidence import Gap
from .phrases import Phrase, phrase

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"


@dataclass(frozen=True)
class Finding:
    """`problems` are the reasons for a red one, one sentence each; `remarks` stand beside and change nothing."""

    status: str
    measured: Phrase
    expected: Phrase
    problems: tuple[Phrase, ...] = ()
    remarks: tuple[Phrase, ...] = ()

    def row(self) -> dict[str, Any]:
        """As it stands in report.json: plain English."""
        row: dict[str, Any] = {
            "status": self.status,
            "measured": self.measured.english,
            "expected": self.expected.english,
        }
        row |= {"problems": [problem.english for problem in self.problems]} if self.problems else {}
        return row | ({"remarks": [remark.english for remark in self.remarks]} if self.remarks else {})


def judged(measured: Phrase, expected: Phrase, problems: list[Phrase]) -> Finding:
    """Pass only without a problem."""
    return Finding(FAIL if problems else PASS, measured, expected, tuple(problems))


def guarded(expected: Phrase, measure: Callable[[], Finding], status_of_gap: str = FAIL) -> Finding:
    """The finding, or `status_of_gap` with the reason where its evidence is missing; damaged evidence is always red."""
    try:
        return measure()
    except Gap as gap:
        return Finding(status_of_gap, phrase("not measured"), expected, (gap.phrase,))
    except UserError as error:
        return Finding(FAIL, phrase("not measured"), expected, (Phrase(error.reason_template, error.values),))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = phrase("its file does not have the expected form ({problem})", problem=repr(error))
        return Finding(FAIL, phrase("not measured"), expected, (problem,))
