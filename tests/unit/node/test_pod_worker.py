"""What single workers do, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Mapping
from typing import NoReturn

import msgspec
import pytest

from minikubelet.api.types import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ExecAction,
    Lifecycle,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    Probe,
)
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, PodUID, ProbeOutcome
from minikubelet.lifecycle.probing import ProbeKind
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.prober import NodeProber
from minikubelet.runtime.port import ContainerFailure, SandboxFailure, VolumeFailure
from minikubelet.runtime.probes.result import Ask, ProbeReply, Verdict
from tests.unit.node.test_pod_worker_laws import HOOK, UID, Admission, Recorder, World
from tests.unit.node.virtual import VirtualLoop, run


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


def test_what_workers_do_is_measured_and_a_pod_written_back_is_a_restart() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        assert [one for one, _ in world.worked][:1] == ["create"]
        world.pod = crashing("v2")
        world.set_pods()
        await asyncio.sleep(1)
        assert [one for one, _ in world.worked].count("update") == 1
        world.runtime.deaf.add("a")  # SIGKILL comes 2 s after SIGTERM
        world.is_wanted = False
        world.set_pods()
        await asyncio.sleep(1)
        world.is_wanted = True
        world.set_pods()
        assert world.restarted == 0
        await asyncio.sleep(3)
        assert world.runtime.running(UID)
        assert world.restarted == 1
        assert [round(seconds) for one, seconds in world.worked if one == "kill"] == [2]
        assert [one for one, _ in world.worked].count("terminated") == 1
        await world.manager.drain()
        assert world.restarted == 1

    run(live())


def test_events_name_containers_and_not_their_instances() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        (one,) = world.runtime.running(UID)

        async def fail(pod: Pod, container: Container, count: int) -> NoReturn:
            raise ContainerFailure("CreateContainerError", f"cannot remove /x/{one.id}: busy")

        world.runtime.start_container = fail  # type: ignore[method-assign]
        world.runtime.exits(UID, one, 1)
        await asyncio.sleep(1)
        assert ("Failed", "Error: cannot remove /x/a: busy") in world.recorder.told
        await world.manager.drain()

    run(live())


def test_a_name_that_is_none_of_an_image_keeps_its_container_waiting() -> None:
    async def live() -> None:
        world = World(crashing("a:b:c"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        problem = (
            'Failed to apply default image tag "a:b:c": couldn\'t parse image name "a:b:c": invalid reference format'
        )
        assert world.recorder.told == [("InspectFailed", problem), ("Failed", "Error: InvalidImageName")]
        assert world.status is not None
        assert world.status.phase == "Pending"
        (shown,) = world.status.container_statuses or ()
        assert shown.state.waiting is not None
        assert (shown.state.waiting.reason, shown.state.waiting.message) == ("InvalidImageName", problem)
        await asyncio.sleep(15)
        assert len(world.recorder.told) == 4
        world.pod = crashing("v1")
        world.set_pods()
        await asyncio.sleep(1)
        assert world.runtime.running(UID)
        await world.manager.drain()

    run(live())


def test_a_pod_that_cannot_be_set_up_ends_at_its_deadline() -> None:
    async def live() -> None:
        pod = crashing("v1")
        world = World(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, active_deadline_seconds=3)))

        async def fail(pod: Pod) -> NoReturn:
            raise VolumeFailure(("no such volume",))

        world.runtime.prepare = fail  # type: ignore[method-assign]
        world.is_wanted = True
        begun = asyncio.get_running_loop().time()
        world.set_pods()
        while world.status is None or world.status.phase != "Failed":
            await asyncio.sleep(0.25)
        assert 3 <= asyncio.get_running_loop().time() - begun <= 4.5
        assert world.status.reason == "DeadlineExceeded"
        assert ("FailedMount", "no such volume") in world.recorder.told
        await world.manager.drain()

    run(live())


def test_a_sandbox_that_cannot_be_made_is_tried_again_after_a_while_whoever_wakes_the_pod() -> None:
    """To take the failed one back wakes its pod, too: it would be tried again without an end."""

    async def live() -> None:
        loop = asyncio.get_running_loop()
        world = World(crashing("v1"))
        tried: list[float] = []
        create = world.runtime.create_sandbox

        async def fail(pod: Pod, attempt: int) -> None:
            tried.append(loop.time())
            if len(tried) == 3:
                world.runtime.create_sandbox = create  # type: ignore[method-assign]
            world.runtime.on_change(UID)
            loop.call_later(0.01, world.runtime.on_change, UID)
            raise SandboxFailure("no address")

        world.runtime.create_sandbox = fail  # type: ignore[method-assign]
        world.is_wanted = True
        begun = loop.time()
        world.set_pods()
        while not world.runtime.running(UID):
            await asyncio.sleep(0.25)
        assert len(tried) == 3
        assert all(10 <= after - before <= 15 for before, after in itertools.pairwise(tried))
        assert 30 <= loop.time() - begun <= 46
        told = [one for one in world.recorder.told if one[0] == "FailedCreatePodSandBox"]
        assert told == [("FailedCreatePodSandBox", "Failed to create pod sandbox: no address")] * 3
        await world.manager.drain()

    run(live())


class AlwaysSick:
    """Answers each probe with a failure and notes when; keeps no results."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def prepare(self, pod: Pod, container: Container, probe: Probe, container_id: ContainerID) -> Ask:
        async def ask() -> ProbeReply:
            self.asked.append(asyncio.get_running_loop().time())
            return ProbeReply(Verdict.FAILURE, "sick")

        return lambda: ask

    def load(self, uid: str) -> Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]:
        return {}

    def keep(self, uid: str, results: Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]) -> None:
        return


