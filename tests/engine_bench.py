"""An engine that a real uv makes from small wheels out of an index on this machine."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from small_wheels import Index, make_wheel, package_index, sha256
from uv import find_uv_bin

from aegis_core import __version__
from aegis_core.cancel import CancelToken
from aegis_core.engine.installed import installed
from aegis_core.engine.making import Progress, make_engine
from aegis_core.engine.parts import Parts
from aegis_core.engine.place import Place
from aegis_core.engine.resolution import Sources
from aegis_core.engine.wish import Wish

IMPORTED = ("transformers", "peft", "datasets", "optuna", "gguf", "xllamacpp")
LARGE_BYTES = 3_000_000


@dataclass
class Bench:
    """An index, what came along with AEGIS, and the place for the engine; all folders have 日本語 and spaces."""

    index: Index
    parts: Parts
    place: Place
    build: str = "cpu"
    heard: list[Progress] = field(default_factory=list)

    def lock(self, **versions: str) -> None:
        """Lock these packages of the index, and torch 1.0."""
        self.parts.locks.mkdir(parents=True, exist_ok=True)
        lines = []
        for name, version in versions.items():
            wheel = self.index.folder / f"{name}-{version}-py3-none-any.whl"
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{sha256(wheel)}")
        self.parts.requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.parts.cuda.write_text("", encoding="utf-8")
        self.parts.torch.write_text("torch==1.0\n", encoding="utf-8")
        python = "{}.{}".format(*sys.version_info[:2])
        facts = {"python": python, "download_bytes": {"windows": 5_000_000, "linux": 5_000_000}}
        (self.parts.locks / "engine.json").write_text(json.dumps(facts), encoding="utf-8")
        self.parts = replace(self.parts)  # what it has read of the files before is forgotten

    def make(self, cancel: CancelToken | None = None, thorough: bool = False) -> None:
        self.heard.clear()
        self.index.asked.clear()
        self.index.served_bytes = 0
        wish = Wish(self.build, Path(sys.executable), Sources(index=self.index.address))
        make_engine(self.place, self.parts, wish, cancel or CancelToken(), self.heard.append, thorough)

    def site(self) -> Path:
        return installed(self.place)["torch"].record.parent.parent


@contextmanager
def engine_bench(tmp_path: Path) -> Iterator[Bench]:
    """Everything to make an engine of, with the package `rest` 1.0 locked; an index that answers until the end."""
    work = tmp_path / "利用者 の フォルダ"
    wheels, shipped = work / "index", work / "shipped"
    make_wheel(wheels, "torch", "1.0", {"torch.py": b"__version__ = '1.0'\n", "weights.bin": bytes(LARGE_BYTES)})
    for version in ("1.0", "2.0"):
        named = f"version = '{version}'\n".encode()
        make_wheel(wheels, "rest", version, {f"{name}.py": named for name in IMPORTED})
    make_wheel(wheels, "leftover", "1.0", {"leftover.py": b""})
    program = b"import json, sys\nprint(json.dumps([sys.prefix, sys.argv[1:]]))\n"
    make_wheel(shipped, "aegis", __version__, {"aegis_core/__init__.py": b"", "aegis_core/__main__.py": program})
    (shipped / ("uv.exe" if sys.platform == "win32" else "uv")).symlink_to(find_uv_bin())
    with package_index(wheels) as index:
        made = Bench(index, Parts(work / "locks", shipped), Place(work / "engine"))
        made.lock(rest="1.0")
        yield made
