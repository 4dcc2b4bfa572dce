"""What the run log holds the fusion against, kept apart from the proof's own so that neither can move the other."""

LOSS_LIMIT = 1e-3
TOP1_LIMIT = 0.99
HEAD_LIMIT = 1e-4
LOGIT_LIMITS = {"float32": 1e-3, "float16": 0.15, "bfloat16": 1.0}
FUSED_RECORD = "aegis.json"