@pytest.mark.conformance("LIFE-26")
def test_a_sidecar_is_neither_probed_nor_started_while_the_pre_stop_of_an_app_runs() -> None:
    """The row's times: its liveness probe fails after 1 s, the pod ends after 10 s, the hook takes 40 s."""
    probe = Probe(
        exec=ExecAction(command=["x"]),
        initial_delay_seconds=1,
        period_seconds=1,
        timeout_seconds=1,
        failure_threshold=1,
        success_threshold=1,
    )
    pod = crashing("v1")
    spec = msgspec.structs.replace(
        pod.spec,
        init_containers=[Container(name="s", image="v1", restart_policy="Always", liveness_probe=probe)],
        containers=[Container(name="a", image="v1", lifecycle=Lifecycle(pre_stop=HOOK))],
        termination_grace_period_seconds=60,
        active_deadline_seconds=10,
    )

    async def live() -> None:
        loop = asyncio.get_running_loop()
        world = World(msgspec.structs.replace(pod, spec=spec))
        world.hooks.seconds = 40.0
        sick = AlwaysSick()
        prober = NodeProber(
            sick, Recorder(), kept=sick, on_change=lambda uid: world.manager.wake(uid), clock=loop.time, started_at=0
        )
        told, world.prober = world.prober, prober  # type: ignore[assignment]
        starts: list[tuple[str, float]] = []
        law = world.runtime.on_start
        world.runtime.on_start = lambda pod, one, count: (starts.append((one.name, loop.time())), law(pod, one, count))
        world.manager = world.make_manager()
        world.prober = told
        world.is_wanted = True
        begun = loop.time()
        world.set_pods()
        while world.status is None or world.status.phase != "Failed":
            await asyncio.sleep(0.5)
        assert 50 <= loop.time() - begun <= 52
        sidecar = [round(at - begun) for name, at in starts if name == "s"]
        assert sidecar == [0, 1, 2]  # the next one was due at 12 s
        assert [round(at - begun) for at in sick.asked] == [1, 2, 3]
        await world.manager.drain()
        prober.stop()

    run(live())


