"""Laws of pod workers, whatever happens and in whatever order.

Containers exit, probes fail, manifests are edited, removed and written back, hooks take their time, the pause dies, the
daemon is restarted in the middle of anything.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikubelet.api.types import (
    Container,
    ExecAction,
    Lifecycle,
    LifecycleHandler,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
    Probe,
)
from minikubelet.lifecycle import actions as act
from minikubelet.lifecycle.observed import ContainerID, ObservedContainer, ObservedPod, PodUID, ProbeOutcome
from minikubelet.lifecycle.restart import wants_restart
from minikubelet.node.afterwards import Afterwards
from minikubelet.node.pod_manager import PodManager
from minikubelet.node.services import WorkerServices
from minikubelet.runtime.port import RuntimeFailure
from tests.unit.node.virtual import FakeProber, FakeRuntime, run

PROBE = Probe(exec=ExecAction(command=["true"]))
HOOK = LifecycleHandler(exec=ExecAction(command=["true"]))
UID = PodUID("u")


class FakeHooks:
    """Hooks that take some time, and may fail."""

    def __init__(self) -> None:
        self.seconds = 3.0
        self.fails = False
        self.failed: set[ContainerID] = set()
        self.ended: list[tuple[str, float]] = []  # whose preStop hook has begun, and when

    async def post_start(self, pod: Pod, container: Container, container_id: ContainerID) -> None:
        await asyncio.sleep(self.seconds)
        if self.fails:
            self.failed.add(container_id)
            raise RuntimeFailure("hook failed")

    async def pre_stop(self, pod: Pod, container: Container, container_id: ContainerID) -> None:
        self.ended.append((container.name, asyncio.get_running_loop().time()))
        await asyncio.sleep(self.seconds)


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", init: bool = False) -> None:
        self.told.append((reason, message))


class Admission:
    async def admit(self, pod: Pod) -> None:
        return None

    def adopt(self, pod: Pod) -> None:
        return

    def release(self, uid: PodUID) -> None:
        return


class World:
    """A node of one pod, with what must hold at every moment."""

    def __init__(self, pod: Pod) -> None:
        self.wall_step_s = 0.0  # how far somebody has set the wall clock
        loop = asyncio.get_running_loop()
        self.pod = pod
        self.runtime = FakeRuntime(loop.time)
        self.prober = FakeProber()
        self.hooks = FakeHooks()
        self.recorder = Recorder()
        self.kept: Pod | None = None
        self.status: PodStatus | None = None
        self.counts: dict[str, int] = {}
        self.is_wanted = False
        self.broken_laws: list[str] = []
        self.worked: list[tuple[str, float]] = []
        self.restarted = 0
        self.runtime.on_start = self.on_start
        self.runtime.on_signal = self.on_signal
        self.manager = self.make_manager()

    def services(self) -> WorkerServices:
        loop = asyncio.get_running_loop()
        return WorkerServices(
            runtime=self.runtime,
            recorder=self.recorder,
            hooks=self.hooks,
            prober=self.prober,
            publish=self.publish,
            previous_status=lambda pod: self.status,
            remember=self.remember,
            admission=Admission(),
            host_ips=lambda: ("192.0.2.1",),
            message_of=lambda pod, container, one: "",
            wanted_hash=lambda container: container.image,
            wall_clock=lambda: loop.time() + self.wall_step_s,
            boot_clock=loop.time,
            afterwards=Afterwards(),
            worked=lambda operation, seconds: self.worked.append((operation, seconds)),
        )

    def make_manager(self) -> PodManager:
        services = self.services()
        manager = PodManager(services, on_update=lambda pod: None, on_gone=self.on_gone, on_restarted=self.on_restarted)
        self.runtime.on_change = manager.wake
        return manager

    # What the daemon around does

    def remember(self, pod: Pod) -> None:
        self.kept = pod

    def on_gone(self, pod: Pod) -> None:
        self.status, self.kept, self.counts = None, None, {}

    def on_restarted(self, pod: Pod) -> None:
        self.restarted += 1

    def set_pods(self) -> None:
        self.manager.set_pods([self.pod] if self.is_wanted else [])

    async def restart_daemon(self) -> None:
        await self.manager.stop()
        self.prober.liveness.clear()
        self.manager = self.make_manager()
        self.manager.adopt([self.kept] if self.kept is not None and UID in self.runtime.pods else [])
        self.set_pods()
        if not self.manager.pods():
            self.on_gone(self.pod)  # as the status manager withdraws what an earlier daemon published

    # Laws: workers survive exceptions, so what is broken is noted

    def law(self, holds: bool, text: str) -> None:
        if not holds:
            self.broken_laws.append(text)

    def publish(self, pod: Pod) -> None:
        status = pod.status
        if self.status is not None:
            before = self.status.phase
            ended = before in ("Succeeded", "Failed")
            self.law(not ended or status.phase == before, f"a terminal phase never changes: {before}, {status.phase}")
        for one in [*(status.init_container_statuses or ()), *(status.container_statuses or ())]:
            self.law(one.restart_count >= self.counts.get(one.name, 0), f"{one.name}: restart counts never fall")
            self.counts[one.name] = one.restart_count
        self.status = status

    def on_start(self, pod: Pod, container: Container, count: int) -> None:
        uid = PodUID(pod.metadata.uid)
        names = [one.name for one in self.runtime.present(uid)]
        self.law(container.name not in names, f"no two instances of {container.name} at once")
        self.law(count >= self.counts.get(container.name, 0), f"{container.name}: restart counts never fall")
        ended = self.status is not None and self.status.phase in ("Succeeded", "Failed")
        self.law(not ended, f"{container.name} started although the pod has ended")
        state = self.runtime.pods[uid]
        sandbox = state.sandboxes[-1].id
        inits = pod.spec.init_containers or []
        position = next((i for i, one in enumerate(inits) if one.name == container.name), len(inits))
        for one in inits[:position]:
            here = [each for each in state.containers.get(one.name, ()) if each.sandbox_id == sandbox]
            done = any(each.exit is not None and each.exit.exit_code == 0 for each in here)
            self.law(bool(here) if one.restart_policy == "Always" else done, f"{container.name} before {one.name}")

    def on_signal(self, pod: Pod, one: ObservedContainer) -> None:
        container = next(each for each in every(pod) if each.name == one.name)
        failed = ProbeOutcome.FAILURE in (self.prober.liveness.get(one.id), self.prober.startup.get(one.id))
        reasons = (
            not self.is_wanted,
            self.kept is not None and self.kept.metadata.deletion_timestamp is not None,
            failed,
            one.spec_hash != container.image,
            one.id in self.hooks.failed,
            self.is_finished(pod),
        )
        self.law(any(reasons), f"{one.name} runs and is healthy, but was touched")

    def is_finished(self, pod: Pod) -> bool:
        """Tell whether all apps have ended for good, or an init container has failed for good."""
        state = self.runtime.pods[UID]

        def ended_for_good(container: Container) -> bool:
            found = state.containers.get(container.name, [])
            end = found[-1].exit if found else None
            return end is not None and not wants_restart(pod, container, end.exit_code)

        inits = [one for one in pod.spec.init_containers or () if one.restart_policy != "Always"]
        codes = {
            one.name: [each.exit.exit_code for each in state.containers.get(one.name, []) if each.exit] for one in inits
        }
        failed = any(ended_for_good(one) and codes[one.name][-1] != 0 for one in inits)
        return failed or all(ended_for_good(one) for one in pod.spec.containers)

    def assert_settled_pod_is_left_alone(self) -> None:
        """Of a pod all of whose containers run well, nothing is to be done."""
        running = {one.name: one for one in self.runtime.running(UID)}
        if not self.is_wanted or not all(
            one.name in running for one in every(self.pod) if not is_regular_init(self.pod, one)
        ):
            return
        if any(
            found.spec_hash != container.image
            for container in every(self.pod)
            if (found := running.get(container.name))
        ):
            return
        if any(outcome is not ProbeOutcome.SUCCESS for outcome in self.prober.startup.values()):
            return
        if any(
            one.startup_probe and running[one.name].id not in self.prober.startup
            for one in every(self.pod)
            if one.name in running
        ):
            return
        view = self.runtime.view(UID)
        seen = ObservedPod(uid=UID, sandboxes=view.sandboxes, containers=view.containers, startup=self.prober.startup)
        assert act.compute_actions(self.pod, seen, self.runtime.clock()).actions == ()


def every(pod: Pod) -> list[Container]:
    return [*(pod.spec.init_containers or []), *pod.spec.containers]


def is_regular_init(pod: Pod, container: Container) -> bool:
    return container in (pod.spec.init_containers or ()) and container.restart_policy != "Always"


def containers(prefix: str, kinds: st.SearchStrategy[str | None]) -> st.SearchStrategy[list[Container]]:
    def make(policy: str | None, liveness: bool, startup: bool, hooks: bool) -> Container:
        probed = policy == "Always" or prefix == "a"
        return Container(
            name="?",
            image="v0",
            restart_policy=policy,
            liveness_probe=PROBE if liveness and probed else None,
            startup_probe=PROBE if startup and probed else None,
            lifecycle=Lifecycle(post_start=HOOK, pre_stop=HOOK) if hooks and prefix == "a" else None,
        )

    def named(found: list[Container]) -> list[Container]:
        return [msgspec.structs.replace(each, name=f"{prefix}{index}") for index, each in enumerate(found)]

    one = st.builds(make, kinds, st.booleans(), st.booleans(), st.booleans())
    return st.lists(one, min_size=1 if prefix == "a" else 0, max_size=3 if prefix == "i" else 2).map(named)


PODS = st.builds(
    lambda policy, inits, apps, grace: Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="p", namespace="n", uid=UID),
        spec=PodSpec(
            restart_policy=policy,
            init_containers=inits or None,
            containers=apps,
            termination_grace_period_seconds=grace,
        ),
    ),
    st.sampled_from(["Always", "OnFailure", "Never"]),
    containers("i", st.sampled_from([None, "Always"])),
    containers("a", st.none()),
    st.sampled_from([1, 5, 30]),
)
NAMES = ("i0", "i1", "i2", "a0", "a1")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("exit"), st.sampled_from(NAMES), st.sampled_from([0, 0, 1])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.005, 0.5, 2.0, 11.0, 400.0])),
        st.tuples(st.just("unhealthy"), st.sampled_from(NAMES)),
        st.tuples(st.just("started"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("edit"), st.sampled_from(NAMES)),
        st.tuples(st.just("remove")),
        st.tuples(st.just("write")),
        st.tuples(st.just("restart daemon")),
        st.tuples(st.just("lose sandbox")),
        st.tuples(st.just("hook"), st.sampled_from([0.0, 3.0, 60.0]), st.booleans()),
        st.tuples(st.just("deaf"), st.sampled_from(NAMES)),
        st.tuples(st.just("broken"), st.sampled_from(NAMES)),
    ),
    max_size=25,
)


async def step(world: World, number: int, what: tuple[Any, ...]) -> None:
    """Let one thing happen."""
    found = {one.name: one for one in world.runtime.running(UID)}
    match what:
        case ("exit", name, code) if name in found:
            world.runtime.exits(UID, found[name], code)
        case ("wait", seconds):
            await asyncio.sleep(seconds)
        case ("unhealthy", name) if name in found:
            world.prober.liveness[found[name].id] = ProbeOutcome.FAILURE
            world.manager.wake(UID)
        case ("started", name, good) if name in found and found[name].id not in world.prober.startup:
            world.prober.startup[found[name].id] = ProbeOutcome.SUCCESS if good else ProbeOutcome.FAILURE
            world.manager.wake(UID)
        case ("edit", name):
            edited = {
                one.name: msgspec.structs.replace(one, image=f"v{number}")
                for one in every(world.pod)
                if one.name == name
            }
            spec = world.pod.spec
            inits = [edited.get(one.name, one) for one in spec.init_containers or ()] or None
            apps = [edited.get(one.name, one) for one in spec.containers]
            world.pod = msgspec.structs.replace(
                world.pod, spec=msgspec.structs.replace(spec, init_containers=inits, containers=apps)
            )
            world.set_pods()
        case ("remove",):
            world.is_wanted = False
            world.set_pods()
        case ("write",):
            world.is_wanted = True
            world.set_pods()
        case ("restart daemon",):
            await world.restart_daemon()
        case ("lose sandbox",) if UID in world.runtime.pods:
            world.runtime.loses_sandbox(UID)
        case ("hook", seconds, fails):
            world.hooks.seconds, world.hooks.fails = seconds, fails
        case ("deaf", name):
            world.runtime.deaf ^= {name}
        case ("broken", name):
            world.runtime.broken ^= {name}
    await asyncio.sleep(0)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pod=PODS, steps=STEPS)
def test_laws_hold_in_every_order_of_events(pod: Pod, steps: list[tuple[Any, ...]]) -> None:
    failures: list[BaseException] = []

    async def live() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: failures.append(context.get("exception") or AssertionError(context["message"]))
        )
        world = World(pod)
        world.is_wanted = True
        world.set_pods()
        for number, what in zip(itertools.count(1), steps, strict=False):
            await step(world, number, what)
        await asyncio.sleep(1)
        world.assert_settled_pod_is_left_alone()
        world.is_wanted = False
        world.set_pods()
        async with asyncio.timeout(600):
            await world.manager.drain()
        assert UID not in world.runtime.pods, "everything ends when the file is gone"
        assert world.status is None
        await world.manager.stop()
        assert world.broken_laws == []
        assert world.runtime.killed == [], "what runs is ended with its hooks and grace, not with its sandbox"

    run(live())
    assert failures == []
