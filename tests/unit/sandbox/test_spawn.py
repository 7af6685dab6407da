"""Steps between fork and exec that need no namespaces."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from minikubelet.sandbox import spawn


def in_child(step: Callable[[], None]) -> int:
    """Return with which code a child ends that does something."""
    pid = os.fork()
    if pid == 0:
        try:
            step()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(("is_there", "code"), [(True, 0), (False, 128)])
def test_a_process_whose_parent_is_another_ends_at_once(is_there: bool, code: int) -> None:
    parent = os.getpid() if is_there else os.getppid()  # as a process sees it whose parent has just died

    def step() -> None:
        spawn.die_with_parent(parent, os.open("/proc/self/status", os.O_RDONLY))

    assert in_child(step) == code
