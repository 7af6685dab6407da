# ruff: noqa: E501  # sentences as they are printed
"""`why`, by table: what is recorded about a pod, and the words for it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from minikubelet.cli.diagnosis import explain, explain_refused
from minikubelet.cli.facts import Facts, Verdict

NOW = 1_800_000_000.0


def at(offset: float) -> str:
    return datetime.fromtimestamp(NOW + offset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(*, spec=None, status=None, meta=None):
    """A pod of one container `main` on the node `n1`."""
    return {
        "metadata": {"name": "web-n1", "namespace": "default", "uid": "u1", **(meta or {})},
        "spec": {
            "nodeName": "n1",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "main"}],
            **(spec or {}),
        },
        "status": {"phase": "Running", **(status or {})},
    }


def running(*, ready=True, started=True, restarts=0, last=None, since=-60.0, name="main"):
    one = {
        "name": name,
        "state": {"running": {"startedAt": at(since)}},
        "ready": ready,
        "started": started,
        "restartCount": restarts,
        "containerID": "minikubelet://c1",
    }
    return {**one, "lastState": {"terminated": last}} if last else one


def waiting(reason, message="", *, restarts=0, last=None, name="main"):
    one = {
        "name": name,
        "state": {"waiting": {"reason": reason, "message": message}},
        "ready": False,
        "started": False,
        "restartCount": restarts,
    }
    return {**one, "lastState": {"terminated": last}, "containerID": "minikubelet://c1"} if last else one


def ended(code, reason="Error", *, message="", start=-30.0, end=-2.0):
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": at(start),
        "finishedAt": at(end),
        "containerID": "minikubelet://c1",
    }


def terminated(code, reason="Error", *, message="", name="main"):
    return {"name": name, "state": {"terminated": ended(code, reason, message=message)}, "restartCount": 0}


def event(reason, message, *, container="main", kind="Warning", count=1, last=-1.0, first=-10.0, init=False):
    group = "initContainers" if init else "containers"
    return {
        "type": kind,
        "reason": reason,
        "message": message,
        "count": count,
        "firstTimestamp": at(first),
        "lastTimestamp": at(last),
        "involvedObject": {"kind": "Pod", "fieldPath": f"spec.{group}{{{container}}}" if container else ""},
    }


READY = [
    {"type": "Initialized", "status": "True"},
    {"type": "Ready", "status": "True", "lastTransitionTime": at(-60)},
]
INITIALIZED = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]
BACK_OFF = "back-off 20s restarting failed container=main pod=web-n1_default(u1)"
HTTP = {"httpGet": {"path": "/ok", "port": 80, "scheme": "HTTP"}, "periodSeconds": 5, "failureThreshold": 4}

CASES = {
    "healthy": (
        Facts(pod(status={"conditions": READY, "containerStatuses": [running()]})),
        "web-n1 is well: 1 of 1 containers ready, for 60s, without a restart.",
    ),
    "ready, but just restarted": (
        Facts(pod(status={"conditions": READY, "containerStatuses": [running(restarts=2, last=ended(3, end=-5))]})),
        "web-n1 is ready, but has restarted lately: 1 of 1 containers ready, for 60s. Container main was restarted 5s ago "
        "(restart 2), as it ended with exit code 3.",
    ),
    "healthy after a restart": (
        Facts(pod(status={"conditions": READY, "containerStatuses": [running(restarts=2, last=ended(3, end=-70))]})),
        "web-n1 is well: 1 of 1 containers ready, for 60s. Container main was restarted 70s ago (restart 2), as it "
        "ended with exit code 3.",
    ),
    "healthy with a fresh warning": (
        Facts(
            pod(status={"conditions": READY, "containerStatuses": [running()]}),
            [event("Unhealthy", "Readiness probe failed: timeout")],
        ),
        "without a restart. The last warning came 1s ago: Readiness probe failed: timeout.",
    ),
    "crash loop": (
        Facts(
            pod(
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [
                        waiting("CrashLoopBackOff", BACK_OFF, restarts=2, last=ended(3, message="a\nno such table\n"))
                    ],
                }
            )
        ),
        "web-n1 is not well: its container main keeps ending (3 times so far): after 28s it ended with exit code 3, and "
        "said \"no such table\". The next start comes in 18s (back-off 20s after the exit). 'minikubelet logs web' shows "
        "what it printed.",
    ),
    "crash loop of minutes": (
        Facts(
            pod(
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [
                        waiting(
                            "CrashLoopBackOff",
                            BACK_OFF.replace("20s", "2m40s"),
                            restarts=5,
                            last=ended(1, start=-60, end=-60),
                        )
                    ],
                }
            )
        ),
        "within a second it ended with exit code 1. The next start comes in 100s (back-off 2m40s after the exit).",
    ),
    "out of memory": (
        Facts(
            pod(
                spec={"containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}]},
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [waiting("CrashLoopBackOff", BACK_OFF, last=ended(137, "OOMKilled"))],
                },
            ),
            instances=[{"id": "c1", "exit": {"memoryPeakBytes": 64 << 20}}],
        ),
        "was killed by the kernel for want of memory (its limit is 64Mi, it had used up to 64Mi).",
    ),
    "killed by a signal": (
        Facts(
            pod(
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [waiting("CrashLoopBackOff", BACK_OFF, last=ended(139))],
                }
            )
        ),
        "ended with exit code 139 (killed by SIGSEGV, a bad memory access).",
    ),
    "command not found by a shell": (
        Facts(
            pod(
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [waiting("CrashLoopBackOff", BACK_OFF, last=ended(127))],
                }
            )
        ),
        "ended with exit code 127 (a shell did not find the command).",
    ),
    "command that does not exist": (
        Facts(
            pod(
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [
                        waiting(
                            "CrashLoopBackOff",
                            BACK_OFF,
                            last=ended(128, "StartError", message='exec: "nope": executable file not found in $PATH'),
                        )
                    ],
                }
            )
        ),
        'could not be started: exec: "nope": executable file not found in $PATH. Name the program by its path, or '
        "install it.",
    ),
    "liveness probe restarts it": (
        Facts(
            pod(
                spec={"containers": [{"name": "main", "livenessProbe": HTTP}]},
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [waiting("CrashLoopBackOff", BACK_OFF, restarts=3, last=ended(143))],
                },
            ),
            [
                event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", count=12),
                event("Killing", "Container main failed liveness probe, will be restarted", kind="Normal"),
            ],
        ),
        "ended with exit code 143 (killed by SIGTERM), ended by the node because its liveness probe (GET http://:80/ok "
        "every 5s) failed: HTTP probe failed with statuscode: 500.",
    ),
    "not ready": (
        Facts(
            pod(
                spec={"containers": [{"name": "main", "readinessProbe": HTTP}]},
                status={"conditions": INITIALIZED, "containerStatuses": [running(ready=False)]},
            ),
            [event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", count=7)],
        ),
        "web-n1 is not well: its container main runs but is not ready: its readiness probe (GET http://:80/ok every 5s) "
        "failed 7 times, last 1s ago: HTTP probe failed with statuscode: 503.",
    ),
    "not ready before the first probe": (
        Facts(
            pod(
                spec={
                    "containers": [
                        {"name": "main", "readinessProbe": {"tcpSocket": {"port": 6379}, "initialDelaySeconds": 20}}
                    ]
                },
                status={"conditions": INITIALIZED, "containerStatuses": [running(ready=False)]},
            )
        ),
        "its readiness probe (TCP connection to port 6379 every 10s) has not succeeded yet, the first run comes 20s "
        "after the start.",
    ),
    "not ready, as the daemon recorded it": (
        Facts(
            pod(
                spec={"containers": [{"name": "main", "readinessProbe": HTTP}]},
                status={"conditions": INITIALIZED, "containerStatuses": [running(ready=False)]},
            ),
            probes=[
                {"container": "main", "kind": "readiness", "result": "failure", "output": "refused", "time": at(-2)}
            ],
        ),
        "its readiness probe (GET http://:80/ok every 5s) failed 2s ago: refused.",
    ),
    "nearly ready": (
        Facts(
            pod(
                spec={"containers": [{"name": "main", "readinessProbe": {**HTTP, "successThreshold": 3}}]},
                status={"conditions": INITIALIZED, "containerStatuses": [running(ready=False)]},
            ),
            probes=[{"container": "main", "kind": "readiness", "result": "success", "time": at(-2)}],
        ),
        "succeeded 2s ago, and counts after 3 successes in a row.",
    ),
    "starting": (
        Facts(
            pod(
                spec={
                    "containers": [
                        {"name": "main", "startupProbe": {**HTTP, "exec": {"command": ["test", "-f", "/x"]}}}
                    ]
                }
                | {},
                status={"conditions": INITIALIZED, "containerStatuses": [running(ready=False, started=False)]},
            ),
            [event("Unhealthy", "Startup probe failed: ", count=2)],
        ),
        "runs but has not started yet: its startup probe",
    ),
    "readiness gate": (
        Facts(
            pod(
                status={
                    "conditions": [
                        {"type": "Initialized", "status": "True"},
                        {
                            "type": "Ready",
                            "status": "False",
                            "reason": "ReadinessGatesNotReady",
                            "message": 'corresponding condition of pod readiness gate "x/y" does not exist.',
                        },
                    ],
                    "containerStatuses": [running()],
                }
            )
        ),
        'a readiness gate is not: corresponding condition of pod readiness gate "x/y" does not exist.',
    ),
    "missing config map": (
        Facts(
            pod(
                status={
                    "phase": "Pending",
                    "conditions": INITIALIZED,
                    "containerStatuses": [waiting("CreateContainerConfigError", 'configmap "settings" not found')],
                }
            )
        ),
        'its container main waits, as its configuration cannot be resolved: configmap "settings" not found '
        "(CreateContainerConfigError). Put a ConfigMap named settings into a file of the manifest directory. It is tried "
        "again until it works.",
    ),
    "volume that cannot be set up": (
        Facts(
            pod(status={"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}),
            [
                event(
                    "FailedMount",
                    'MountVolume.SetUp failed for volume "v" : hostPath type check failed: /srv is not a directory',
                    container="",
                    count=3,
                )
            ],
        ),
        'web-n1 waits, as its volumes cannot be set up: MountVolume.SetUp failed for volume "v" : hostPath type check '
        "failed: /srv is not a directory (3 times, last 1s ago). Make that path on the machine, or change the volume's "
        "type. It is tried again until it works.",
    ),
    "being set up": (
        Facts(pod(status={"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]})),
        "web-n1 is being set up: its volumes, namespaces and network come before its first container.",
    ),
    "init container runs": (
        Facts(
            pod(
                spec={"initContainers": [{"name": "one"}, {"name": "two"}]},
                status={
                    "phase": "Pending",
                    "conditions": [{"type": "Initialized", "status": "False"}],
                    "initContainerStatuses": [
                        {**terminated(0, "Completed", name="one"), "containerID": "minikubelet://c0"},
                        running(ready=False, name="two", since=-5),
                    ],
                    "containerStatuses": [waiting("PodInitializing")],
                },
            )
        ),
        "web-n1 is still initializing: its init container two (2 of 2) has been running for 5s; what is behind it waits "
        "for its exit code 0.",
    ),
    "init container crashes": (
        Facts(
            pod(
                spec={"initContainers": [{"name": "one"}]},
                status={
                    "phase": "Pending",
                    "conditions": [{"type": "Initialized", "status": "False"}],
                    "initContainerStatuses": [
                        waiting("CrashLoopBackOff", BACK_OFF, restarts=1, last=ended(1), name="one")
                    ],
                    "containerStatuses": [waiting("PodInitializing")],
                },
            )
        ),
        "its init container one (1 of 1) keeps ending (2 times so far): after 28s it ended with exit code 1. The next "
        "start comes in 18s (back-off 20s after the exit). 'minikubelet logs web -c one' shows what it printed.",
    ),
    "no command": (
        Facts(
            pod(
                status={
                    "phase": "Pending",
                    "conditions": INITIALIZED,
                    "containerStatuses": [
                        waiting("CreateContainerError", "failed to generate container spec: no command specified")
                    ],
                }
            )
        ),
        "(CreateContainerError). Give the container a command: every image's name stands for this machine's own root. "
        "It is tried again until it works.",
    ),
    "terminating": (
        Facts(
            pod(
                meta={"deletionTimestamp": at(25), "deletionGracePeriodSeconds": 30},
                status={"conditions": READY, "containerStatuses": [running()]},
            )
        ),
        "web-n1 is being ended since 5s, as its manifest was removed or changed. It waits for main, which was asked to "
        "stop with SIGTERM; what is still there in 25s is killed (grace period 30s). A program that is process 1 of its "
        "container ends at SIGTERM only if it handles it.",
    ),
    "terminating with a hook": (
        Facts(
            pod(
                meta={"deletionTimestamp": at(25), "deletionGracePeriodSeconds": 30},
                spec={"containers": [{"name": "main", "lifecycle": {"preStop": {"sleep": {"seconds": 9}}}}]},
                status={"conditions": READY, "containerStatuses": [running()]},
            )
        ),
        "which was asked to stop (the preStop hook of main runs first)",
    ),
    "terminating, and its new manifest is refused": (
        Facts(
            pod(
                meta={"deletionTimestamp": at(25), "deletionGracePeriodSeconds": 30},
                status={"conditions": READY, "containerStatuses": [running()]},
            ),
            verdict=Verdict("/m/web.yaml", "/m/web.yaml: refused\n/m/web.yaml:3:1: error: bad indentation\n"),
        ),
        "Nothing starts in its place until its manifest is mended: the file /m/web.yaml as it is now is refused at "
        "line 3: bad indentation.",
    ),
    "terminating, and the newest version of its manifest is refused": (
        Facts(
            pod(
                meta={"deletionTimestamp": at(25), "deletionGracePeriodSeconds": 30},
                status={"conditions": READY, "containerStatuses": [running()]},
            ),
            verdict=Verdict(
                "/m/web.yaml",
                "/m/web.yaml: refused\n/m/web.yaml:7:5: error: spec.containers[0].image: Required value\n"
                "the last good version of this file, of 2026-01-01T00:00:00Z, goes on running: default/web-n1 (uid u2)\n",
            ),
        ),
        "What starts in its place is the last good version of 2026-01-01T00:00:00Z: the file /m/web.yaml as it is now "
        "is refused at line 7: spec.containers[0].image: Required value.",
    ),
    "a misspelt field that is only warned of": (
        Facts(
            pod(status={"conditions": READY, "containerStatuses": [running()]}),
            verdict=Verdict(
                "/m/web.yaml",
                "/m/web.yaml: accepted with warnings\n"
                '/m/web.yaml:7:5: warning: spec.containers[0].comand: unknown field, ignored: did you mean "command"?\n'
                '/m/web.yaml:9:5: warning: spec.containers[0].prots: unknown field, ignored: did you mean "ports"?\n',
            ),
        ),
        "Its manifest /m/web.yaml has a warning at line 7: spec.containers[0].comand: unknown field, ignored: did you "
        "mean \"command\"? 'minikubelet validate /m/web.yaml' shows 1 more of that kind.",
    ),
    "terminated but not gone": (
        Facts(
            pod(
                meta={"deletionTimestamp": at(25), "deletionGracePeriodSeconds": 30},
                status={"conditions": READY, "containerStatuses": [terminated(0, "Completed")]},
            )
        ),
        "Its containers have ended; its volumes and network are being removed.",
    ),
    "rejected": (
        Facts(
            pod(
                status={
                    "phase": "Failed",
                    "reason": "NodePorts",
                    "message": "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports",
                }
            )
        ),
        "web-n1 was rejected before anything ran: Predicate NodePorts failed: node(s) didn't have free ports (NodePorts). "
        "It is not tried again until its manifest changes or the daemon restarts.",
    ),
    "deadline": (
        Facts(
            pod(
                status={
                    "phase": "Failed",
                    "reason": "DeadlineExceeded",
                    "message": "Pod was active on the node longer than the specified deadline",
                }
            )
        ),
        "web-n1 was ended by the node (DeadlineExceeded): Pod was active on the node longer than the specified deadline.",
    ),
    "succeeded": (
        Facts(
            pod(
                spec={"restartPolicy": "Never"},
                status={"phase": "Succeeded", "containerStatuses": [terminated(0, "Completed")]},
            )
        ),
        "web-n1 has done its work: its container has ended with exit code 0, 2s ago, and its restart policy Never starts "
        "nothing again.",
    ),
    "failed": (
        Facts(
            pod(
                spec={"restartPolicy": "Never"},
                status={"phase": "Failed", "containerStatuses": [terminated(7, message="disk full\n")]},
            )
        ),
        'web-n1 has failed. Its container main ended with exit code 7, and said "disk full". With the restart policy '
        "Never it is not started again.",
    ),
    "bad edit": (
        Facts(
            pod(status={"conditions": READY, "containerStatuses": [running()]}),
            verdict=Verdict(
                "/m/web.yaml",
                "/m/web.yaml: refused\n/m/web.yaml:7:5: error: spec.containers[0].image: Required value\n"
                "/m/web.yaml:9:5: error: another\n"
                "the last good version of this file, of 2026-01-01T00:00:00Z, goes on running:\n"
                "pod default/web-n1 (uid u1)\n",
            ),
        ),
        "What runs is the last good version of 2026-01-01T00:00:00Z: the file /m/web.yaml as it is now is refused at "
        "line 7: spec.containers[0].image: Required value, and 1 more.",
    ),
    "two containers in trouble": (
        Facts(
            pod(
                spec={"containers": [{"name": "main"}, {"name": "side", "readinessProbe": HTTP}]},
                status={
                    "conditions": INITIALIZED,
                    "containerStatuses": [
                        waiting("CrashLoopBackOff", BACK_OFF, last=ended(1)),
                        running(ready=False, name="side"),
                    ],
                },
            )
        ),
        "'minikubelet logs web -c main' shows what it printed. Also, its container side runs but is not ready: its "
        "readiness probe (GET http://:80/ok every 5s) has not succeeded yet.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_why(name):
    facts, words = CASES[name]
    text = explain(facts, NOW)
    assert words in text
    assert "\n" not in text
    assert ".." not in text.replace("...", "")
    assert text.endswith(".")


def test_why_of_a_pod_that_is_not_there():
    verdict = Verdict("/m/web.yaml", "/m/web.yaml: refused\n/m/web.yaml:3:1: error: bad indentation\n")
    assert explain_refused("web", [verdict]) == (
        "There is no pod web: its manifest /m/web.yaml is refused at line 3: bad indentation. Mend the file and it "
        "starts at once."
    )