@pytest.mark.parametrize(("grace", "starts", "back_offs"), [(20, [0, 21, 42, 63, 84], 0), (3, [0, 4, 8, 22], 2)])
def test_a_back_off_goes_on_while_a_sick_container_is_ended(grace: int, starts: list[int], back_offs: int) -> None:
    """Its delay counts from the exit before; only what is left of it when the instance has ended is waited for."""
    probe = Probe(
        exec=ExecAction(command=["x"]),
        initial_delay_seconds=1,
        period_seconds=1,
        timeout_seconds=1,
        failure_threshold=1,
        success_threshold=1,
    )
    pod = crashing("v1")
    spec = msgspec.structs.replace(
        pod.spec,
        containers=[Container(name="a", image="v1", liveness_probe=probe)],
        termination_grace_period_seconds=grace,
    )

    async def live() -> None:
        loop = asyncio.get_running_loop()
        world = World(msgspec.structs.replace(pod, spec=spec))
        world.runtime.deaf.add("a")
        sick = AlwaysSick()
        prober = NodeProber(
            sick, Recorder(), kept=sick, on_change=lambda uid: world.manager.wake(uid), clock=loop.time, started_at=0
        )
        told, world.prober = world.prober, prober  # type: ignore[assignment]
        seen: list[float] = []
        law = world.runtime.on_start
        world.runtime.on_start = lambda pod, one, count: (seen.append(loop.time()), law(pod, one, count))
        world.manager = world.make_manager()
        world.prober = told
        world.is_wanted = True
        begun = loop.time()
        world.set_pods()
        while len(seen) < len(starts):
            await asyncio.sleep(0.5)
        assert [round(at - begun) for at in seen] == starts
        assert [reason for reason, _ in world.recorder.told].count("BackOff") == back_offs
        await world.manager.drain()
        prober.stop()

    run(live())


@pytest.mark.parametrize(("grace", "hooks"), [(0, []), (5, ["s"])])
def test_a_finished_pod_ends_its_sidecars_with_its_own_grace(grace: int, hooks: list[str]) -> None:
    """Without any there is no hook, but still two seconds for the stop signal."""
    spec = PodSpec(
        restart_policy="Never",
        init_containers=[
            Container(name="s", image="v1", restart_policy="Always", lifecycle=Lifecycle(pre_stop=HOOK)),
        ],
        containers=[Container(name="a", image="v1")],
        termination_grace_period_seconds=grace,
    )

    async def live() -> None:
        world = World(msgspec.structs.replace(crashing("v1"), spec=spec))
        world.hooks.seconds = 1.0
        world.runtime.deaf.add("s")
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        app = next(one for one in world.runtime.running(UID) if one.name == "a")
        begun = asyncio.get_running_loop().time()
        world.runtime.exits(UID, app, 0)
        while world.runtime.running(UID):
            await asyncio.sleep(0.25)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(max(grace, 2), abs=0.5)
        assert [name for name, _ in world.hooks.ended] == hooks
        await world.manager.drain()

    run(live())


def test_daemon_that_leaves_while_a_start_is_being_undone_touches_no_pod() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        world.is_wanted = True
        begun = asyncio.Event()

        async def start(pod: Pod, container: Container, restart_count: int) -> ObservedContainer:
            begun.set()
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(1)  # what was half made is taken back
            raise AssertionError

        stopped: list[Pod] = []

        async def stop(pod: Pod) -> None:
            stopped.append(pod)

        world.runtime.start_container = start  # type: ignore[method-assign]
        world.runtime.stop_sandbox = stop  # type: ignore[method-assign]
        world.set_pods()
        await begun.wait()
        stopped.clear()  # before the first sandbox too
        world.manager.terminate_all(grace_s=None)
        await asyncio.sleep(0.5)
        await world.manager.stop()
        assert stopped == []

    run(live())


def with_hooks(grace: int, *names: str) -> Pod:
    """A pod of containers with a preStop hook."""
    pod = crashing("v1")
    containers = [Container(name=name, image="v1", lifecycle=Lifecycle(pre_stop=HOOK)) for name in names]
    spec = msgspec.structs.replace(pod.spec, containers=containers, termination_grace_period_seconds=grace)
    return msgspec.structs.replace(pod, spec=spec)


