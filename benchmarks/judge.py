"""The judge against the answers labelled by hand, with and without the base model's opinion.

    python benchmarks/judge.py --part fix|held_out

Loads the demo's base model (fetched if need be), measures its loss on every answer of the part, keeps the figures in
tests/data/answers/surprise.json, where the tests read them, and prints the confusion matrix by language and by kind.
The limits of the judge were fixed on `fix`; `held_out` is there to be looked at once.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from labelled_answers import FOLDER, LANGUAGES, confusion, labelled  # noqa: E402

from aegis_core.cancel import CancelToken  # noqa: E402
from aegis_core.chat.prompt import ChatPrompts  # noqa: E402
from aegis_core.chat.questions import load_questions  # noqa: E402
from aegis_core.chat.surprise import BaseReader  # noqa: E402
from aegis_core.models.demo import ensure_demo  # noqa: E402
from aegis_core.models.loading import load_model  # noqa: E402

RECORD = FOLDER / "surprise.json"


def measure(part: str) -> None:
    """Write what the base makes of the part's answers; those of the other part stay as they are."""
    folder = ensure_demo(CancelToken(), lambda event: None)
    reader = BaseReader(load_model(folder, torch.float32), ChatPrompts(folder), CancelToken())
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {"references": {}, "answers": {}}
    for language in LANGUAGES:
        questions = {question.id: question.question for question in load_questions(language)}
        lines = (FOLDER / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
        losses = known["answers"].get(language) or [None] * len(lines)
        for i, row in enumerate(map(json.loads, lines)):
            if row["part"] == part:
                loss = reader.loss(questions[row["question"]], row["answer"])
                losses[i] = [round(loss.nats_per_token, 4), loss.n_tokens] if loss.n_tokens else None
        known["answers"][language] = losses
        known["references"][language] = [round(loss.nats_per_token, 4) for loss in reader.references(language)]
    reader.close()
    RECORD.write_text(json.dumps(known) + "\n", encoding="utf-8")


def show(part: str) -> None:
    rows = labelled(part)
    for with_base in (False, True):
        print(f"\n{part}, {'with' if with_base else 'without'} the base model")
        for language in LANGUAGES:
            print(f"  {language}: {confusion([r for r in rows if r.language == language], with_base=with_base)}")
        kinds: Counter[tuple[str, str, str]] = Counter()
        for row in rows:
            passed = row.verdict(with_base=with_base).passed
            kinds[row.language, f"{'good' if row.good else 'gibberish'}, {row.kind}", "pass" if passed else "fail"] += 1
            if passed != row.good:
                failed = [f"{check.name}: {check.measured}" for check in row.verdict(with_base=with_base).failed]
                print(f"  wrong: {row.language} {row.kind}: {row.answer[:60]!r} {failed}")
        for language, kind, verdict in sorted(kinds):
            print(f"    {language} {kind:<28} {verdict} {kinds[language, kind, verdict]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("fix", "held_out"), required=True)
    part = parser.parse_args().part
    measure(part)
    show(part)
