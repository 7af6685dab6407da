"""A process and its descendants, from /proc alone."""

from __future__ import annotations

import subprocess
import sys

from minikubelet.sandbox.family import family, kill_tree

# Starts a child from a second thread, says its number, and waits.
FORKS_FROM_A_THREAD = """
import subprocess, sys, threading
def work():
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    sys.stdin.read()
threading.Thread(target=work).start()
"""


def test_children_of_other_threads_belong_to_the_family() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKS_FROM_A_THREAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert family(parent.pid) == [parent.pid, child]
    finally:
        kill_tree(parent.pid)
        parent.communicate()


def test_a_process_that_is_gone_is_alone() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert family(gone.pid) == [gone.pid]
