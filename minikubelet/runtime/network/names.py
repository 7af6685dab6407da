"""Names of what the network makes on the machine, so that each daemon finds its own things again and no others.

A link name has fifteen characters, so it carries a tag of the bridge's name and a hash of the pod's UID; the link's
alias says in words which pod it is (`ip link` shows it). Two daemons with a bridge each never meet.
"""

from __future__ import annotations

import hashlib
from typing import Final

from minikubelet.lifecycle.observed import PodUID

_ALIAS: Final = "minikubelet"
NETNS_PREFIX: Final = "mk-"  # of every daemon's pinned network namespaces
_NETNS_LIMIT: Final = 200


def bridge_tag(bridge: str) -> str:
    """Return the four characters that mark everything belonging to a bridge."""
    return hashlib.sha256(bridge.encode()).hexdigest()[:4]


def link_prefix(bridge: str) -> str:
    """Return what the names of all pod links of a bridge begin with."""
    return f"mk{bridge_tag(bridge)}"


def link_name(bridge: str, uid: PodUID) -> str:
    """Return the name of a pod's link on the host: `mk`, four characters of the bridge, eight of the pod."""
    return link_prefix(bridge) + hashlib.sha256(uid.encode()).hexdigest()[:8]


def link_group(bridge: str) -> int:
    """Return the link group used to remove many links at once, apart from those that people choose by hand."""
    return 0x6D000000 | int(hashlib.sha256(bridge.encode()).hexdigest()[:6], 16)


def link_alias(pod: str, uid: PodUID) -> str:
    """Return the alias of a pod's link, told by `ip link`."""
    return f"{_ALIAS}: pod {pod} ({uid})"


def bridge_alias(state_dir: str) -> str:
    """Return the alias that marks a bridge as made by the daemon with this state directory."""
    alias = f"{_ALIAS}: {state_dir}"
    return alias if len(alias) <= 255 else f"{_ALIAS}: #{hashlib.sha256(state_dir.encode()).hexdigest()}"


def bridge_owner(alias: str) -> str | None:
    """Return the state directory that a bridge's alias names, or None for a bridge that is not ours."""
    start = f"{_ALIAS}: "
    return alias.removeprefix(start) if alias.startswith(start) else None


def table_name(bridge: str) -> str:
    """Return the name of the nftables table of a bridge."""
    return f"minikubelet-{bridge}"


def netns_prefix(bridge: str) -> str:
    """Return what the names of all pinned network namespaces of a daemon begin with."""
    return f"{NETNS_PREFIX}{bridge_tag(bridge)}-"


def netns_name(bridge: str, pod: str, uid: PodUID) -> str:
    """Return the name to pin a pod's network namespace under, as `ip netns` will list it.

    Args:
        bridge: The daemon's bridge.
        pod: `namespace/name`.
        uid: Two pods of one name, the leaving and the coming, must not meet.
    """
    readable = pod.replace("/", "-")[:_NETNS_LIMIT]
    return f"{netns_prefix(bridge)}{readable}-{_uid_part(uid)}"


def netns_belongs_to(name: str, uid: PodUID) -> bool:
    """Whether a pinned namespace's name is one that `netns_name` gave for this pod."""
    return name.endswith(f"-{_uid_part(uid)}")


def _uid_part(uid: PodUID) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:8]
