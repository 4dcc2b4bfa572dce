"""Writes THIRD-PARTY-NOTICES.txt: what others wrote of what is shipped with the window, on which terms, in full text.

    python packaging/notices.py WINDOW_FOLDER

build.py does it. A package without a known licence ends the work: nothing is shipped on unknown terms.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from project import PACKAGING, RESOURCES, WINDOW_LOCK, version
from tools import Stopped, told

FILE = "THIRD-PARTY-NOTICES.txt"
LICENCES = PACKAGING / "licences"
WIDTH = 100
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==")
# The interpreter's own licence file, by where a system puts it.
_PYTHON_LICENCE = """
import sys, sysconfig
from pathlib import Path
base = Path(sys.base_prefix)
places = [base / 'LICENSE.txt', Path(sysconfig.get_path('stdlib')) / 'LICENSE.txt', base / 'LICENSE']
text = next((place.read_text(encoding='utf-8') for place in places if place.is_file()), '')
sys.stdout.buffer.write(text.encode('utf-8'))
"""


@dataclass(frozen=True)
class Work:
    """Something that others wrote; `texts` are whole licence texts by their file's name."""

    name: str
    version: str
    licence: str
    home: str
    texts: dict[str, str] = field(default_factory=dict)
    remark: str = ""


QT_REMARK = """\
Qt and PySide6 (with Shiboken6) are used under the GNU Lesser General Public License, version 3, whose text and that of
the GNU General Public License it refers to stand at the end of this file. They are shipped unmodified, as the shared
libraries of the package PySide6-Essentials, in _internal/PySide6 and _internal/shiboken6.

You may replace them: put other builds of the same libraries, compatible in their interface, in the place of those
files, and start AEGIS as before; nothing checks or locks them. AEGIS itself is free software, so you may also freeze it
anew with your own: python packaging/build.py in its source. You may modify the libraries for your own use and reverse
engineer AEGIS to debug such changes.

The sources of Qt and of PySide6 in exactly this version are at https://download.qt.io/official_releases/QtForPython/
and https://download.qt.io/official_releases/qt/. Qt contains works of others (FreeType, HarfBuzz, ICU, libpng, PCRE2,
zlib and more); their licences are listed at https://doc.qt.io/qt-6/licenses-used-in-qt.html."""

FIXED = (
    Work(
        "PyInstaller's bootloader",
        "",
        "GPL-2.0-or-later with an exception that allows it in programs under any terms",
        "https://pyinstaller.org",
        remark="What starts both programs. The exception's text stands in PyInstaller's COPYING.txt, below.",
    ),
)

NOT_SHIPPED = """\
Not shipped, but fetched where you ask for it: the engine's packages (torch, transformers and others; the list with
versions and hashes is in _internal/resources/engine, each package brings its licence into the engine's folder); the
demo model SmolLM2-135M-Instruct (Apache-2.0, by Hugging Face); the models and data sets of your choice, on terms
that AEGIS shows beside them before anything is fetched."""


def write(python: Path, folder: Path) -> Path:
    """The notices of the frozen `folder`, made from the environment of `python`. Stopped where a licence is unknown."""
    rows = [Work(**row) for row in json.loads(told([python, PACKAGING / "installed.py"]))]
    ours = json.loads(told([sys.executable, PACKAGING / "installed.py"]))
    freezer = [row for row in rows if row.name.lower() == "pyinstaller"]
    uv = [Work(**row) for row in ours if row["name"].lower() == "uv"]
    python_text = told([python, "-c", _PYTHON_LICENCE])
    works = [
        *shipped_packages(rows, WINDOW_LOCK),
        *uv,
        Work("Python", told([python, "-c", "import platform; print(platform.python_version())"]).strip(), "PSF-2.0",
             "https://www.python.org", {"LICENSE": python_text} if python_text else {}),
        *(Work(work.name, work.version, work.licence, work.home, dict(freezer[0].texts) if freezer else {}, work.remark)
          for work in FIXED),
        *system_libraries(folder, owner_on_debian),
    ]  # fmt: skip
    path = folder / FILE
    path.write_text(composed(works, resources()), encoding="utf-8-sig")  # the installer knows UTF-8 by its mark
    return path


def shipped_packages(installed: Iterable[Work], lock: Path) -> list[Work]:
    """Those of the installed packages that the lock names. Stopped where one has no licence."""
    names = {_plain(found[1]) for line in lock.read_text(encoding="utf-8").splitlines() if (found := _PIN.match(line))}
    found = sorted((work for work in installed if _plain(work.name) in names), key=lambda work: work.name.lower())
    if unknown := [work.name for work in found if not work.licence]:
        raise Stopped(f"The licence of {', '.join(unknown)} is not known.")
    qt = {"pyside6-essentials", "shiboken6"}
    return [
        Work(work.name, work.version, work.licence, work.home, work.texts, QT_REMARK)
        if _plain(work.name) in qt
        else work
        for work in found
    ]


