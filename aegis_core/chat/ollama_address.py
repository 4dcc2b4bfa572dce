"""Where Ollama should be: OLLAMA_HOST as Ollama itself reads it, and whether a proxy stands on the way there."""

import contextlib
import ipaddress
import os
import urllib.request
from urllib.parse import urlsplit

from ..addresses import shown_address
from ..failures import UserError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 11434
_PORTS = {"http": 80, "https": 443}
# A server's listening address is no destination.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def address() -> str:
    """The base URL by OLLAMA_HOST, or the default; UserError if OLLAMA_HOST is none."""
    given = os.environ.get("OLLAMA_HOST", "")
    try:
        return _read(given.strip().strip("\"'").strip().rstrip("/"))
    except ValueError as error:
        raise UserError(
            "The environment variable OLLAMA_HOST is {value}, which is no address.",
            "Set it to something like 127.0.0.1:11434, or remove it.",
            value=shown_address(given),
        ) from error


def is_loopback(base: str) -> bool:
    """Whether the address is this very machine."""
    host = urlsplit(base).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_for(base: str) -> str:
    """The proxy that the system's settings put before the address, empty where it is reached directly.

    A proxy meant for the internet never sees what goes to this machine.
    """
    parts = urlsplit(base)
    if is_loopback(base) or urllib.request.proxy_bypass(parts.netloc):
        return ""
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def _read(text: str) -> str:
    """ValueError for what Ollama would not understand either, or would silently replace by its default."""
    scheme, _, rest = text.rpartition("://")
    scheme = scheme.lower()
    if scheme not in ("", *_PORTS) or any(sign in rest for sign in " \t@?#\\"):
        raise ValueError(text)
    place, slash, path = rest.partition("/")
    host, port = _host_and_port(place, _PORTS.get(scheme, DEFAULT_PORT))
    host = _EVERYWHERE.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme or 'http'}://{shown}:{port}{slash}{path}"


def _host_and_port(place: str, default_port: int) -> tuple[str, int]:
    bare = place.strip("[]")
    with contextlib.suppress(ValueError):
        if "]" not in bare:  # to Python a zone (%eth0) may hold anything, a port as well
            return str(ipaddress.ip_address(bare)), default_port
    parts = urlsplit(f"//{place}")
    port = parts.port  # ValueError where it is no number up to 65535
    if place.endswith(":") or (place and not parts.hostname and port is None):
        raise ValueError(place)
    return parts.hostname or DEFAULT_HOST, default_port if port is None else port
