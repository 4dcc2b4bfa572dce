"""The token for the hub, in the hub library's own store. It is read and written here and never shown: no sentence,
no state and no error holds it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import constants, login, whoami
from huggingface_hub._login import _logout_from_token  # the public one also asks git, which AEGIS never told anything
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import get_session, get_stored_tokens, logging

from ..failures import UserError
from .hub_errors import HUB_ERRORS, unusable_proxy

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # in the library's order
_TOKEN = re.compile(r"[!-~]+")  # anything else would end, whole, in the error of a library
_OF_AN_ORGANISATION = "api_org"
_SECONDS = 10.0


@dataclass(frozen=True)
class TokenState:
    """`variable` is what gives the token in the environment, "" if nothing does; `kept` whether the store has one."""

    variable: str
    kept: bool
    store: str

    @property
    def is_set(self) -> bool:
        return self.kept or bool(self.variable)


def token_state() -> TokenState:
    """Where the token comes from, as far as this machine knows; the hub is not asked."""
    variable = next((name for name in VARIABLES if os.environ.get(name, "").strip()), "")
    return TokenState(variable, bool(_kept()), constants.HF_TOKEN_PATH)


def keep(token: str) -> str:
    """Ask the hub whose token this is and keep it; returns the account's name.

    UserError where the hub refuses it or does not answer, and then nothing is stored.
    """
    token = token.strip()
    if not _TOKEN.fullmatch(token) or token.startswith(_OF_AN_ORGANISATION):
        raise UserError("This is no token.", "Copy it once more from the hub's page, whole; it begins with hf_.")
    try:
        with _quietly(), _soon():
            account = str(whoami(token)["name"])
            login(token, add_to_git_credential=False)
    except HUB_ERRORS as error:
        raise _refusal(error) from None
    except (ImportError, ValueError, KeyError, TypeError) as error:  # a login page of the network, say
        if proxy := unusable_proxy():
            raise proxy from None
        if isinstance(error, ImportError):
            raise
        raise UserError(
            "What answered is not the hub.",
            "Check whether this network wants a login or a proxy first; HF_ENDPOINT must name a hub if it is set.",
        ) from None
    return account


def forget() -> TokenState:
    """Remove the kept token; others that the library knows by name stay, and so does one in the environment."""
    kept = _kept()
    with _quietly():
        for name in [name for name, token in get_stored_tokens().items() if token == kept]:
            _logout_from_token(name)
    Path(constants.HF_TOKEN_PATH).unlink(missing_ok=True)
    return token_state()


def _kept() -> str:
    file = Path(constants.HF_TOKEN_PATH)
    return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else ""


@contextmanager
def _quietly() -> Iterator[None]:
    """The library would tell the terminal, in its own words, what AEGIS says itself."""
    loudness = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(loudness)


@contextmanager
def _soon() -> Iterator[None]:
    """The library would wait for the hub without end."""
    client = get_session()
    patience, client.timeout = client.timeout, httpx2.Timeout(_SECONDS)
    try:
        yield
    finally:
        client.timeout = patience


def _refusal(error: Exception) -> UserError:
    if isinstance(error, HfHubHTTPError):
        return _by_status(error.response.status_code)
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(
            "The hub cannot be asked about this token: HF_HUB_OFFLINE forbids going online.",
            "Unset HF_HUB_OFFLINE, then enter the token again.",
        )
    if isinstance(error, httpx2.TimeoutException):
        return UserError("The hub did not answer in time, so the token is not kept.", "Try again.")
    return UserError(
        "The hub cannot be reached, so the token is not kept.",
        "Check the internet connection and the proxy, then try again.",
    )


def _by_status(status: int) -> UserError:
    if status in (401, 403):
        return UserError(
            "The hub does not accept this token.",
            "Copy it once more from the hub's page, whole, or make a new one there.",
        )
    if status == 429:
        return UserError("The hub asks this connection to wait: too many requests.", "Try again in a few minutes.")
    return UserError(
        "The hub cannot check the token at the moment (status {status}), so it is not kept.",
        "Try again later.",
        status=status,
    )
