"""Tells, as JSON, of every package installed beside the Python that runs this: licence, home, licence texts."""

import json
import sys
from importlib import metadata

TEXTS = ("licen", "copying", "notice", "authors")


def home_of(about):
    pages = dict(entry.split(", ", 1) for entry in about.get_all("Project-URL") or [] if ", " in entry)
    known = {name.lower(): page for name, page in pages.items()}
    return about.get("Home-page") or known.get("homepage") or known.get("source") or next(iter(pages.values()), "")


def licence_of(about):
    classifiers = [line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if line.startswith("License")]
    short = (about.get("License") or "").strip().partition("\n")[0]
    return about.get("License-Expression") or short or ", ".join(classifiers) or ""


def texts_of(found):
    texts = {}
    for file in found.files or []:
        inside = ".dist-info" in str(file.parent)
        if inside and any(word in file.name.lower() for word in TEXTS):
            texts[str(file).partition(".dist-info")[2].lstrip("/\\")] = file.read_text(encoding="utf-8")
    return texts


rows = [
    {
        "name": found.metadata["Name"],
        "version": found.version,
        "licence": licence_of(found.metadata),
        "home": home_of(found.metadata),
        "texts": texts_of(found),
    }
    for found in metadata.distributions()
]
sys.stdout.buffer.write(json.dumps(rows).encode("ascii"))
