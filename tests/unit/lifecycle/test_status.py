"""The status of a Pod: what is shown of lost and removed containers, conditions, users, ends."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.api.types import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ContainerStatus,
    ObjectMeta,
    Pod,
    PodCondition,
    PodReadinessGate,
    PodSpec,
    PodStatus,
    ResourceRequirements,
    VolumeMount,
)
from minikubelet.lifecycle.observed import (
    ContainerID,
    Exit,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    PodUID,
    RunState,
    StartFailure,
    User,
)
from minikubelet.lifecycle.status import NodeFacts, PodEnd, pod_status

FACTS = NodeFacts(now=1000, qos_class="BestEffort", pod_ips=("10.0.0.1",))
SANDBOX = ObservedSandbox(id="s", attempt=0, created_at=1, ready=True, ips=("10.0.0.1",))


def pod(*apps: Container, inits: tuple[Container, ...] = (), policy: str = "Always", **spec: object) -> Pod:
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="p", namespace="n", uid="u"),
        spec=PodSpec(restart_policy=policy, containers=list(apps), init_containers=list(inits) or None, **spec),  # type: ignore[arg-type]
    )


def container(name: str, **changes: object) -> Container:
    return Container(name=name, image="i", **changes)  # type: ignore[arg-type]


def running(name: str, count: int = 0) -> ObservedContainer:
    return ObservedContainer(
        id=ContainerID(f"{name}{count}"),
        name=name,
        restart_count=count,
        state=RunState.RUNNING,
        created_at=10,
        created_mono=10,
        started_at=10,
        started_mono=10,
        user=User(uid=7, gid=8, groups=(8, 9)),
    )


def exited(name: str, code: int, count: int = 0) -> ObservedContainer:
    ended = Exit(exit_code=code, finished_at=20, finished_mono=20, reason="Error" if code else "Completed")
    return replace(running(name, count), state=RunState.EXITED, exit=ended)


def seen(*instances: ObservedContainer, sandbox: ObservedSandbox | None = SANDBOX) -> ObservedPod:
    found: dict[str, tuple[ObservedContainer, ...]] = {}
    for one in instances:
        found[one.name] = (*found.get(one.name, ()), one)
    return ObservedPod(uid=PodUID("u"), sandboxes=(sandbox,) if sandbox else (), containers=found)


def of(status: PodStatus, name: str) -> ContainerStatus:
    every = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    return next(one for one in every if one.name == name)


def condition(status: PodStatus, kind: str) -> PodCondition:
    return next(one for one in status.conditions or () if one.type == kind)


def conditions(status: PodStatus) -> dict[str, str]:
    return {one.type: one.status for one in status.conditions or ()}


def test_an_instance_that_never_started_has_the_start_time_0_as_from_containerd() -> None:
    ended = Exit(exit_code=128, finished_at=20, finished_mono=20, reason="StartError")
    one = replace(running("a"), state=RunState.EXITED, exit=ended, started_at=None, started_mono=None)
    shown = of(pod_status(pod(container("a")), seen(one), None, FACTS), "a").state.terminated
    assert shown is not None
    assert (shown.started_at, shown.finished_at) == ("1970-01-01T00:00:00Z", "1970-01-01T00:00:20Z")


def test_a_container_that_got_lost_has_restarted() -> None:
    one = pod(container("a"))
    before = pod_status(one, seen(running("a", 2)), None, FACTS)
    lost = pod_status(one, seen(), before, FACTS)
    again = pod_status(one, seen(), lost, FACTS)
    for status in (lost, again):
        shown = of(status, "a")
        assert shown.state.waiting is not None
        assert shown.state.waiting.reason == "ContainerCreating"
        assert shown.last_state.terminated is not None
        assert (shown.last_state.terminated.reason, shown.last_state.terminated.exit_code) == (
            "ContainerStatusUnknown",
            137,
        )
        assert shown.restart_count == 3
    after = of(pod_status(one, seen(running("a", 3)), again, FACTS), "a")
    assert after.last_state == of(again, "a").last_state


def test_what_got_lost_is_shown_as_killed_at_the_pods_end() -> None:
    one = pod(container("a"), container("b"), inits=(container("i"), container("j")))
    before = pod_status(one, seen(exited("i", 0), exited("j", 0), running("a"), running("b")), None, FACTS)
    ended = pod_status(one, seen(exited("a", 143)), before, replace(FACTS, terminating=True, ended=True))
    lost = of(ended, "b").state.terminated
    assert lost is not None
    assert lost.reason == "ContainerStatusUnknown"
    assert lost.message == "The container could not be located when the pod was terminated"
    known = of(ended, "a").state.terminated
    assert known is not None
    assert known.exit_code == 143


def test_what_was_never_begun_stays_waiting_at_the_pods_end() -> None:
    one = pod(container("a"), inits=(container("i"), container("j")), policy="Never")
    ended = pod_status(one, seen(exited("i", 1)), None, replace(FACTS, ended=True))
    assert ended.phase == "Failed"
    for name in ("j", "a"):
        waiting = of(ended, name).state.waiting
        assert waiting is not None
        assert waiting.reason == "PodInitializing"


def test_an_init_container_whose_record_is_gone_had_succeeded() -> None:
    one = pod(container("a"), inits=(container("i"),))
    shown = of(pod_status(one, seen(running("a")), None, FACTS), "i").state.terminated
    assert shown is not None
    assert (shown.exit_code, shown.reason) == (0, "Completed")
    assert "treat it as exited normally" in shown.message


def test_a_restart_in_place_is_told_from_beginning_to_end() -> None:
    rule = ContainerRestartRule(
        action="RestartAllContainers", exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=[42])
    )
    one = pod(container("t", restart_policy="Never", restart_policy_rules=[rule]), container("a"), policy="Never")
    status = pod_status(one, seen(running("t"), running("a")), None, FACTS)
    assert conditions(status)["AllContainersRestarting"] == "False"
    status = pod_status(one, seen(exited("t", 42), running("a")), status, FACTS)
    assert condition(status, "AllContainersRestarting").reason == "RestartAllContainersStarted"
    # The others have ended with success meanwhile: the pod has not.
    status = pod_status(one, seen(exited("t", 42), exited("a", 0)), status, FACTS)
    assert status.phase == "Running"
    for left in (seen(exited("t", 42)), seen()):
        status = pod_status(one, left, status, FACTS)
        removed = of(status, "a")
        assert removed.state.waiting is not None
        assert removed.state.waiting.reason == "RestartingAllContainers"
        assert removed.restart_count == 1
        assert status.phase == "Running"
    assert conditions(status)["AllContainersRestarting"] == "False"
    assert of(status, "t").restart_count == 1
    status = pod_status(one, seen(running("t", 1), running("a", 1)), status, FACTS)
    for name in ("t", "a"):
        last = of(status, name).last_state.terminated
        assert last is not None
        assert (last.reason, last.exit_code) == ("RestartingAllContainers", 137)
    assert conditions(status)["Initialized"] == "True"


def test_a_terminal_phase_comes_when_nothing_runs_any_more_and_stays() -> None:
    one = pod(container("a"), container("b"))
    before = pod_status(one, seen(running("a"), running("b")), None, FACTS)
    late = replace(FACTS, end=PodEnd(reason="DeadlineExceeded", message="too late"))
    ending = pod_status(one, seen(exited("a", 143), running("b")), before, late)
    assert (ending.phase, ending.reason) == ("Running", "")
    ended = pod_status(one, seen(exited("a", 143), exited("b", 0)), ending, late)
    assert (ended.phase, ended.reason, ended.message) == ("Failed", "DeadlineExceeded", "too late")
    assert conditions(ended)["Ready"] == conditions(ended)["ContainersReady"] == "False"
    assert condition(ended, "Ready").reason == "PodFailed"
    later = pod_status(one, seen(running("a", 1)), ended, FACTS)
    assert (later.phase, later.reason) == ("Failed", "DeadlineExceeded")


@pytest.mark.conformance("U-PRB-15")
def test_a_container_without_probes_is_started_and_ready_while_it_runs() -> None:
    for one in (pod(container("a")), pod(container("x"), inits=(container("a", restart_policy="Always"),))):
        status = pod_status(one, seen(running("a")), None, FACTS)
        assert (of(status, "a").started, of(status, "a").ready) == (True, True)
    assert (of(pod_status(pod(container("a")), seen(exited("a", 1)), None, FACTS), "a").ready) is False


INSTANCES = st.sampled_from([(), ("running",), ("exited", 0), ("exited", 1)])
ENDS = st.sampled_from(
    [
        None,
        PodEnd(reason="DeadlineExceeded", message="m"),
        PodEnd(reason="Terminated", message="m", disruption="m"),
        PodEnd(reason="OutOfcpu", message="m", rejected=True),
    ]
)
MOMENTS = st.tuples(INSTANCES, INSTANCES, INSTANCES, ENDS, st.booleans(), st.booleans(), st.booleans())


@pytest.mark.conformance("NODE-21")
@given(policy=st.sampled_from(["Always", "OnFailure", "Never"]), moments=st.lists(MOMENTS, min_size=1, max_size=6))
def test_a_failed_pod_is_never_ready(policy: str, moments: list[tuple[object, ...]]) -> None:
    """Whatever was seen in whatever order, and also while a shutdown ends it: no status says Failed and Ready."""
    one = pod(container("a"), container("b"), inits=(container("s", restart_policy="Always"),), policy=policy)
    status: PodStatus | None = None
    for *found, end, terminating, ended, responsive in moments:
        instances = [
            running(name) if what[0] == "running" else exited(name, what[1])
            for name, what in zip("sab", found, strict=True)
            if what
        ]
        facts = replace(FACTS, end=end, terminating=terminating, ended=ended, responsive=responsive)
        status = pod_status(one, seen(*instances), status, facts)
        if status.phase == "Failed":
            assert conditions(status).get("Ready") != "True"
            assert conditions(status).get("ContainersReady") != "True"


def test_a_disruption_is_told_once_the_pod_is_terminal() -> None:
    one = pod(container("a"))
    down = replace(FACTS, end=PodEnd(reason="Preempting", message="why", disruption="for whom"))
    before = pod_status(one, seen(running("a")), None, FACTS)
    ending = pod_status(one, seen(running("a")), before, down)
    assert "DisruptionTarget" not in conditions(ending)
    ended = pod_status(one, seen(exited("a", 143)), ending, down)
    assert (ended.reason, ended.message) == ("Preempting", "why")
    target = condition(ended, "DisruptionTarget")
    assert (target.reason, target.message) == ("TerminationByKubelet", "for whom")
    assert "DisruptionTarget" in conditions(pod_status(one, seen(exited("a", 143)), ended, FACTS))


def foreign(kind: str, status: str) -> PodCondition:
    return PodCondition(type=kind, status=status, last_probe_time=None, last_transition_time="2026-01-01T00:00:00Z")


def test_foreign_conditions_stay_and_open_readiness_gates() -> None:
    gates = [PodReadinessGate(condition_type="g1"), PodReadinessGate(condition_type="g2")]
    one = pod(container("a"), readiness_gates=gates)
    status = pod_status(one, seen(running("a")), None, FACTS)
    assert condition(status, "Ready").message == (
        'corresponding condition of pod readiness gate "g1" does not exist., '
        'corresponding condition of pod readiness gate "g2" does not exist.'
    )
    set_by_others = [foreign("g1", "True"), foreign("g2", "False"), *(status.conditions or ())]
    status = pod_status(one, seen(running("a")), msgspec.structs.replace(status, conditions=set_by_others), FACTS)
    ready = condition(status, "Ready")
    assert ready.reason == "ReadinessGatesNotReady"
    assert ready.message == 'the status of pod readiness gate "g2" is not "True", but False'
    assert condition(status, "g1").last_transition_time == "2026-01-01T00:00:00Z"
    opened = [foreign("g1", "True"), foreign("g2", "True")]
    status = pod_status(one, seen(running("a")), msgspec.structs.replace(status, conditions=opened), FACTS)
    assert conditions(status)["Ready"] == "True"


def test_initialized_stays_and_times_move_only_with_the_status() -> None:
    one = pod(container("a"), inits=(container("i"),))
    first = pod_status(one, seen(exited("i", 0), running("a")), None, FACTS)
    later = replace(FACTS, now=5000)
    anew = pod_status(one, seen(exited("i", 1), sandbox=replace(SANDBOX, id="t", ready=False, ips=())), first, later)
    assert conditions(anew)["Initialized"] == "True"
    assert condition(anew, "Initialized").last_transition_time == condition(first, "Initialized").last_transition_time
    assert condition(anew, "PodReadyToStartContainers").status == "False"
    moved = condition(anew, "PodReadyToStartContainers").last_transition_time
    assert moved == "1970-01-01T01:23:20Z"
    assert anew.start_time == first.start_time


def test_a_pod_of_which_nothing_can_be_known() -> None:
    one = pod(container("a"))
    before = pod_status(one, seen(running("a")), None, FACTS)
    status = pod_status(one, seen(running("a")), before, replace(FACTS, responsive=False))
    assert (status.phase, status.reason) == ("Unknown", "NodeLost")
    assert (condition(status, "Ready").status, condition(status, "Ready").reason) == ("Unknown", "PauseNotResponding")
    back = pod_status(one, seen(running("a")), status, FACTS)
    assert (back.phase, back.reason, conditions(back)["Ready"]) == ("Running", "", "True")


def test_nothing_is_said_of_an_instance_whose_post_start_hook_still_runs() -> None:
    one = pod(container("a"), inits=(container("i"),))
    hooked = replace(FACTS, starting=frozenset("a"))
    made = replace(running("a"), state=RunState.CREATED, started_at=None, started_mono=None)
    first = pod_status(one, seen(exited("i", 0), made), None, hooked)
    first = pod_status(one, seen(exited("i", 0), running("a")), first, hooked)
    shown = of(first, "a")
    assert shown.state.waiting is not None
    assert (shown.state.waiting.reason, shown.container_id, shown.restart_count) == ("PodInitializing", "", 0)
    assert first.phase == "Pending"
    # A restart: it stays as it was shown before, whatever that was.
    before = pod_status(one, seen(exited("i", 0), exited("a", 1)), first, FACTS)
    during = pod_status(one, seen(exited("i", 0), running("a", 1), exited("a", 1)), before, hooked)
    assert of(during, "a") == of(before, "a")
    after = of(pod_status(one, seen(exited("i", 0), running("a", 1), exited("a", 1)), during, FACTS), "a")
    assert after.state.running is not None
    assert after.restart_count == 1
    assert after.last_state.terminated is not None


def test_what_is_said_of_a_container_that_was_not_made_yet() -> None:
    """Resources, image and user are an instance's; what is mounted is known before."""
    mounts = [VolumeMount(name="v", mount_path="/v", read_only=True)]
    resources = ResourceRequirements(requests={"cpu": "1"})
    one = pod(container("a", resources=resources, volume_mounts=mounts), container("b"))
    shown = to_json(of(pod_status(one, seen(), None, FACTS), "a"))
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    mounted = [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Disabled"}]
    assert shown == {
        "name": "a",
        "state": waiting,
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": "i",
        "imageID": "",
        "started": False,
        "volumeMounts": mounted,
    }
    made = pod_status(one, seen(running("a"), exited("b", 1)), None, FACTS)
    shown = to_json(of(made, "a"))
    assert shown["imageID"] == "minikubelet://host"
    assert (shown["resources"], shown["allocatedResources"]) == ({"requests": {"cpu": "1"}}, {"cpu": "1"})
    assert shown["volumeMounts"] == mounted
    shown = to_json(of(made, "b"))
    assert shown["resources"] == {}
    assert "allocatedResources" not in shown
    assert shown["started"] is False


def test_a_pod_shows_the_resources_of_its_containers_together() -> None:
    requests = ResourceRequirements(requests={"cpu": "250m"}, limits={"memory": "1Gi"})
    status = pod_status(
        pod(container("a", resources=requests), container("b", resources=requests)), seen(), None, FACTS
    )
    shown = to_json(status)
    assert shown["resources"] == {"limits": {"memory": "2Gi"}, "requests": {"cpu": "500m"}}
    assert shown["allocatedResources"] == {"cpu": "500m"}
    shown = to_json(pod_status(pod(container("a")), seen(), None, FACTS))
    assert shown["resources"] == {}
    assert "allocatedResources" not in shown


def to_json(status: ContainerStatus | PodStatus) -> dict[str, object]:
    made: dict[str, object] = msgspec.to_builtins(status)
    return made


def test_a_sidecar_whose_record_is_gone_is_to_be_started_again() -> None:
    one = pod(container("a"), inits=(container("i"), container("s", restart_policy="Always")))
    before = pod_status(one, seen(exited("i", 0), running("s", 1), running("a")), None, FACTS)
    status = pod_status(one, seen(running("a")), before, FACTS)
    assert of(status, "i").state.terminated is not None
    shown = of(status, "s")
    assert shown.state.waiting is not None
    assert shown.last_state.terminated is not None
    assert (shown.last_state.terminated.reason, shown.restart_count) == ("ContainerStatusUnknown", 2)


def test_what_waits_for_its_restart_is_waiting_but_an_init_container_that_ended_well() -> None:
    """The kubelet looks at nothing but the exit code of what lies in initContainers, also for sidecars."""
    sidecar = container("s", restart_policy="Always")
    one = pod(container("a"), inits=(sidecar,))
    failures = {name: StartFailure(reason="CrashLoopBackOff", message="m") for name in "sa"}
    for code, waits in ((0, False), (1, True)):
        looked = replace(seen(exited("s", code), exited("a", code)), start_failures=failures)
        status = pod_status(one, looked, None, FACTS)
        assert (of(status, "s").state.waiting is not None) is waits
        assert of(status, "a").state.waiting is not None


def test_user_and_addresses() -> None:
    status = pod_status(pod(container("a")), seen(running("a")), None, FACTS)
    user = of(status, "a").user
    assert user is not None
    assert user.linux is not None
    assert (user.linux.uid, user.linux.gid, user.linux.supplemental_groups) == (7, 8, [8, 9])
    gone = pod_status(pod(container("a")), seen(sandbox=None), status, replace(FACTS, pod_ips=()))
    assert gone.pod_ip == "10.0.0.1"


def test_an_edit_shows_nothing_of_a_running_instance_that_it_does_not_have() -> None:
    """Under a uid of its own a container runs on as it was made: with its image and its limits."""
    before = Container(name="a", image="i:1", resources=ResourceRequirements(limits={"cpu": "1"}))
    wanted = ResourceRequirements(limits={"cpu": "2"}, requests={"cpu": "2"})
    after = Container(name="a", image="i:2", resources=wanted)
    first = pod_status(pod(before), seen(running("a")), None, FACTS)
    runs_on = of(pod_status(pod(after), seen(running("a")), first, FACTS), "a")
    assert (runs_on.image, runs_on.resources) == ("i:1", before.resources)
    assert runs_on.allocated_resources == {"cpu": "2"}
    ended = of(pod_status(pod(after), seen(exited("a", 1)), first, FACTS), "a")
    assert (ended.image, ended.resources) == ("i:1", after.resources)
    next_one = of(pod_status(pod(after), seen(running("a", 1), exited("a", 1)), first, FACTS), "a")
    assert (next_one.image, next_one.resources) == ("i:2", after.resources)


def test_the_end_that_was_shown_is_the_last_one_though_its_record_is_lost() -> None:
    one = pod(container("a"))
    ended = pod_status(one, seen(exited("a", 3)), None, FACTS)
    again = of(pod_status(one, seen(running("a", 1)), ended, FACTS), "a")
    assert again.last_state == of(ended, "a").state
    same = of(pod_status(one, seen(exited("a", 3)), ended, FACTS), "a")
    assert same.last_state.terminated is None
