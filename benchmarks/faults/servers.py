"""Fake servers in a process of their own: the forks that speak to them must come from a process without threads."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .engine import ROOT, in_session


@contextmanager
def serving(work: Callable[[Callable[[dict[str, Any]], None]], None], log: Path) -> Iterator[dict[str, Any]]:
    """Run `work` elsewhere until the block ends; what it tells first, its port among it, is yielded."""
    sys.path.insert(0, str(ROOT / "tests"))
    told = log.with_suffix(".told")
    told.unlink(missing_ok=True)

    def tell(row: dict[str, Any]) -> None:
        draft = told.with_suffix(".draft")
        draft.write_text(json.dumps(row), encoding="utf-8")
        draft.replace(told)

    def serve() -> int:
        work(tell)
        while True:
            time.sleep(60)

    server = in_session(serve, log.with_suffix(".server"))
    try:
        while not told.is_file():
            if server.poll() is not None:
                raise RuntimeError(server.said()[-2000:])
            time.sleep(0.01)
        yield json.loads(told.read_text(encoding="utf-8"))
    finally:
        if server.poll() is None:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