def resources() -> list[Work]:
    """What is bundled that is no program: pictures, sound, questions."""
    physics = (RESOURCES / "physics" / "LICENSE").read_text(encoding="utf-8")
    return [
        Work("Icons and pictures", "", "Apache-2.0", "", remark="Drawn for AEGIS."),
        Work("Sound at the end of a run", "", "Apache-2.0", "", remark="Made for AEGIS."),
        Work("Questions of the chat", "", "Apache-2.0", "", remark="Written for AEGIS."),
        Work("Physics questions and answers", "", "CC0-1.0", "", {"LICENSE": physics}, "Written for AEGIS."),
    ]


def system_libraries(folder: Path, owner: Callable[[str], tuple[str, str] | None]) -> list[Work]:
    """Linux: the libraries that came from the system of the build, by the package that brought them.

    `owner` names the package and its copyright text of one library. What nobody owns is named all the same.
    """
    own = {path.name for path in (folder / "_internal").rglob("*.so*") if path.parent != folder / "_internal"}
    found: dict[str, tuple[list[str], str]] = {}
    for path in sorted((folder / "_internal").glob("lib*.so*")):
        if path.name in own or path.is_symlink() or path.name.startswith("libpython"):
            continue
        package, text = owner(path.name) or ("libraries of the system", "")
        found.setdefault(package, ([], text))[0].append(path.name)
    return [
        Work(package, "", "see the text" if text else "not told by the system of the build", "",
             {"copyright": text} if text else {}, "Shared libraries: " + ", ".join(names))
        for package, (names, text) in found.items()
    ]  # fmt: skip


def owner_on_debian(library: str) -> tuple[str, str] | None:
    """The Debian package of a library and its copyright file, None where that cannot be told."""
    try:
        done = subprocess.run(
            ["dpkg", "-S", f"*/{library}"], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        return None
    package = done.stdout.partition(":")[0].strip()
    if done.returncode or not package:
        return None
    copyright_file = Path("/usr/share/doc") / package / "copyright"
    text = copyright_file.read_text(encoding="utf-8", errors="replace") if copyright_file.is_file() else ""
    return package, text


def composed(works: Sequence[Work], bundled: Sequence[Work]) -> str:
    """The whole document; a licence text that several works share word for word is printed once."""
    texts: dict[str, str] = {}  # text -> its number
    parts = [
        f"AEGIS {version()}: notices of what others wrote\n",
        "AEGIS itself is under the Apache License 2.0 (LICENSE.txt beside this file). It is shipped with these works,",
        "each on its own terms. The numbers in brackets name the licence texts at the end.\n",
        _heading("Programs and libraries"),
        *(_entry(work, texts) for work in works),
        _heading("Resources"),
        *(_entry(work, texts) for work in bundled),
        _heading("Fetched later"),
        NOT_SHIPPED + "\n",
    ]
    for name in ("LGPL-3.0", "GPL-3.0"):
        texts.setdefault((LICENCES / f"{name}.txt").read_text(encoding="utf-8").strip(), f"{len(texts) + 1}, {name}")
    parts.append(_heading("Licence texts"))
    parts += [f"{_rule('-')}\n[{number}]\n{_rule('-')}\n{text}\n" for text, number in texts.items()]
    return "\n".join(parts)


def _entry(work: Work, texts: dict[str, str]) -> str:
    title = f"{work.name} {work.version}".strip()
    numbers = []
    for name, text in work.texts.items():
        key = text.replace("\r\n", "\n").strip()
        if key:
            numbers.append(texts.setdefault(key, f"{len(texts) + 1}, {work.name}: {name}").partition(",")[0])
    lines = [title, f"  Licence: {work.licence}" + "".join(f" [{number}]" for number in numbers)]
    lines += [f"  {work.home}"] if work.home else []
    lines += [f"  {line}" for line in work.remark.splitlines()]
    return "\n".join(lines) + "\n"


def _heading(words: str) -> str:
    return f"{_rule('=')}\n{words}\n{_rule('=')}\n"


def _rule(sign: str) -> str:
    return sign * WIDTH


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    from build import window_python
    from project import ROOT

    try:
        path = write(window_python(ROOT / "build" / "window-environment"), Path(sys.argv[1]))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 1
    print(f"{path} is written: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
