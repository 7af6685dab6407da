"""What can go wrong with a pod's network.

NetworkError
├── NetworkConflict      the machine already uses what the settings ask for; found at start
├── AddressesExhausted   no free address is left in the pod range
├── HostPortInUse        a hostPort is held by something else
└── CNIError             a CNI plugin refused or broke its protocol (`code`, `details`)
"""

from __future__ import annotations

from minikubelet.runtime.wording import words


class NetworkError(Exception):
    """The network of one pod, or of the node, could not be made; the text says why and begins with "cannot"."""


class NetworkConflict(NetworkError):
    """The bridge name or the pod range is already in use on this machine. One line, fit to be shown as it is."""


class AddressesExhausted(NetworkError):
    """Every address of the pod range is taken."""


class HostPortInUse(NetworkError):
    """A process outside minikubelet, or another pod, holds the host port."""


class CNIError(NetworkError):
    """A CNI plugin failed.

    Args:
        message: The whole sentence for people.
        code: The plugin's error code, 0 when it gave none (section "Error" of the CNI specification).
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def os_error_text(what: str, error: OSError) -> str:
    """Return `what` with the reason of a failed system call, once."""
    return f"{what}: {words(error).removeprefix('cannot ')}"
