"""Makes a run of four steps on a tiny model with random weights. Run by a Python that has the engine's packages.

python packaging/pico_run.py RUN_DIR
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import pico

from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory


def make(run: Path) -> None:
    """The run, its model and its data beside it."""
    model = pico.build(run.with_name("pico 小さい"), tied=False)
    data = pico.write_questions(run.with_name("質問 と答え.jsonl"))
    briefly = {"chat.n_questions": 1, "chat.max_tokens": 16}
    RunDirectory.create(run, changed(Plan(), {**pico.settings(model, data), **briefly}))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
