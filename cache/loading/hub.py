"""Whether the Hugging Face Hub is within reach, asked once and in moments: its own client tries for half a minute."""

import socket
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

_PROBE_SECONDS = 2.0


def hub_reachable() -> bool:
    """Whether the Hub's host (or the proxy to it) answers within two seconds, and offline mode is not on."""
    from huggingface_hub import constants

    url = urlparse(constants.ENDPOINT)
    if not proxy_bypass(url.hostname or ""):
        url = urlparse(getproxies().get(url.scheme, constants.ENDPOINT))
    if constants.HF_HUB_OFFLINE or not url.hostname:
        return False
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        with socket.create_connection((url.hostname, port), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False
