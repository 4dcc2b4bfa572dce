"""Where a plan's data source lies, told by its name alone. Loads nothing, so that the window may ask as well."""

from pathlib import Path

from ..plan import PHYSICS

KINDS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".txt": "txt",
    ".parquet": "parquet",
}  # fmt: skip


def on_the_hub(source: str) -> bool:
    """Whether `source` means a dataset on the hub: nothing on this machine, and nothing that looks like a path."""
    path = Path(source).expanduser()
    if source == PHYSICS or path.exists():
        return False
    looks_like_path = path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or "\\" in source
    return not looks_like_path and path.suffix.lower() not in KINDS
