"""Where a study is kept: an SQLite file in the run, a journal file on a shared folder, or a database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..failures import UserError

_URL = "://"


@contextmanager
def opened_storage(place: str, own: Path) -> Iterator[optuna.storages.BaseStorage]:
    """The storage that the plan names; closed afterwards (Windows cannot move an open file).

    `place` is empty for the SQLite file `own`, a database URL, or else the path of a journal file that several
    machines may write to. UserError if it cannot be used, or if it holds a password, which would lie in the plan.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if place and _URL not in place:
        yield _journal(Path(place).expanduser())
        return
    url = _url(place) if place else URL.create("sqlite", database=own.as_posix())
    try:
        storage = optuna.storages.RDBStorage(url.render_as_string(hide_password=False))
    except (SQLAlchemyError, ImportError) as error:
        raise _unusable(url.render_as_string(), error) from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _journal(path: Path) -> optuna.storages.BaseStorage:
    if not path.parent.is_dir():
        raise UserError(
            "The folder for the search's journal does not exist: {folder}.",
            "Create it or mount the shared drive, or leave search.storage empty.",
            folder=path.parent,
        )
    try:
        # Locked by a file that only one can create: works on network drives and on Windows, where links do not.
        backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
        return optuna.storages.JournalStorage(backend)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(str(path), error) from error


def _url(place: str) -> URL:
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise _unusable(place.partition(_URL)[0] + _URL + "…", error) from error
    if url.password:
        raise UserError(
            "search.storage holds a password, and the plan is no place for one.",
            "Take it out of the address; databases have password files for it, such as .pgpass.",
        )
    return url


def _unusable(place: str, error: Exception) -> UserError:
    return UserError(
        "The search cannot keep its trials in {place}: {problem}",
        "Correct search.storage, or leave it empty to keep them in the run.",
        place=place,
        problem=" ".join(str(error).split())[:200],
    )