@pytest.mark.parametrize(("request_s", "start_s"), [(0.0, 0.5), (0.5, 0.5), (4.0, 0.0), (0.0, 4.0)])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_container_whose_start_is_under_way_ends_with_its_hook_and_grace(
    request_s: float, start_s: float, leaves: bool
) -> None:
    """The deletion comes 0.3 s after the start was asked for; with `leaves`, to a daemon that has just begun."""
    if leaves and request_s:
        return  # what no pause has taken up is lost with the daemon

    async def live() -> None:
        world = World(with_hooks(20, "a"))
        world.hooks.seconds = 3.0
        world.runtime.request_s, world.runtime.start_s = request_s, start_s
        signalled: list[float] = []
        law = world.runtime.on_signal
        loop = asyncio.get_running_loop()
        world.runtime.on_signal = lambda pod, one: (signalled.append(loop.time()), law(pod, one))
        world.is_wanted = True
        begun = loop.time()
        world.set_pods()
        await asyncio.sleep(0.01)  # the sandbox
        if leaves:
            await asyncio.sleep(0.1)
            await world.restart_daemon()
        await asyncio.sleep(0.3)
        assert world.runtime.running(UID) == []
        world.is_wanted = False
        world.set_pods()
        await world.manager.wait_until_gone()
        ((name, hook),) = world.hooks.ended
        assert name == "a"
        runs = request_s + start_s
        assert runs <= hook - begun <= runs + 0.1
        assert [round(at - hook, 1) for at in signalled] == [3.0]
        assert world.runtime.killed == []
        assert world.broken_laws == []

    run(live())


