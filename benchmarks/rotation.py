"""What the judge says of the demo model with a random rotation fused into its head, and of the demo model itself.

    python benchmarks/rotation.py [--seeds 3] [--scratch FOLDER] [--record FILE]

For every seed the head of the demo model is fused with a random rotation (every block drawn with std 1, the gate open
as after a ritual), exported as F16 GGUF, and asked the demo's six questions through the chat step, embedded, with the
demo's own settings; the base model answers beside. Prints a line for each answer; --record keeps the transcripts' rows
(tests/data/answers/rotated.jsonl). Needs 1 GB under --scratch.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from rotated_demo import rotated_run  # noqa: E402

from aegis_core.cancel import CancelToken  # noqa: E402
from aegis_core.chat.transcript import append_row, read_rows  # noqa: E402
from aegis_core.context import StepContext  # noqa: E402
from aegis_core.models.demo import ensure_demo  # noqa: E402
from aegis_core.plan import changed, demo_plan  # noqa: E402
from aegis_core.run_directory import read_json  # noqa: E402
from aegis_core.steps import chat  # noqa: E402


def ask(folder: Path, base: Path, seed: int, record: Path | None) -> None:
    plan = changed(demo_plan(), {"chat.backend": "embedded", "chat.compare_base": seed == 0})
    run = rotated_run(folder, base, plan, seed)
    chat.run(plan, StepContext(run, "chat", lambda event: None, CancelToken()))
    summary = read_json(run.step_folder("chat") / "chat.json")
    for name, who in (("transcript", f"rotated, seed {seed}"), ("base_transcript", "base")):
        if record:
            for row in read_rows(run.step_folder("chat") / f"{name}.jsonl"):
                kept = {key: row[key] for key in ("id", "question", "language", "reason", "answer", "surprise")}
                append_row(record, {"who": who, **kept})
    print(f"\nseed {seed}: {summary['answer_meaningful']['status']}, {summary['answer_meaningful']['measured'][:60]}")
    for row in summary["questions"]:
        for side in ("aegis", "base"):
            if found := row[side]:
                nats = found["base_nats_per_token"]
                print(
                    f"  {row['id']:<18} {'rotated' if side == 'aegis' else 'base':<8}"
                    f"{'pass' if found['passed'] else 'fail'}  {nats if nats is None else round(nats, 2)} nats  "
                    f"{', '.join(found['failed'])}  {' '.join(found['answer'].split())[:70]!r}"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    demo = ensure_demo(CancelToken(), lambda event: None)
    for number in range(arguments.seeds):
        place = Path(tempfile.mkdtemp(prefix="aegis-rotation-", dir=arguments.scratch))
        os.environ["AEGIS_CACHE"] = str(place / "cache")  # the base's GGUF goes with it
        try:
            ask(place / "run", demo, number, arguments.record)
        finally:
            shutil.rmtree(place, ignore_errors=True)
