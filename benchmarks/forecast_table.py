"""What a training should take on an NVIDIA GPU, by the program's own forecast: no card, no model, nothing measured.

    python benchmarks/forecast_table.py [--total-gb 12.0] [--others-gb 0.6] [--set section.field=value …] [CASE …]

A case is BATCHxLENGTH, the shape Phi-3.5-mini's, in 4 bits with the 8-bit optimiser. --others-gb is what desktop and
other programs hold of the card. What a card really took is told by benchmarks/cuda.py.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from aegis_core import plan as plans  # noqa: E402
from aegis_core.models.memory import forecast  # noqa: E402
from aegis_core.models.shape import ModelShape, read_shape  # noqa: E402

CASES = ("1x512", "2x512", "2x1024", "4x1024", "2x2048", "8x1024", "4x2048", "16x1024")
PHI = {
    "model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False,
}  # fmt: skip
AS_ON_A_GPU = {"model.quantisation": "nf4", "train.optimizer": "paged_adamw_8bit"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--total-gb", type=float, default=12.0)
    parser.add_argument("--others-gb", type=float, default=0.6)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    plan = plans.changed(plans.Plan(), AS_ON_A_GPU | dict(map(plans.parsed, options.settings)))
    print("| batch × length | forecast GB | with others GB | verdict |\n|---|---:|---:|---|")
    for case in options.cases:
        batch, _, length = case.partition("x")
        found = forecast(
            phi(), plan, device="cuda", quantised=True, batch_size=int(batch), sequence_length=int(length),
            others_bytes=int(options.others_gb * 1e9),
        )  # fmt: skip
        verdict = found.verdict(int(options.total_gb * 1e9))
        print(f"| {batch} × {length} | {found.own_bytes / 1e9:.2f} | {found.total_bytes / 1e9:.2f} | {verdict} |")


def phi() -> ModelShape:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(PHI), encoding="utf-8")
        return read_shape(Path(folder))


if __name__ == "__main__":
    main()