def test_a_start_that_hangs_keeps_no_other_container_from_its_end_and_dies_with_the_sandbox() -> None:
    async def live() -> None:
        world = World(with_hooks(20, "a", "b"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        (_, b) = world.runtime.running(UID)
        world.runtime.start_s = 1e6
        world.runtime.exits(UID, b, 1)
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        world.is_wanted = False
        world.set_pods()
        await world.manager.wait_until_gone()
        assert [(name, round(at - begun)) for name, at in world.hooks.ended] == [("a", 2)]
        assert round(loop.time() - begun) == 20
        assert world.runtime.killed == ["b"]
        assert world.broken_laws == []

    run(live())


def test_a_start_that_an_earlier_daemon_asked_for_is_waited_for() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        world.runtime.start_s = 5.0
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        await world.restart_daemon()
        await asyncio.sleep(10)
        assert [one.restart_count for one in world.runtime.running(UID)] == [0]
        assert world.broken_laws == []
        await world.manager.drain()

    run(live())


def test_a_pod_for_which_no_worker_can_be_made_stops_no_other_and_is_tried_again() -> None:
    async def live() -> None:
        world = World(crashing("v1"))
        meta = msgspec.structs.replace(world.pod.metadata, name="bad", uid="bad")
        bad = msgspec.structs.replace(world.pod, metadata=meta)
        sick = True

        def previous(pod: Pod) -> PodStatus | None:
            if sick and pod.metadata.uid == "bad":
                raise ValueError("a status that nobody understands")
            return None

        manager = PodManager(
            dataclasses.replace(world.services(), previous_status=previous),
            on_update=lambda pod: None,
            on_gone=lambda pod: None,
        )
        world.runtime.on_change = manager.wake
        manager.set_pods([bad, world.pod])
        await asyncio.sleep(1)
        assert len(world.runtime.running(UID)) == 1
        assert ("FailedSync", "error syncing pod, skipping: a status that nobody understands") in world.recorder.told
        manager.set_pods([bad, world.pod])
        assert world.runtime.running(PodUID("bad")) == []
        sick = False
        await asyncio.sleep(12)
        assert len(world.runtime.running(PodUID("bad"))) == 1
        # One that is no longer wanted when it can be made at last is ended.
        sick = True
        await manager.stop()
        manager = PodManager(
            dataclasses.replace(world.services(), previous_status=previous),
            on_update=lambda pod: None,
            on_gone=lambda pod: None,
        )
        world.runtime.on_change = manager.wake
        manager.set_pods([bad, world.pod])
        manager.set_pods([world.pod])
        sick = False
        await asyncio.sleep(20)
        assert PodUID("bad") not in world.runtime.pods
        await manager.drain()

    run(live())


def test_a_pod_that_never_restarts_does_not_end_while_an_edit_replaces_its_container() -> None:
    async def live() -> None:
        def never(image: str) -> Pod:
            pod = crashing(image)
            return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, restart_policy="Never"))

        world = World(never("v1"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        world.pod = never("v2")
        world.set_pods()
        await asyncio.sleep(5)
        assert [one.spec_hash for one in world.runtime.running(UID)] == ["v2"]
        assert world.status is not None and world.status.phase == "Running"
        assert world.broken_laws == []
        (one,) = world.runtime.running(UID)
        world.runtime.exits(UID, one, 1)
        await asyncio.sleep(1)
        assert world.status.phase == "Failed"
        world.is_wanted = False
        world.set_pods()
        await world.manager.wait_until_gone()

    run(live())


@pytest.mark.parametrize("others", [0, 1])
def test_a_restart_in_place_is_known_of_whatever_is_forgotten_before_a_status_is_shown(others: int) -> None:
    async def live() -> None:
        rule = ContainerRestartRule(
            action="RestartAllContainers", exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=[42])
        )
        trigger = Container(name="a", image="v1", restart_policy="Never", restart_policy_rules=[rule])
        plain = [Container(name=f"b{number}", image="v1") for number in range(others)]
        pod = crashing("v1")
        spec = msgspec.structs.replace(pod.spec, restart_policy="Never", containers=[*plain, trigger])
        world = World(msgspec.structs.replace(pod, spec=spec))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        for count in (1, 2):
            one = next(one for one in world.runtime.running(UID) if one.name == "a")
            world.runtime.exits(UID, one, 42)
            await asyncio.sleep(20)
            assert world.status is not None and world.status.phase == "Running"
            found = {one.name: one for one in world.status.container_statuses or ()}["a"]
            assert (found.restart_count, found.state.running is not None) == (count, True)
            last = found.last_state.terminated
            assert last is not None and (last.exit_code, last.reason) == (137, "RestartingAllContainers")
        await world.manager.drain()

    run(live())


def test_a_daemon_that_takes_its_pods_along_gives_up_one_that_does_not_die() -> None:
    """After so many seconds in which none has ended."""

    async def live() -> None:
        world = World(crashing("v1"))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        (one,) = world.runtime.running(UID)
        world.runtime.deaf.add(one.name)
        world.runtime.undying.add(one.name)
        begun = asyncio.get_running_loop().time()
        await world.manager.drain(grace_s=2.0, patience_s=30.0)
        assert 30 <= asyncio.get_running_loop().time() - begun <= 31
        assert [pod.metadata.uid for pod in world.manager.pods()] == [UID]
        await world.manager.stop()
        assert world.runtime.running(UID) == [one]

    run(live())


@pytest.mark.parametrize("slow", ["the daemon", "the pod"])
def test_a_daemon_that_takes_its_pods_along_does_not_give_up_what_goes_on(slow: str) -> None:
    """Neither when its loop has no turn for longer than it waits, nor when a pod ends step by step."""

    async def live() -> None:
        pod = crashing("v1")
        two = [Container(name="a", image="v1"), Container(name="b", image="v1")]
        world = World(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=two)))
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1)
        loop, running = asyncio.get_running_loop(), world.runtime.running(UID)
        for one in running:
            world.runtime.deaf.add(one.name)
            world.runtime.undying.add(one.name)
        if slow == "the daemon":
            assert isinstance(loop, VirtualLoop)
            loop.call_later(5, loop.stall, 40.0)
        for number, one in enumerate(running, 1):
            at = 6 + number if slow == "the daemon" else 20 * number
            loop.call_later(at, world.runtime.exits, UID, one, 137)
        await world.manager.drain(grace_s=2.0, patience_s=30.0)
        assert world.manager.pods() == []
        assert len(running) == 2

    run(live())


