import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from minikubelet.linux.heap import Used, fill_holes

SOURCE = '''
def outer(start):
    def add(number, *, step=700):
        """Add."""
        return ("a text of %d", b"some bytes", 2.5, (start + number, 1000 + step), None, True)
    add.mark = "marked"
    return add

adds = outer(3)

class Kind:
    def method(self, one=5000):
        return self, one, [each for each in "ab"]

def unused():
    return 9999
'''


@pytest.fixture
def module() -> Iterator[Any]:
    made = types.ModuleType("heaptest.one")
    sys.modules["heaptest.one"] = made
    exec(SOURCE, vars(made))
    made.Kind.__module__ = made.__name__  # type: ignore[attr-defined]
    other = types.ModuleType("heaptest.two")
    other.adds, other.Kind = made.adds, made.Kind  # type: ignore[attr-defined]
    sys.modules["heaptest.two"] = other
    yield made
    del sys.modules["heaptest.one"], sys.modules["heaptest.two"]


def test_what_is_made_anew_does_the_same(module):
    before = module.adds, module.Kind.method, module.unused, module.outer
    thing = module.Kind()
    used = Used()
    with used:
        results = module.adds(4, step=1), thing.method()
    kept = used.make_anew("heaptest.")
    assert kept
    assert (module.adds(4, step=1), thing.method()) == results
    assert module.adds(1)[3] == (4, 1700)
    assert module.adds.mark == "marked"
    assert (module.adds.__name__, module.adds.__qualname__, module.adds.__doc__) == (
        "add",
        "outer.<locals>.add",
        "Add.",
    )
    after = module.adds, module.Kind.method, module.unused, module.outer
    assert [one is other for one, other in zip(before, after, strict=True)] == [False, False, True, True]
    assert sys.modules["heaptest.two"].adds is module.adds


def test_constants_of_what_is_made_anew_are_new(module):
    before = module.adds.__code__.co_consts
    used = Used()
    with used:
        module.adds(1)
    used.make_anew("heaptest.")
    after = module.adds.__code__.co_consts
    assert after == before
    assert [type(one) for one in after] == [type(one) for one in before]
    assert any(one is not other for one, other in zip(before, after, strict=True))


def test_filling_holes_ends():
    assert len(fill_holes()) < 1_000_000
