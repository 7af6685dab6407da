"""U-CPA: what to do next, the rows of Kubernetes' own test restated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import pytest
from _pytest.mark import ParameterSet

from minikubelet.api.types import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ExecAction,
    ObjectMeta,
    Pod,
    PodSpec,
    Probe,
)
from minikubelet.lifecycle import plan as plans
from minikubelet.lifecycle.actions import compute_actions
from minikubelet.lifecycle.observed import (
    BackOff,
    ContainerID,
    Exit,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    PodUID,
    ProbeOutcome,
    RunState,
)

PROBE = Probe(exec=ExecAction(command=["true"]), failure_threshold=3, success_threshold=1)


def container(name: str, **changes: object) -> Container:
    return Container(name=name, image="i", **changes)  # type: ignore[arg-type]


def instance(name: str, code: int | None, state: RunState | None = None) -> ObservedContainer:
    ended = None
    if code is not None:
        reason = "Completed" if code == 0 else "Error"
        ended = Exit(exit_code=code, finished_at=50, finished_mono=50, reason=reason)
    return ObservedContainer(
        id=ContainerID(f"id-{name}"),
        name=name,
        restart_count=0,
        state=state or (RunState.EXITED if ended else RunState.RUNNING),
        created_at=1,
        created_mono=1,
        started_at=2,
        started_mono=2,
        exit=ended,
        spec_hash="h",
    )


@dataclass
class Row:
    """One row: policy, containers by name to exit code (None running, a RunState), and what is expected."""

    number: int
    policy: str = "Always"
    apps: dict[int, object] = field(default_factory=lambda: {0: None, 1: None, 2: None})
    inits: dict[int, object] = field(default_factory=dict)
    kind: str = ""  # "", "init", "sidecar"
    sandbox: str = "ready"  # ready, dead, none, no-ip
    attempt: int = 0
    changed: str = ""
    probes: dict[str, ProbeOutcome] = field(default_factory=dict)  # "liveness app1"
    kill_pod: bool = False
    create: bool = False
    new_attempt: int = 0
    start: tuple[int, ...] = ()
    init: tuple[int, ...] = ()
    kill: tuple[str, ...] = ()


R, D = ProbeOutcome.SUCCESS, ProbeOutcome.FAILURE
NOT_RUN = ProbeOutcome.UNKNOWN
UNKNOWN, CREATED = RunState.UNKNOWN, RunState.CREATED
NONE: dict[int, object] = {}
ALL_UP: dict[int, object] = {0: None, 1: None, 2: None}
DONE: dict[int, object] = {0: 0, 1: 0, 2: 0}

ROWS = [
    Row(1),
    Row(2, apps=NONE, sandbox="none", kill_pod=True, create=True, start=(0, 1, 2)),
    Row(3, apps={0: 0, 1: 111, 2: None}, start=(0, 1)),
    Row(4, "OnFailure", apps={0: 0, 1: 111, 2: None}, start=(1,)),
    Row(5, "OnFailure", apps={0: 0, 1: CREATED, 2: None}, start=(1,)),
    Row(6, "Never", apps={0: 0, 1: 111, 2: None}),
    Row(7, sandbox="dead", kill_pod=True, create=True, new_attempt=1, start=(0, 1, 2)),
    Row(
        8,
        "OnFailure",
        apps={0: None, 1: 0, 2: None},
        sandbox="dead",
        kill_pod=True,
        create=True,
        new_attempt=1,
        start=(0, 2),
    ),
    Row(9, sandbox="no-ip", kill_pod=True, create=True, new_attempt=1, start=(0, 1, 2)),
    Row(10, changed="app1", kill=("app1",), start=(1,)),
    Row(11, probes={"liveness app1": D}, kill=("app1",), start=(1,)),
    Row(12, probes={"startup app1": D}, kill=("app1",), start=(1,)),
    Row(13, "Never", apps=DONE, sandbox="dead", attempt=1, kill_pod=True, new_attempt=2),
    Row(14, "OnFailure", apps=DONE, sandbox="dead", attempt=1, kill_pod=True, new_attempt=2),
    Row(15, "Never", apps=NONE, sandbox="dead", attempt=2, kill_pod=True, create=True, new_attempt=3, start=(0, 1, 2)),
    Row(16, "Never", apps={0: None, 1: UNKNOWN, 2: None}, kill=("app1",), start=(1,)),
    Row(17, "Never", apps={0: None, 1: CREATED, 2: None}, start=(1,)),
    Row(18, kind="init", inits=DONE, apps=NONE, start=(0, 1, 2)),
    Row(19, kind="init", apps=NONE, init=(0,)),
    Row(20, kind="init", inits={0: 0, 1: 0, 2: None}, apps=NONE),
    Row(21, kind="init", inits=DONE, apps=NONE, sandbox="dead", kill_pod=True, create=True, new_attempt=1, init=(0,)),
    Row(22, kind="init", inits={0: 0, 1: 0, 2: 137}, apps=NONE, init=(2,)),
    Row(23, "OnFailure", kind="init", inits={0: 0, 1: 0, 2: 137}, apps=NONE, init=(2,)),
    Row(24, "Never", kind="init", inits={0: 0, 1: 0, 2: 137}, apps=NONE, kill_pod=True),
    Row(25, kind="init", inits={0: 0, 1: 0, 2: UNKNOWN}, apps=NONE, kill=("init2",), init=(2,)),
    Row(26, "OnFailure", kind="init", inits={0: 0, 1: 0, 2: UNKNOWN}, apps=NONE, kill=("init2",), init=(2,)),
    Row(27, "Never", kind="init", inits={0: 0, 1: 0, 2: UNKNOWN}, apps=NONE, kill_pod=True),
    Row(28, "Never", kind="init", inits=DONE, apps=NONE, sandbox="dead", kill_pod=True, new_attempt=1),
    Row(29, "Never", kind="init", apps=NONE, sandbox="dead", kill_pod=True, create=True, new_attempt=1, init=(0,)),
    Row(
        30,
        "OnFailure",
        kind="init",
        inits={0: 0, 1: 0, 2: 137},
        apps=NONE,
        sandbox="dead",
        kill_pod=True,
        create=True,
        new_attempt=1,
        init=(0,),
    ),
    Row(31, kind="init", inits={2: None}, apps=NONE),
    Row(32, kind="init", inits={0: 0, 1: 0, 2: CREATED}, apps=NONE, init=(2,)),
    Row(33, kind="sidecar", inits=ALL_UP, apps=NONE, probes={f"startup init{i}": R for i in range(3)}, start=(0, 1, 2)),
    Row(34, kind="sidecar", apps=NONE, init=(0,)),
    Row(35, kind="sidecar", inits={0: None, 1: None, 2: CREATED}, apps=NONE, init=(2,)),
    Row(36, kind="sidecar", inits={0: None}, apps=NONE, init=(1,)),
    Row(37, kind="sidecar", inits={0: None, 1: None}, apps=NONE, init=(2,)),
    Row(
        38,
        kind="sidecar",
        inits={0: None, 1: None},
        apps=NONE,
        probes={"liveness init1": ProbeOutcome.UNKNOWN},
        init=(2,),
    ),
    Row(39, kind="sidecar", inits={0: None, 1: None}, apps=NONE, probes={"liveness init1": R}, init=(2,)),
    Row(
        40,
        kind="sidecar",
        inits=ALL_UP,
        apps=NONE,
        probes={"liveness init2": D},
        kill=("init2",),
        init=(2,),
        start=(0, 1, 2),
    ),
    Row(
        41,
        kind="sidecar",
        inits={0: None, 1: None},
        apps=NONE,
        probes={"startup init0": R, "startup init1": ProbeOutcome.UNKNOWN},
    ),
    Row(42, kind="sidecar", inits={0: None, 1: None}, apps=NONE, probes={"startup init1": NOT_RUN}),
    Row(
        43,
        kind="sidecar",
        inits={0: None, 1: None},
        apps=NONE,
        probes={"startup init0": R, "startup init1": R},
        init=(2,),
    ),
    Row(
        44,
        kind="sidecar",
        inits=ALL_UP,
        apps=NONE,
        probes={"startup init0": R, "startup init1": R, "startup init2": D},
        kill=("init2",),
        init=(2,),
    ),
    Row(
        45,
        kind="sidecar",
        inits=ALL_UP,
        apps=NONE,
        changed="init2",
        kill=("init2",),
        init=(2,),
        start=(0, 1, 2),
    ),
    Row(46, kind="sidecar", inits={0: 0, 1: None, 2: 0}, apps=NONE, init=(0, 2)),
    Row(47, kind="sidecar", inits={0: 0, 1: None, 2: None}, apps=NONE, init=(0,), start=(0, 1, 2)),
    Row(
        48,
        "Never",
        kind="sidecar",
        inits={0: None, 1: None, 2: 137},
        apps=NONE,
        sandbox="dead",
        kill_pod=True,
        new_attempt=1,
    ),
    Row(49, "Never", kind="sidecar", apps=NONE, sandbox="dead", kill_pod=True, create=True, new_attempt=1, init=(0,)),
    Row(
        50,
        "OnFailure",
        kind="sidecar",
        inits={0: None, 1: None, 2: 137},
        apps=NONE,
        sandbox="dead",
        kill_pod=True,
        create=True,
        new_attempt=1,
        init=(0,),
    ),
    Row(
        51,
        kind="sidecar",
        inits={0: None, 1: None, 2: 137},
        apps=NONE,
        sandbox="dead",
        kill_pod=True,
        create=True,
        new_attempt=1,
        init=(0,),
    ),
    Row(52, "Never", kind="sidecar", inits={0: None, 1: None, 2: 137}, apps=NONE, init=(2,)),
    Row(53, "Never", kind="sidecar", inits={0: None, 1: None, 2: UNKNOWN}, apps=NONE, kill=("init2",), init=(2,)),
    Row(54, "Never", kind="sidecar", inits={0: None, 1: None, 2: 137}, apps=ALL_UP, init=(2,)),
    Row(55, "Never", kind="sidecar", inits=ALL_UP, apps=DONE, kill_pod=True),
    Row(56, kind="sidecar", inits={2: None}, apps=NONE, init=(0, 1), start=(0, 1, 2)),
]


def build(row: Row) -> tuple[Pod, ObservedPod]:
    def probes_of(name: str) -> dict[str, Probe]:
        return {f"{kind}_probe": PROBE for kind in ("liveness", "startup") if f"{kind} {name}" in row.probes}

    policy = {"restart_policy": "Always"} if row.kind == "sidecar" else {}
    pod = Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="p", namespace="n", uid="u"),
        spec=PodSpec(
            restart_policy=row.policy,
            containers=[container(f"app{i}", **probes_of(f"app{i}")) for i in range(3)],
            init_containers=[container(f"init{i}", **policy, **probes_of(f"init{i}")) for i in range(3)]
            if row.kind
            else None,
        ),
    )
    found: dict[str, tuple[ObservedContainer, ...]] = {}
    for prefix, states in (("app", row.apps), ("init", row.inits)):
        for index, state in states.items():
            name = f"{prefix}{index}"
            known = state if isinstance(state, RunState) else None
            found[name] = (instance(name, state if isinstance(state, int) else None, known),)
    sandboxes = ()
    if row.sandbox != "none":
        sandboxes = (
            ObservedSandbox(
                id="s",
                attempt=row.attempt,
                created_at=1,
                ready=row.sandbox != "dead",
                ips=() if row.sandbox == "no-ip" else ("10.0.0.1",),
            ),
        )
    outcomes: dict[str, dict[ContainerID, ProbeOutcome]] = {"liveness": {}, "startup": {}}
    for key, outcome in row.probes.items():
        kind, name = key.split()
        outcomes[kind][ContainerID(f"id-{name}")] = outcome
    hashes = {row.changed: "other"} if row.changed else {}
    return pod, ObservedPod(uid=PodUID("u"), sandboxes=sandboxes, containers=found, wanted_hashes=hashes, **outcomes)


def rows(table: str, found: list[Row]) -> list[ParameterSet]:
    """Return rows as parameters that carry their ids."""
    ids = [f"{table}-{row.number}" for row in found]
    return [pytest.param(row, id=one, marks=pytest.mark.conformance(one)) for row, one in zip(found, ids, strict=True)]


@pytest.mark.parametrize("row", rows("U-CPA", ROWS))
def test_compute_actions(row: Row) -> None:
    pod, seen = build(row)
    plan = compute_actions(pod, seen, now=1000)
    started = [one.name for one in plan.actions if isinstance(one, plans.StartContainer)]
    creates = [one for one in plan.actions if isinstance(one, plans.CreateSandbox)]
    assert any(isinstance(one, plans.KillPod) for one in plan.actions) is row.kill_pod
    assert bool(creates) is row.create
    if creates:
        assert creates[0].attempt == row.new_attempt
    assert started == [f"init{i}" for i in row.init] + [f"app{i}" for i in row.start]
    assert [one.name for one in plan.actions if isinstance(one, plans.KillContainer)] == list(row.kill)


def kill_messages(row: Row) -> dict[str, str]:
    plan = compute_actions(*build(row), now=1000)
    return {one.name: one.message for one in plan.actions if isinstance(one, plans.KillContainer)}


def test_texts_of_kills() -> None:
    unknown = 'is in "unknown" state, try killing it before restart'
    assert kill_messages(Row(0, apps={0: RunState.UNKNOWN, 1: None, 2: None})) == {"app0": f"Container {unknown}"}
    lost_init = Row(0, kind="init", inits={0: 0, 1: 0, 2: RunState.UNKNOWN}, apps={})
    assert kill_messages(lost_init) == {"init2": f"Init container {unknown}"}
    for kind in ("liveness", "startup"):
        failed, text = {f"{kind} app0": D}, f"Container app0 failed {kind} probe"
        assert kill_messages(Row(0, probes=failed)) == {"app0": f"{text}, will be restarted"}
        assert kill_messages(Row(0, "Never", probes=failed)) == {"app0": text}
        sidecar = Row(0, kind="sidecar", inits=ALL_UP, apps={}, probes={f"{kind} init2": D})
        assert kill_messages(sidecar) == {"init2": f"Init container init2 failed {kind} probe"}
    # As the kubelet has it: a sidecar's text does not say that it comes back.
    changed = Row(0, kind="sidecar", inits=ALL_UP, apps={}, changed="init2")
    assert kill_messages(changed) == {"init2": "Init container init2 definition changed"}
    both = Row(0, kind="sidecar", inits=ALL_UP, apps={}, changed="init2", probes={"startup init2": D})
    assert kill_messages(both) == {"init2": "Init container init2 failed startup probe"}


def test_plan_waits_for_the_back_off_and_then_acts() -> None:
    pod, seen = build(Row(0, apps={0: 1, 1: None, 2: None}))
    seen = replace(seen, back_off={"app0": BackOff(delay=10, updated_mono=49)})
    plan = compute_actions(pod, seen, now=55)
    assert plan.actions == ()
    assert plan.wake_at == 60
    assert plan.waiting[0].message == "back-off 10s restarting failed container=app0 pod=p_n(u)"
    after = compute_actions(pod, seen, now=60)
    assert [one.name for one in after.actions if isinstance(one, plans.StartContainer)] == ["app0"]


def exits_with(rule_codes: list[int], action: str) -> list[ContainerRestartRule]:
    return [
        ContainerRestartRule(
            action=action, exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=rule_codes)
        )
    ]


def test_the_trigger_of_a_restart_in_place_is_removed_last() -> None:
    pod, seen = build(Row(0, "Never", kind="sidecar", inits=ALL_UP, apps={0: 42, 1: None, 2: 0}))
    rules = exits_with([42], "RestartAllContainers")
    trigger = msgspec.structs.replace(pod.spec.containers[0], restart_policy="Never", restart_policy_rules=rules)
    spec = msgspec.structs.replace(pod.spec, containers=[trigger, *pod.spec.containers[1:]])
    plan = compute_actions(msgspec.structs.replace(pod, spec=spec), seen, now=7)
    kills = [one for one in plan.actions if isinstance(one, plans.KillContainer)]
    removals = [one.name for one in plan.actions if isinstance(one, plans.RemoveContainer)]
    assert {one.name for one in kills} == {"init0", "init1", "init2", "app1"}
    assert all(one.grace_s == 0 and not one.run_pre_stop for one in kills)
    assert removals == ["init0", "init1", "init2", "app1", "app2", "app0"]
    assert plan.actions == (*kills, *[one for one in plan.actions if isinstance(one, plans.RemoveContainer)])
    assert plan.wake_at == 7


def test_a_pod_that_restarts_in_place_again_and_again_waits() -> None:
    """Everything is ended at once; what began it is forgotten, and all begins anew, when its back-off is over."""
    pod, seen = build(Row(0, "Never", apps={0: 42, 1: None, 2: 0}))
    rules = exits_with([42], "RestartAllContainers")
    trigger = msgspec.structs.replace(pod.spec.containers[0], restart_policy="Never", restart_policy_rules=rules)
    spec = msgspec.structs.replace(pod.spec, containers=[trigger, *pod.spec.containers[1:]])
    pod = msgspec.structs.replace(pod, spec=spec)
    removals = [one for one in compute_actions(pod, seen, now=50).actions if isinstance(one, plans.RemoveContainer)]
    assert [one.back_off for one in removals] == [None, None, BackOff(delay=10, updated_mono=50)]
    seen = replace(seen, back_off={"app0": BackOff(delay=20, updated_mono=45)})
    plan = compute_actions(pod, seen, now=69)  # its exit came at 50
    assert [one.name for one in plan.actions if isinstance(one, plans.KillContainer)] == ["app1"]
    assert [one.name for one in plan.actions if isinstance(one, plans.RemoveContainer)] == ["app1", "app2"]
    assert (plan.waiting[0].name, plan.wake_at) == ("app0", 70)
    assert plan.waiting[0].message.startswith("back-off 20s restarting failed container=app0")
    left = replace(seen, containers={"app0": seen.containers["app0"]})
    assert compute_actions(pod, left, now=69.9).actions == ()
    (removal,) = compute_actions(pod, left, now=70).actions
    assert isinstance(removal, plans.RemoveContainer)
    assert (removal.name, removal.back_off) == ("app0", BackOff(delay=40, updated_mono=70))


def test_another_exit_of_a_rule_holder_restarts_nothing_else() -> None:
    pod, seen = build(Row(0, "Never", apps={0: 1, 1: None, 2: None}))
    rules = exits_with([42], "RestartAllContainers")
    holder = msgspec.structs.replace(pod.spec.containers[0], restart_policy="Never", restart_policy_rules=rules)
    spec = msgspec.structs.replace(pod.spec, containers=[holder, *pod.spec.containers[1:]])
    assert compute_actions(msgspec.structs.replace(pod, spec=spec), seen, now=7).actions == ()


def test_a_container_that_an_edit_took_out_is_ended() -> None:
    pod, seen = build(Row(0))
    spec = msgspec.structs.replace(pod.spec, containers=pod.spec.containers[:2])
    plan = compute_actions(msgspec.structs.replace(pod, spec=spec), seen, now=7)
    assert [(one.name, type(one)) for one in plan.actions] == [("app2", plans.KillContainer)]


def test_an_instance_that_is_not_known_leaves_its_count_to_the_logs() -> None:
    pod, seen = build(Row(0, apps={0: None, 1: 1}))
    plan = compute_actions(pod, seen, now=1000)
    counts = {one.name: one.restart_count for one in plan.actions if isinstance(one, plans.StartContainer)}
    assert counts == {"app1": 1, "app2": None}
