"""What is left for later is done in order, soon, and whatever one piece of it comes to."""

from __future__ import annotations

import asyncio

from minikubelet.node.afterwards import Afterwards
from tests.unit.node.virtual import run


def test_is_done_in_order_after_what_is_under_way() -> None:
    done: list[object] = []

    async def main() -> None:
        afterwards = Afterwards()
        afterwards(lambda: done.append(1))
        afterwards(lambda: done.append(2))
        await asyncio.sleep(0)
        done.append("the request")
        await asyncio.sleep(0.01)

    run(main())
    assert done == ["the request", 1, 2]


def test_a_failure_keeps_nothing_else() -> None:
    done: list[int] = []

    async def main() -> None:
        afterwards = Afterwards()
        afterwards(lambda: done.append(1 // 0))
        afterwards(lambda: done.append(2))
        await asyncio.sleep(0.01)

    run(main())
    assert done == [2]


def test_flush_does_all_at_once_also_what_that_gives() -> None:
    done: list[int] = []

    async def main() -> None:
        afterwards = Afterwards()
        afterwards(lambda: afterwards(lambda: done.append(2)))
        afterwards(lambda: done.append(1))
        afterwards.flush()
        assert done == [1, 2]
        await asyncio.sleep(0.01)
        assert done == [1, 2]

    run(main())


def test_without_a_loop_it_is_done_at_once() -> None:
    done: list[int] = []
    Afterwards()(lambda: done.append(1))
    assert done == [1]


def test_the_loop_gets_its_turn_in_between() -> None:
    """Much of it must not keep a start waiting."""
    done: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        afterwards = Afterwards()

        def work(number: int) -> None:
            done.append(number)
            loop._virtual.passed += 0.001  # type: ignore[attr-defined]  # it takes so long

        for number in range(10):
            afterwards(lambda number=number: work(number))  # type: ignore[misc]
        loop.call_later(0.004, done.append, "a start")
        await asyncio.sleep(0.02)

    run(main())
    assert done.index("a start") < 6
    assert [one for one in done if one != "a start"] == list(range(10))
