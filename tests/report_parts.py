"""What the tests of the run log share: a finished run of its own for every test, and a page taken apart."""

import re
from html.parser import HTMLParser
from typing import Any

from aegis_core.cancel import CancelToken
from aegis_core.context import StepContext
from aegis_core.report import html, markdown
from aegis_core.report.phrases import translator
from aegis_core.report.record import gather
from aegis_core.report.sections import compose
from aegis_core.run_directory import RunDirectory, read_json
from aegis_core.steps import report as report_step

QUIET = ("code", "pre", "blockquote", "style")
"""Elements that hold what no translator touches: settings, commands, what a model said."""


class Page(HTMLParser):
    """Tags, attributes that lead or act, the text of the page, and its sentences outside QUIET."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.actions: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.sentences: list[str] = []
        self._quiet = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._quiet += tag in QUIET
        for name, value in attributes:
            self.sources += [value or ""] if name in ("src", "href", "xlink:href", "data", "action") else []
            self.actions += [name] if name.startswith("on") else []
            self.ids += [value or ""] if name == "id" else []
            self.sentences += [value or ""] if name in ("aria-label", "data-label") else []

    def handle_endtag(self, tag: str) -> None:
        self._quiet -= tag in QUIET

    def handle_data(self, data: str) -> None:
        self.text += data
        if not self._quiet and data.strip():
            self.sentences.append(data.strip())


def reported(run: RunDirectory) -> dict[str, Any]:
    """report.json after the step has run."""
    report_step.run(run.plan(), StepContext(run, "report", lambda event: None, CancelToken()))
    row: dict[str, Any] = read_json(run.path / "report.json")
    return row


def written(run: RunDirectory, language: str = "en") -> tuple[str, str]:
    """The log as HTML and Markdown, without figures."""
    document = compose(gather(run, run.plan()), translator(language))
    return html.render(document, {}), markdown.render(document, {})


def chapter(page: str, anchor: str) -> str:
    """The HTML of one section."""
    found = re.search(rf'<section id="{anchor}".*?</section>', page, re.DOTALL)
    assert found, anchor
    return found[0]
