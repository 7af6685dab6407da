"""Where probes and hooks go: ports by number or name, and the URL of an httpGet.

Source: kubernetes pkg/probe/util.go `ResolveContainerPort`, pkg/probe/http/request.go (v1.36).
"""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote, urlsplit

from minikubelet.api.types import Container, HTTPGetAction
from minikubelet.runtime.port import RuntimeFailure
from minikubelet.runtime.probes.dial import host_port

_INTEGER: Final = re.compile("[+-]?[0-9]{1,18}")
# What Go's URL type leaves as it is in a path; a percent sign begins an escape that is there already.
_SAFE_IN_PATH: Final = "/%:@!$&'()*+,;=~-._[]"
# What Go does not take for a URL is a path as a whole, and then less is left as it is.
_NO_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_SAFE_IN_TEXT: Final = "/:@$&+,;=~-._"


class TargetError(RuntimeFailure):
    """A probe or hook names a port that there is not."""


def resolve_port(port: int | str, container: Container) -> int:
    """Return the number that a port stands for: itself, a port name of this container, or a number in text.

    Raises:
        TargetError: No such name, or not between 1 and 65535.
    """
    number = port
    if isinstance(port, str):
        named = next((one.container_port for one in container.ports or () if one.name and one.name == port), None)
        if named is None and not _INTEGER.fullmatch(port):
            raise TargetError(f"strconv.Atoi: parsing {json.dumps(port)}: invalid syntax")  # the kubelet's last attempt
        number = named if named is not None else int(port)
    if not isinstance(number, int) or not 0 < number < 65536:
        raise TargetError(f"invalid port number: {number}")
    return number


def probe_url(action: HTTPGetAction, container: Container, pod_ip: str) -> str:
    """Return the URL of an httpGet probe: path and query as written, escaped where they must be.

    Raises:
        TargetError: The port cannot be resolved.
    """
    target = host_port(action.host or pod_ip, resolve_port(action.port, container))
    written = urlsplit(action.path)
    query = "?" + written.query if written.query else ""
    path = quote(written.path, safe=_SAFE_IN_PATH)
    if _NO_ESCAPE.search(path):
        path, query = quote(action.path, safe=_SAFE_IN_TEXT), ""
    if path and not path.startswith("/"):
        path = "/" + path
    return f"{(action.scheme or 'HTTP').lower()}://{target}{path}{query}"
