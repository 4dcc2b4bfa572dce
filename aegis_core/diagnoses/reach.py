"""Whether the hub can be reached with what is known of the user, and whether this computer's clock lets it."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from huggingface_hub import constants, get_token

from ..chat.ollama_address import is_loopback
from ..chat.ollama_state import OllamaState, Presence
from ..events import CheckRow
from ..plan import DEMO, Plan
from ..proxies import socks_proxy

PATIENCE_SECONDS = 5.0  # a company's proxy alone may take three
_SKEW_SECONDS = 300
_OTHERWISE = "Check the internet connection and the proxy; what is already on this machine works."
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_CERT_…
_MENDS = {
    Presence.STOPPED: "ollama",
    Presence.ABSENT: "ollama_download",
    Presence.TOO_OLD: "ollama_download",
}


def ollama_row(state: OllamaState) -> CheckRow:
    if state.problem is None:
        return CheckRow("Ollama", "ok", f"{state.version} at {state.address}")
    return CheckRow("Ollama", "warning", state.problem.reason, state.problem.advice, _MENDS.get(state.presence, ""))


def asked(plan: Plan, seconds: float = PATIENCE_SECONDS) -> Callable[[], list[CheckRow]]:
    """Ask the hub in the background; call the result for the rows. The limit of the request counts anew for each of
    its phases, and a look-up of names knows none: hence a limit of its own, after which nobody waits any more."""
    rows: list[CheckRow] = []

    def ask() -> None:
        try:
            rows.extend(hub_rows(plan))
        except Exception as error:  # the thread's boundary: a row that is missing would tell nobody anything
            kind = type(error).__name__
            rows.append(CheckRow("model hub", "warning", f"could not be asked: {kind}", _OTHERWISE))

    thread = threading.Thread(target=ask, name="hub-check", daemon=True)
    thread.start()

    def answer() -> list[CheckRow]:
        thread.join(seconds)
        if thread.is_alive():
            return [_late(_on_hub(plan), seconds)]
        return rows

    return answer


def hub_rows(plan: Plan, now: Callable[[], float] = time.time) -> Iterator[CheckRow]:
    """One question: may the chosen model be read? Its answer also carries the hub's time.

    The token goes to the hub's own address alone, and no redirect is followed.
    """
    if constants.HF_HUB_OFFLINE:
        yield CheckRow("model hub", "ok", "not asked: HF_HUB_OFFLINE is set")
        return
    source = plan.model.source
    on_hub = _on_hub(plan)
    token = get_token()
    address = f"{constants.ENDPOINT}/{source}/resolve/{plan.model.revision or 'main'}/config.json"
    if not on_hub:
        address = f"{constants.ENDPOINT}/api/models?limit=1"
    try:
        answer = httpx.head(
            address,
            timeout=PATIENCE_SECONDS,
            headers={"authorization": f"Bearer {token}"} if token and on_hub else {},
            trust_env=not is_loopback(constants.ENDPOINT),
        )
    except httpx.TimeoutException:
        yield _late(on_hub, PATIENCE_SECONDS)
        return
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        yield from _unreached(error, on_hub)
        return
    except (ImportError, ValueError):  # raised before anything is sent
        if not (proxy := socks_proxy()):
            raise
        yield _no_way_through(proxy, on_hub)
        return
    yield _hub(answer, source, token is not None, on_hub)
    yield from _clock(answer, now())


def _on_hub(plan: Plan) -> bool:
    return plan.model.source != DEMO and not Path(plan.model.source).expanduser().is_dir()


def _hub(answer: httpx.Response, source: str, has_token: bool, on_hub: bool) -> CheckRow:
    host = answer.url.host
    if on_hub and answer.status_code in (401, 403):
        return _closed(answer, source, has_token)
    if on_hub and answer.status_code == 404:
        fix = "Check the spelling of the model and its revision."
        return CheckRow("model hub", "warning", f"{host} knows no {source}", fix)
    if answer.status_code >= 400:
        fix = "Wait a little and check again; what is already on this machine works."
        return CheckRow("model hub", "warning", f"{host} answers with status {answer.status_code}", fix)
    return CheckRow("model hub", "ok", f"{host} answers")


def _closed(answer: httpx.Response, source: str, has_token: bool) -> CheckRow:
    """The hub hides private and unknown models alike behind 401."""
    gated = answer.headers.get("x-error-code") == "GatedRepo"
    if not has_token:
        what = f"{source} asks for a token, and none is set"
        if not gated:
            what = f"{source} is unknown, or it is private and no token is set"
        fix = "Make a token on the hub's page, then enter it in the settings, or write aegis hub login in a terminal."
        return CheckRow("model hub", "warning", what, fix, "hub_token")
    if gated:
        fix = "Accept the licence on the model's page with the account of the token."
        return CheckRow("model hub", "warning", f"the licence of {source} is not accepted yet", fix)
    fix = "Make a new token on the hub's page and enter it in the settings, or correct HF_TOKEN where it is set."
    return CheckRow("model hub", "warning", f"the token is refused for {source}", fix, "hub_token")


def _unreached(error: Exception, on_hub: bool) -> Iterator[CheckRow]:
    if code := _certificate_code(error):
        if code in (_NOT_YET_VALID, _EXPIRED):
            found = f"{time.strftime('%Y-%m-%d %H:%M')} does not fit the certificate of the hub"
            fix = "Set date and time (in Windows: Settings, Time and language, Sync now), then check again."
            yield CheckRow("clock", "warning", found, fix)
        else:
            fix = (
                "A virus scanner or a company's network reads along: add its certificate with SSL_CERT_FILE, or "
                "use another network."
            )
            yield CheckRow("model hub", "warning", "its certificate is not trusted on this machine", fix)
        return
    if not on_hub:
        yield CheckRow("model hub", "ok", "cannot be reached; this model does not need it")
        return
    yield CheckRow("model hub", "warning", "cannot be reached", _OTHERWISE)


def _late(on_hub: bool, seconds: float) -> CheckRow:
    waited = f"{seconds:g}"
    if not on_hub:
        return CheckRow("model hub", "ok", f"did not answer within {waited} s; this model does not need it")
    return CheckRow("model hub", "warning", f"did not answer within {waited} s", _OTHERWISE)


def _no_way_through(proxy: str, on_hub: bool) -> CheckRow:
    fix = "Set an HTTP proxy instead, or turn the proxy off; what is already on this machine works."
    found = f"the proxy {proxy} is of a kind (SOCKS) that AEGIS cannot use"
    return CheckRow("model hub", "warning" if on_hub else "ok", found, fix if on_hub else "")


def _certificate_code(error: BaseException | None) -> int:
    """0 unless a certificate was refused."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_code
        error = error.__cause__ or error.__context__
    return 0


def _clock(answer: httpx.Response, now: float) -> Iterator[CheckRow]:
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return
    minutes = round(abs(now - there) / 60)
    if abs(now - there) > _SKEW_SECONDS:
        found = f"differs from the hub's by {minutes} minutes"
        fix = "Set date and time (in Windows: Settings, Time and language, Sync now), then check again."
        yield CheckRow("clock", "warning", found, fix)
    else:
        yield CheckRow("clock", "ok", "agrees with the hub's")
