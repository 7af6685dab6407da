"""What single workers do, in virtual time."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from minikubelet.api.types import Container, ObjectMeta, Pod, PodSpec
from tests.unit.node.test_pod_worker_laws import UID, World
from tests.unit.node.virtual import run


def crashing(image: str) -> Pod:
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="p", namespace="n", uid=UID),
        spec=PodSpec(
            restart_policy="Always",
            containers=[Container(name="a", image=image)],
            termination_grace_period_seconds=1,
        ),
    )


async def crash(world: World) -> float:
    """Let the container exit; return after how many seconds it runs again."""
    (one,) = world.runtime.running(UID)
    world.runtime.exits(UID, one, 1)
    begun = asyncio.get_running_loop().time()
    while not world.runtime.running(UID):
        await asyncio.sleep(0.25)
    return asyncio.get_running_loop().time() - begun


@pytest.mark.conformance("POD-08")
def test_back_off_starts_anew_with_another_image() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        delays = [await crash(world) for _ in range(4)]
        assert [round(delay, -1) for delay in delays] == [0, 10, 20, 40]
        world.pod = crashing("v2")
        world.set_pods()
        await asyncio.sleep(10)
        assert world.runtime.running(UID)[0].spec_hash == "v2"
        assert await crash(world) < 15
        assert world.broken_laws == []
        await world.manager.drain()

    run(live())


def test_labels_change_without_a_touch() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        (before,) = world.runtime.running(UID)
        meta = msgspec.structs.replace(world.pod.metadata, labels={"a": "b"})
        world.pod = msgspec.structs.replace(world.pod, metadata=meta)
        world.set_pods()
        await asyncio.sleep(1)
        assert world.runtime.running(UID) == [before]
        assert world.kept is not None
        assert world.kept.metadata.labels == {"a": "b"}
        await world.manager.drain()

    run(live())


@pytest.mark.parametrize("step_s", [0.0, 1e6, -1e6, 3600.0])
def test_a_step_of_the_wall_clock_moves_no_timer(step_s: float) -> None:
    """Back-offs and activeDeadlineSeconds are over when they would have been, whichever way the clock was set."""

    async def live() -> None:
        pod = crashing("v1")
        pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, active_deadline_seconds=200))
        world = World(pod)
        world.is_wanted = True
        loop = asyncio.get_running_loop()
        world.wall_step_s = 2e6
        begun = loop.time()
        world.set_pods()
        await asyncio.sleep(1)
        assert [round(await crash(world), -1) for _ in range(2)] == [0, 10]
        world.wall_step_s += step_s
        assert [round(await crash(world), -1) for _ in range(2)] == [20, 40]
        while world.runtime.running(UID):
            await asyncio.sleep(0.25)
        assert 199 <= loop.time() - begun <= 206
        await world.manager.drain()

    run(live())
