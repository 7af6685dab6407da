"""The termination message of a container: what is taken of its file and its log, and how much is kept. Pure.

Source: kubelet `getTerminationMessage`, `readLastStringFromContainerLogs`; status manager `normalizeStatus` (v1.36).
"""

from __future__ import annotations

from typing import Final

from minikubelet.api.types import Container
from minikubelet.lifecycle.observed import Exit

FILE_LIMIT: Final = 4096
LOG_LIMIT: Final = 2048
LOG_LINES: Final = 80
ALL_LIMIT: Final = 12 * 1024
# Bytes of a log's end that surely hold what is kept of it: partial lines carry 40 bytes of stamp each.
LOG_TAIL: Final = 64 * 1024


def falls_back_to_log(container: Container, text: str, ended: Exit | None) -> bool:
    """Tell whether the log's end is to be the message: nothing was written, and the container failed."""
    if text or container.termination_message_policy != "FallbackToLogsOnError" or ended is None:
        return False
    return ended.exit_code != 0 and ended.reason != "StartError"


def last_lines(log_tail: bytes) -> str:
    """Return what the last lines of a CRI log say, without their stamps; parts of a long line count as lines."""
    text = b""
    for line in log_tail.splitlines()[-LOG_LINES:]:
        words = line.split(b" ", 3)
        if len(words) == 4 and words[1] in (b"stdout", b"stderr"):
            text += words[3] + (b"" if words[2].split(b":")[0] == b"P" else b"\n")
    return text[-LOG_LIMIT:].decode("utf-8", "replace")


def cut(text: str, containers: int) -> str:
    """Return a message cut to its share: all of a pod's messages together are kept small."""
    return text.encode()[: ALL_LIMIT // max(1, containers)].decode("utf-8", "ignore")
