"""The way out through a proxy that nothing here can speak with: its client fails before a single byte is sent."""

from importlib.util import find_spec
from urllib.request import getproxies

from .addresses import shown_address

_SCHEMES = ("https", "http", "all")  # what the HTTP libraries look at; also what Windows' own settings end up as
_WITH_A_PACKAGE = ("socks5", "socks5h")


def socks_proxy() -> str:
    """The address of the SOCKS proxy that stands in the way, as it may be shown; "" where there is none."""
    named = getproxies()
    if "*" in (host.strip() for host in named.get("no", "").split(",")):
        return ""
    for address in (named.get(scheme, "") for scheme in _SCHEMES):
        kind = address.lower().partition("://")[0]
        if kind.startswith("socks") and not (kind in _WITH_A_PACKAGE and find_spec("socksio")):
            return shown_address(address)
    return ""