@pytest.mark.parametrize(("died_at_s", "removed"), [(1.0, False), (5.5, False), (5.5, True)])
@pytest.mark.parametrize("is_broken", [False, True])
def test_what_came_of_a_start_is_told_once_by_whichever_daemon(
    died_at_s: float, removed: bool, is_broken: bool
) -> None:
    async def live() -> None:
        pod = crashing("v1")
        world = World(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, restart_policy="Never")))
        world.runtime.start_s = 5.0
        if is_broken:
            world.runtime.broken.add("a")
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1.0)
        await world.manager.stop()
        await asyncio.sleep(died_at_s - 1.0)
        if removed:
            world.is_wanted = False
        await world.restart_daemon()
        await asyncio.sleep(6.0)
        told = [reason for reason, _ in world.recorder.told if reason in ("Created", "Started", "Failed")]
        assert told == ["Created", "Failed" if is_broken else "Started"]
        await world.restart_daemon()
        await asyncio.sleep(1.0)
        assert [reason for reason, _ in world.recorder.told].count(told[1]) == 1
        await world.manager.drain()

    run(live())


@pytest.mark.parametrize("restarts", [False, True])
def test_a_sidecar_ends_after_an_app_whose_start_takes_longer_than_the_deletion_waits(restarts: bool) -> None:
    async def live() -> None:
        pod = crashing("v1")
        spec = msgspec.structs.replace(
            pod.spec,
            init_containers=[Container(name="s", image="v1", restart_policy="Always")],
            termination_grace_period_seconds=30,
        )
        world = World(msgspec.structs.replace(pod, spec=spec))
        world.runtime.deaf.add("a")
        ends: list[str] = []
        world.runtime.on_signal = lambda pod, one: ends.append(one.name)

        def on_start(pod: Pod, container: Container, count: int) -> None:
            world.runtime.start_s = 6.0 if container.name == "a" else 0.01

        world.runtime.on_start = on_start
        world.is_wanted = True
        world.set_pods()
        await asyncio.sleep(1.0)
        assert [one.name for one in world.runtime.running(UID)] == ["s"]
        if restarts:
            await world.restart_daemon()
        world.is_wanted = False
        world.set_pods()
        await asyncio.sleep(7.0)
        assert ends == ["a"]
        assert [one.name for one in world.runtime.running(UID)] == ["s", "a"]
        world.runtime.exits(UID, world.runtime.running(UID)[1], 0)
        await asyncio.sleep(1.0)
        assert ends == ["a", "s"]
        await world.manager.drain()

    run(live())


def test_a_pod_that_waits_for_room_goes_as_soon_as_it_is_no_longer_wanted() -> None:
    class Full(Admission):
        """The pods that are to make room do not end."""

        async def admit(self, pod: Pod) -> None:
            await asyncio.sleep(1000)

    async def live() -> None:
        world = World(crashing("v1"))
        manager = PodManager(
            dataclasses.replace(world.services(), admission=Full()), on_update=lambda pod: None, on_gone=world.on_gone
        )
        manager.set_pods([world.pod])
        await asyncio.sleep(1)
        manager.set_pods([])
        await asyncio.sleep(1)
        assert manager.pods() == []
        manager.set_pods([world.pod])
        await asyncio.sleep(1)
        await manager.stop()  # and a daemon that leaves does not wait either
        assert world.runtime.pods == {}

    run(live())


def test_starts_whose_events_were_still_to_be_recorded_are_told_by_the_next_daemon() -> None:
    async def live() -> None:
        pod = crashing("v1")
        both = [Container(name=name, image="v1") for name in ("a", "b")]
        world = World(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=both)))
        lost: list[object] = []
        dying = dataclasses.replace(world.services(), recorder=Recorder(), afterwards=lost.append)
        manager = PodManager(dying, on_update=lambda pod: None, on_gone=world.on_gone)
        manager.set_pods([world.pod])
        await asyncio.sleep(1)
        await manager.stop()
        assert len(world.runtime.running(UID)) == 2
        world.is_wanted = True
        for _ in range(2):
            await world.restart_daemon()
            await asyncio.sleep(1)
        assert [reason for reason, _ in world.recorder.told] == ["Created", "Started"] * 2
        await world.manager.drain()

    run(live())
