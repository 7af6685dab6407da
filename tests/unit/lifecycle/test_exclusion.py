"""U-XCL: one static pod of a full name at a time."""

from __future__ import annotations

import pytest

from minikubelet.lifecycle.exclusion import Names, Verdict, allow_start, released

NAME = ("default", "web-n1")
FREE, HELD = Names(), Names({NAME: "old"}, {})


def queue(*uids: str, held_by: str | None = None) -> Names:
    return Names({NAME: held_by} if held_by else {}, {NAME: uids} if uids else {})


@pytest.mark.parametrize(
    ("names", "unwanted", "verdict", "after"),
    [
        pytest.param(*values, id=f"U-XCL-{number}", marks=pytest.mark.conformance(f"U-XCL-{number}"))
        for number, *values in (
            (4, FREE, (), Verdict.NOW, queue(held_by="me")),
            (5, HELD, (), Verdict.LATER, queue("me", held_by="old")),
            (6, queue(held_by="me"), (), Verdict.NOW, queue(held_by="me")),
            (7, queue("me", "b"), (), Verdict.NOW, queue("b", held_by="me")),
            (8, queue("a", "me", "b"), (), Verdict.LATER, queue("a", "me", "b")),
            (9, queue("gone", "me"), ("gone",), Verdict.NOW, queue(held_by="me")),
            (10, queue("ending", "ended", "me"), ("ending", "ended"), Verdict.NOW, queue(held_by="me")),
            (11, HELD, ("me",), Verdict.NEVER, HELD),
            (12, queue("me", "a", held_by="old"), ("me",), Verdict.NEVER, queue("me", "a", held_by="old")),
        )
    ],
)
def test_allow_start(names: Names, unwanted: tuple[str, ...], verdict: Verdict, after: Names) -> None:
    assert allow_start(NAME, "me", names, lambda uid: uid not in unwanted) == (verdict, after)


def test_a_name_is_free_once_its_holder_is_gone() -> None:
    waiting = queue("me", held_by="old")
    assert released(NAME, "me", waiting) == waiting
    assert allow_start(NAME, "me", released(NAME, "old", waiting), lambda uid: True)[0] is Verdict.NOW


def test_who_asks_twice_waits_once() -> None:
    once = allow_start(NAME, "me", HELD, lambda uid: True)[1]
    assert allow_start(NAME, "me", once, lambda uid: True) == (Verdict.LATER, once)
