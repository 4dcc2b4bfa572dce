"""What belongs into the frozen window's folder, what must never get there, and how large it may be."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MEGABYTE = 1_000_000

# The engine's packages: they are brought by uv into the engine's own environment.
FORBIDDEN = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "gguf",
    "huggingface_hub",
    "libgguf",
    "matplotlib",
    "nvidia",
    "optuna",
    "pandas",
    "peft",
    "pyarrow",
    "safetensors",
    "scipy",
    "sentencepiece",
    "sqlalchemy",
    "tokenizers",
    "torch",
    "transformers",
    "triton",
    "xllamacpp",
)

# Modules that something the window uses could use, but the window does not.
UNUSED_MODULES = (
    "IPython",
    "jedi",
    "numpy.f2py",
    "numpy.testing",
    "pydantic.v1",
    "pydantic.mypy",
    "pyqtgraph.examples",
    "pyqtgraph.jupyter",
    "pyqtgraph.opengl",
    "PySide6.QtDesigner",
    "PySide6.QtHelp",
    "PySide6.QtQml",
    "PySide6.QtQuick",
    "PySide6.QtSql",
    "PySide6.QtUiTools",
    "PySide6.QtXml",
    "pytest",
    "setuptools",
    "tkinter",
)

_QT_LIBRARIES = (
    "Qml", "Quick", "Pdf", "VirtualKeyboard", "Sql", "Designer", "Help", "UiTools", "Xml", "Test", "ShaderTools",
    "EglFSDeviceIntegration", "EglFsKmsSupport", "EglFsKmsGbmSupport",
)  # fmt: skip
_UNUSED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(^|/)(lib)?Qt6?({'|'.join(_QT_LIBRARIES)})\w*(\.|$)",
        r"/plugins/(generic|networkinformation|platformthemes/libqgtk3|egldeviceintegrations|sqldrivers|qmltooling)",
        r"/plugins/platforms/(lib)?q(eglfs|linuxfb|minimalegl|vkkhrdisplay|vnc|minimal|direct2d)\b",
        r"/plugins/platforminputcontexts/(lib)?qtvirtualkeyboard",
        r"/plugins/imageformats/(lib)?q(tga|tiff|wbmp|webp|pdf|icns|gif|jpeg)\b",
        r"/plugins/tls/",  # the window speaks HTTP through httpx; local sockets need no TLS
        r"/translations/(?!qtbase_(ja|en)\.qm)[^/]+\.qm$",
        r"(^|/)opengl32sw\.dll$|(^|/)d3dcompiler_47\.dll$",  # the window draws without OpenGL
        r"(^|/)pyqtgraph/examples/",
        r"(^|/)(tcl|tk)\d*/",
        r"(^|/)resources/.*__pycache__|\.pyc$",
    )
)

# What must be there for a Japanese user to type, see the icons and open the window at all: any one of each row.
NEEDED = (
    ("plugins/platforms/libqxcb.so", "plugins/platforms/qwindows.dll"),
    ("plugins/platforms/libqwayland.so", "plugins/platforms/libqwayland-generic.so", "plugins/platforms/qwindows.dll"),
    ("plugins/platforms/libqoffscreen.so", "plugins/platforms/qoffscreen.dll"),
    ("plugins/platforminputcontexts/libibusplatforminputcontextplugin.so", "plugins/platforms/qwindows.dll"),
    ("plugins/imageformats/libqsvg.so", "plugins/imageformats/qsvg.dll"),
    ("plugins/iconengines/libqsvgicon.so", "plugins/iconengines/qsvgicon.dll"),
    ("translations/qtbase_ja.qm",),
    ("resources/translations/ja.json",),
    ("resources/aegis.svg",),
)


@dataclass(frozen=True)
class Part:
    """One row of the size report."""

    name: str
    size_bytes: int


def is_unused(path: str) -> bool:
    """Whether a file that the freezer found (its place in the folder) is none the window uses."""
    place = "/" + path.replace("\\", "/")
    return any(pattern.search(place) for pattern in _UNUSED)


def forbidden_in(paths: Iterable[str]) -> list[str]:
    """Those of the paths (and dotted module names) that belong to a forbidden package."""
    names = {name.lower() for name in FORBIDDEN}
    return sorted(path for path in paths if names & set(_owners(path)))


def _owners(path: str) -> list[str]:
    """The packages that a file ("a/b.so") or a module ("a.b") could belong to; AEGIS's own files belong to none."""
    folders = path.lower().replace("\\", "/").split("/")
    if {"resources", "engine"} & set(folders):
        return []
    return [re.split(r"[.-]", folder)[0] for folder in folders]


def missing_in(paths: Iterable[str]) -> list[str]:
    """Of what is needed, what none of the paths ends with."""
    places = [path.replace("\\", "/") for path in paths]
    return [row[0] for row in NEEDED if not any(place.endswith(one) for place in places for one in row)]


def files_of(folder: Path) -> list[str]:
    """Every file in the folder, relative to it, with forward slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def parts(folder: Path) -> list[Part]:
    """What the folder is made of, largest first: a library's whole folder is one part, a single large file another."""
    sizes: dict[str, int] = {}
    for name in files_of(folder):
        path = folder / name
        if not path.is_symlink():  # Linux: a library's second name
            sizes[_part(PurePosixPath(name))] = sizes.get(_part(PurePosixPath(name)), 0) + path.stat().st_size
    return sorted((Part(name, size) for name, size in sizes.items()), key=lambda part: (-part.size_bytes, part.name))


def _part(path: PurePosixPath) -> str:
    """PySide6's files count one by one, those of other packages together."""
    if "PySide6" in path.parts:
        return str(path) if path.suffix in (".dll", ".pyd") or ".so" in path.name else str(path.parent)
    return "/".join(path.parts[:2])


def size_table(folder: Path, budget_bytes: int, n_largest: int = 15) -> str:
    """The report as Markdown: total, budget, the largest parts."""
    found = parts(folder)
    total = sum(part.size_bytes for part in found)
    rows = [(part.name, part.size_bytes) for part in found[:n_largest]]
    rest = total - sum(size for _, size in rows)
    lines = ["| part | MB |", "|---|---:|", *(f"| {name} | {size / MEGABYTE:.1f} |" for name, size in rows)]
    lines.append(f"| {max(len(found) - n_largest, 0)} smaller parts | {rest / MEGABYTE:.1f} |")
    lines.append(f"| **together, in {len(files_of(folder))} files** | **{total / MEGABYTE:.1f}** |")
    lines.append(f"| budget | {budget_bytes / MEGABYTE:.0f} |")
    return "\n".join(lines)


def total_bytes(folder: Path) -> int:
    return sum(part.size_bytes for part in parts(folder))
