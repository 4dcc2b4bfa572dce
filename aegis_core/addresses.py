"""Addresses as they may be shown: without the name and password that some people write into them."""

import re

# Up to the last @ before a path begins: a password may hold one itself. With or without a scheme before it.
_CREDENTIALS = re.compile(r"(?P<scheme>^|//)[^/?#\s]*@")


def shown_address(text: str) -> str:
    """The text, each address in it without what stands before its @."""
    return _CREDENTIALS.sub(lambda found: found["scheme"], text)
