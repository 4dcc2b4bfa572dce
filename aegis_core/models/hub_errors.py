"""What can go wrong between here and the hub, each as one sentence with advice. Serves models and datasets alike.

Only words of our own and the status number are shown: an answer's text is somebody else's, a request holds the token.
"""

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..addresses import shown_address
from ..failures import UserError
from ..proxies import socks_proxy

# Everything the hub's library raises when the hub, or the way to it, is at fault.
HUB_ERRORS = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    HfHubHTTPError,
    HFValidationError,
    FileMetadataError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)


class HubUnreachable(UserError):
    """The hub did not answer, or not usefully: a complete copy on this machine serves as well."""


def unusable_proxy() -> HubUnreachable | None:
    """Why no client could be made, if a proxy is at fault; what is raised then (ImportError, ValueError) says less."""
    if address := socks_proxy():
        return HubUnreachable(
            "The proxy {address} is of a kind (SOCKS) that AEGIS cannot use.",
            "Set an HTTP proxy instead, or turn the proxy off, then try again.",
            address=address,
        )
    return None


def refusal(error: Exception, source: str, revision: str) -> UserError:
    """The sentence for one of HUB_ERRORS about the repository `source` at `revision`."""
    if isinstance(error, GatedRepoError):
        return UserError(
            "{source} is only for people who accepted its licence on the hub.",
            "Accept it on {page}, then enter your token in the settings, or write aegis hub login in a terminal.",
            source=source,
            page=f"{shown_address(constants.ENDPOINT)}/{source}",
        )
    if isinstance(error, RevisionNotFoundError):
        return UserError(
            "{source} has no revision {revision} on the hub.",
            "Take main, or a branch, tag or commit that its page lists.",
            source=source,
            revision=revision,
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError("A file that belongs to {source} is missing on the hub.", "Choose another one.", source=source)
    if isinstance(error, DisabledRepoError):
        return UserError("The hub has closed {source}.", "Choose another one.", source=source)
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            "The hub knows no {source}, or it is private.",
            "Check the spelling; for a private one enter your token in the settings, or write aegis hub login in a "
            "terminal.",
            source=source,
        )
    if isinstance(error, HFValidationError):
        return UserError("{source} is no hub id.", "A hub id has the form owner/name.", source=source)
    if isinstance(error, HfHubHTTPError):
        return _by_status(error.response.status_code, source)
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachable(
            "{source} cannot be fetched: HF_HUB_OFFLINE forbids going online.",
            "Unset HF_HUB_OFFLINE, or choose a folder on this machine.",
            source=source,
        )
    if isinstance(error, httpx2.TimeoutException):
        return HubUnreachable(
            "The hub did not answer in time about {source}.",
            "Run this step again; what was fetched so far is kept.",
            source=source,
        )
    return HubUnreachable(
        "The hub cannot be reached for {source}.",
        "Check the internet connection and run this step again; what was fetched so far is kept.",
        source=source,
    )


def _by_status(status: int, source: str) -> UserError:
    if status == 401:
        return UserError(
            "The hub does not accept your token.",
            "Enter a new one in the settings, or correct or remove HF_TOKEN where it is set.",
        )
    if status == 403:
        return UserError(
            "Your token may not read {source}.",
            "Give the token the right to read it on the hub's token page, or use another token.",
            source=source,
        )
    if status == 429:
        return HubUnreachable(
            "The hub asks this connection to wait: too many requests.",
            "Wait a few minutes and run this step again; with a token (see the settings) the limit is higher.",
        )
    return HubUnreachable(
        "The hub cannot serve {source} at the moment (status {status}).",
        "Run this step again later; what was fetched so far is kept.",
        source=source,
        status=status,
    )
