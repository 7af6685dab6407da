"""Where threads of the daemon run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from minikubelet.linux import processors


@pytest.fixture
def thread() -> Iterator[Callable[[Callable[[], object]], object]]:
    with ThreadPoolExecutor(1) as executor:
        yield lambda function: executor.submit(function).result()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
def test_a_thread_wakes_elsewhere_and_then_runs_anywhere(thread):
    allowed = os.sched_getaffinity(0)
    number = thread(threading.get_native_id)
    processors.send_elsewhere(number)
    narrowed = os.sched_getaffinity(number)
    assert narrowed < allowed and len(narrowed) == len(allowed) - 1
    assert os.sched_getaffinity(0) == allowed
    thread(processors.roam)
    assert os.sched_getaffinity(number) == allowed


def test_one_processor_is_enough(thread):
    number = thread(threading.get_native_id)
    allowed = os.sched_getaffinity(0)
    only = {min(allowed)}
    os.sched_setaffinity(0, only)
    try:
        processors.send_elsewhere(number)
        assert os.sched_getaffinity(number) == allowed  # as it was: there is no other for the caller
        thread(processors.roam)
        assert os.sched_getaffinity(number) == only
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_thread_that_is_gone_is_no_error():
    found: list[int] = []
    gone = threading.Thread(target=lambda: found.append(threading.get_native_id()))
    gone.start()
    gone.join()
    processors.send_elsewhere(found[0])
