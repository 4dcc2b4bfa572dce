"""Step 9: the run log as data, Markdown and one HTML page, every verdict recomputed from the run's files."""

from ..context import StepContext
from ..events import Progress, Verdict, note
from ..plan import Plan
from ..report import card, html, markdown
from ..report.controls import read_curves
from ..report.evidence import Evidence
from ..report.facts import metrics
from ..report.figures import draw
from ..report.phrases import translator
from ..report.record import gather
from ..report.sections import compose
from ..report.svg import standalone
from ..run_directory import write_json, write_text

N_PARTS = 3


def run(plan: Plan, ctx: StepContext) -> None:
    """Leaves RUN_DIR/report.json, report.md, report.html the figures and the model card in RUN_DIR/report/."""
    ctx.emit(Progress(0, N_PARTS, "parts", "hashing and judging"))
    record = gather(ctx.run, plan, ctx.cancel.check)
    for name, finding in (record.indicators | record.quality_checks).items():
        ctx.emit(Verdict(name, finding.status, finding.measured.english, finding.expected.english))
    ctx.cancel.check()
    ctx.emit(Progress(1, N_PARTS, "parts", "drawing"))
    evidence, language = Evidence(ctx.run), plan.report.language
    figures = draw(record.row, metrics(evidence), record.history.readings, language, read_curves(evidence))
    links = {}
    for name, svg in figures.items():
        path = ctx.folder / f"{name}.svg"
        write_text(path, standalone(svg))
        ctx.artifact(path)
        links[name] = f"{ctx.folder.name}/{path.name}"
    ctx.cancel.check()
    ctx.emit(Progress(2, N_PARTS, "parts", "writing"))
    document = compose(record, translator(language))
    write_text(ctx.folder / card.NAME, card.whole_card(record.row, translator(language)))
    ctx.artifact(ctx.folder / card.NAME)
    home = ctx.run.path
    write_text(home / "report.md", markdown.render(document, links))
    write_text(home / "report.html", html.render(document, figures))
    write_json(home / "report.json", record.row)
    for name in ("report.md", "report.html", "report.json"):
        ctx.artifact(home / name)
    ctx.emit(Progress(N_PARTS, N_PARTS, "parts", "writing"))
    statuses = [finding.status for finding in record.indicators.values()]
    ctx.emit(note("{n_passed} of {n} success indicators are green.", n_passed=statuses.count("pass"), n=len(statuses)))
