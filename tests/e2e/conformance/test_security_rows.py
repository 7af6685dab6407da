"""SEC and KUBE: who a container is, what it may do, and what a hostile one achieves. All pods run side by side."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]


def pod(name: str, script: str, *, container: Json | None = None, **spec: Any) -> str:
    """Return a Pod that runs a script once; all that it says goes one way, for nothing orders two."""
    command = ["bash", "-c", f"exec 2>&1; {script}"]
    main = {"name": "main", "image": "host", "command": command, **(container or {})}
    whole = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole})


def secured(name: str, script: str, context: Json, **spec: Any) -> str:
    return pod(name, script, container={"securityContext": context}, **spec)


SETUID = {
    "initContainers": [
        {
            "name": "make",
            "image": "host",
            "command": ["sh", "-c", "cp /usr/bin/id /v/id && chmod 4755 /v/id"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


def setuid(name: str, allow: bool) -> str:
    context = {"runAsUser": 1000, "allowPrivilegeEscalation": allow}
    container = {"securityContext": context, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    return pod(name, "/v/id; grep NoNewPrivs /proc/self/status", container=container, **SETUID)


LINK = "ip link add dummy0 type bridge"  # some kernels have no dummy links
SYS = "[ -w /sys/class/net/lo/ifalias ] && echo writable || echo read-only"
SLEEPER = {"name": "other", "image": "host", "command": ["sleep", "inf"]}
PROJECTED: Json = {
    "volumes": [
        {"name": "down", "downwardAPI": {"items": [{"path": "f", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "map", "configMap": {"name": "sec-map"}},
        {"name": "secret", "secret": {"secretName": "sec-secret"}},
        {"name": "all", "projected": {"sources": [{"configMap": {"name": "sec-map"}}]}},
        {"name": "disk", "emptyDir": {}},
    ]
}
MOUNTS = [{"name": one["name"], "mountPath": f"/v/{one['name']}"} for one in PROJECTED["volumes"]]
OBJECTS = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: sec-map}
data: {f: x}
---
apiVersion: v1
kind: Secret
metadata: {name: sec-secret}
stringData: {f: do-not-find-me}
"""
FILES = "for v in down map secret all; do stat -Lc %g /v/$v/f; done; touch /v/disk/made; stat -c %u:%g /v/disk/made"
FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {
            "names": ["kill"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}],
        },
    ],
}
ESCAPE = """
import os
os.mkdir("/jail"); os.chroot("/jail")
for _ in range(64): os.chdir("..")
os.chroot(".")
print(sorted(os.listdir("/"))[:40]); print(os.path.exists(os.environ["STATE"] + "/pods"))
"""

PODS = {
    "objects": OBJECTS,
    "userns": pod(
        "userns",
        f"cat /proc/self/uid_map; cat /proc/self/gid_map; {FILES}; mount -t tmpfs x /mnt; python3 -c 'import socket;"
        'socket.create_server(("", 80)); print("bound")\'',
        container={"volumeMounts": MOUNTS},
        hostUsers=False,
        **PROJECTED,
    ),
    "userns2": pod("userns2", "cat /proc/self/uid_map; sleep inf", hostUsers=False),
    "userns-group": pod(
        "userns-group",
        FILES,
        container={"volumeMounts": MOUNTS},
        hostUsers=False,
        securityContext={"fsGroup": 200},
        **PROJECTED,
    ),
    "userns-user": secured("userns-user", "id -u; id -g", {"runAsUser": 1000, "runAsGroup": 7}, hostUsers=False),
    "userns-bogus": pod("userns-bogus", "", container={"command": ["bogus"]}, hostUsers=False),
    "hostusers": pod("hostusers", "cat /proc/self/uid_map", hostUsers=True),
    "uid65534": secured("uid65534", "test $(id -u) -eq 65534", {"runAsUser": 65534}),
    "uid0": secured("uid0", "test $(id -u) -eq 0", {"runAsUser": 0}),
    "nonroot": secured("nonroot", "id -u", {"runAsNonRoot": True, "runAsUser": 1000}),
    "nonroot0": secured("nonroot0", "id -u", {"runAsNonRoot": True, "runAsUser": 0}),
    "nonroot-image": secured("nonroot-image", "id -u", {"runAsNonRoot": True}),
    "groups": secured(
        "groups",
        "id -g; id -G",
        {"runAsUser": 12345, "runAsGroup": 3000},
        securityContext={"supplementalGroups": [4000], "fsGroup": 5000, "runAsUser": 1},
    ),
    "ro": secured("ro", "touch checkfile", {"readOnlyRootFilesystem": True}),
    "ro-cwd": pod(
        "ro-cwd",
        "pwd; touch checkfile",
        container={"workingDir": "/made/for/it", "securityContext": {"readOnlyRootFilesystem": True}},
    ),
    "sys": pod(
        "sys",
        SYS,
        containers=[
            {"name": "main", "image": "host", "command": ["sh", "-c", SYS]},
            {
                "name": "privileged",
                "image": "host",
                "command": ["sh", "-c", SYS],
                "securityContext": {"privileged": True},
            },
            {"name": "plain-again", "image": "host", "command": ["sh", "-c", SYS]},
        ],
    ),
    "rw": secured("rw", "touch checkfile", {"readOnlyRootFilesystem": False}),
    "plain": secured("plain", LINK, {"privileged": False}),
    "privileged": secured(
        "privileged",
        f"{LINK}; ls /dev | wc -l; grep CapEff /proc/self/status; [ -w /sys/fs/cgroup ] && mkdir /sys/fs/cgroup/x; "
        "mount -t tmpfs x /mnt && echo mounted",
        {"privileged": True},
    ),
    "no-escalation": setuid("no-escalation", False),
    "escalation": setuid("escalation", True),
    "siblings": pod(
        "siblings",
        "sleep inf",
        container={"securityContext": {"privileged": True}, "command": ["sh", "-c", f"{LINK} && echo made; sleep inf"]},
    ).replace('"containers": [', '"containers": [' + json.dumps({**SLEEPER, "command": ["sh", "-c", LINK]}) + ", "),
    "caps": secured(
        "caps",
        "grep CapEff /proc/self/status",
        {"capabilities": {"add": ["ALL", "CAP_NET_ADMIN"], "drop": ["all", "chown"]}},
    ),
    "sysctl": pod(
        "sysctl",
        "cat /proc/sys/kernel/shm_rmid_forced; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        securityContext={
            "sysctls": [
                {"name": "kernel.shm_rmid_forced", "value": "1"},
                {"name": "net/ipv4/ip_unprivileged_port_start", "value": "81"},
            ]
        },
    ),
    "sysctl-names": pod(
        "sysctl-names",
        "true",
        securityContext={
            "sysctls": [
                {"name": name, "value": "0"}
                for name in ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..", "kernel.shm_rmid_forced")
            ]
        },
    ),
    "sysctl-unsafe": pod(
        "sysctl-unsafe", "true", securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "10000000000"}]}
    ),
    "default-filter": secured(
        "default-filter",
        "unshare -r true; mount -t tmpfs x /mnt; keyctl show || python3 -c 'import ctypes; "
        "print(ctypes.CDLL(None, use_errno=True).syscall(250, 0, 0, 0, 0, 0), ctypes.get_errno())'; echo fine",
        {"seccompProfile": {"type": "RuntimeDefault"}},
    ),
    "admin-filter": secured(
        "admin-filter",
        "mount -t tmpfs x /mnt && echo mounted; grep Seccomp: /proc/self/status",
        {"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"add": ["SYS_ADMIN"]}},
    ),
    "user-filter": secured(
        "user-filter",
        "grep -e Seccomp: -e NoNewPrivs /proc/self/status; unshare -r true",
        {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 1000, "allowPrivilegeEscalation": False},
    ),
    "hostile": pod(
        "hostile",
        "echo 1 >/proc/sys/kernel/core_uses_pid; echo b >/proc/sysrq-trigger; mount -t tmpfs x /mnt; umount /proc/sys; "
        "mknod /tmp/disk b 254 0 && head -c1 /tmp/disk; mknod /dev/disk b 254 0 && head -c1 /dev/disk; "
        "mknod /v/disk b 254 0 && head -c1 /v/disk; chmod 600 /dev/null; "
        "mkdir /sys/fs/cgroup/memory/x; unshare -m true; "
        "echo descriptors: $(ls /proc/self/fd | tr '\\n' ' '); echo processes: $(ls -d /proc/[0-9]* | wc -l); "
        "kill -0 2 2>/dev/null && echo neighbour; dd if=/proc/kcore of=/dev/null count=1; true",
        container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        volumes=[{"name": "v", "emptyDir": {}}],
    ),
    "shared": pod(
        "shared",
        "kill -9 1; kill -TERM 1; sleep 0.2; echo alive; ls -l /proc/1/root; cat /proc/1/environ | wc -c; "
        "readlink /proc/1/fd/3 || echo no; sleep inf",
        shareProcessNamespace=True,
    ),
    "no-handler": pod("no-handler", "true", runtimeClassName="gvisor"),
}


@pytest.fixture(scope="module", autouse=True)
def hostile_reader(cluster: Any, dropped: None) -> None:
    """Drop the pods that need the node's paths."""
    cluster.write(
        "reader.yaml",
        pod(
            "reader",
            f"ls {cluster.state_dir} {cluster.run_dir} {cluster.manifests} {cluster.log_dir}/pods; "
            f"grep -rs do-not-find-me {cluster.base} && echo found; python3 -c '{ESCAPE}'",
            container={"env": [{"name": "STATE", "value": str(cluster.state_dir)}]},
        ),
    )
    profiles = cluster.state_dir / "seccomp"
    profiles.mkdir(exist_ok=True)
    (profiles / "two.json").write_text(json.dumps(FILTER))
    kill = "import os; os.kill(os.getpid(), 0); print('sent', flush=True); os.kill(os.getpid(), 12)"
    text = f'mkdir /tmp/x; python3 -c "{kill}"'
    local = {"type": "Localhost", "localhostProfile": "two.json"}
    missing = {"type": "Localhost", "localhostProfile": "no-such-profile.json"}
    cluster.write("local.yaml", secured("local", text, {"seccompProfile": local}))
    cluster.write("missing.yaml", secured("missing", "true", {"seccompProfile": missing}))


def ended(cluster: Any, name: str, phase: str = "Succeeded") -> Json:
    """Wait for a pod's end."""
    found: Json = cluster.wait_pod(name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), "its end")
    assert found["status"]["phase"] == phase, (found["status"], cluster.log(found, "main"))
    return found


def output(cluster: Any, name: str, phase: str = "Succeeded") -> list[str]:
    """Return what a pod printed, stamps taken off."""
    return [line.split(" ", 3)[3] for line in cluster.log(ended(cluster, name, phase), "main").splitlines()]


def waiting(cluster: Any, name: str) -> Json:
    """Return why a pod's container waits."""

    def holds(found: Json) -> bool:
        states = [one["state"].get("waiting", {}) for one in found["status"].get("containerStatuses", ())]
        return any("message" in one for one in states)

    found = cluster.wait_pod(name, holds, "a reason to wait", 60)
    state: Json = found["status"]["containerStatuses"][0]["state"]["waiting"]
    return state


def running(cluster: Any, name: str) -> Json:
    found: Json = cluster.wait_pod(name, lambda p: p["status"]["phase"] == "Running", "running", 60)
    return found


@pytest.mark.conformance("SEC-01")
@pytest.mark.conformance("SEC-03")
def test_user_namespaces_have_ranges_of_their_own(cluster: Any) -> None:
    lines = output(cluster, "userns")
    running(cluster, "userns2")
    cluster.wait(lambda: "65536" in cluster.log(cluster.pod("userns2"), "main"), "its map")
    other = cluster.log(cluster.pod("userns2"), "main").split(" F ")[1]
    maps = [[int(word) for word in line.split()] for line in (lines[0], lines[1], other)]
    assert [one[0] for one in maps] == [0, 0, 0]
    assert [one[2] for one in maps] == [65536] * 3
    assert maps[0] == maps[1]
    assert maps[0][1] != maps[2][1]
    for first in (maps[0][1], maps[2][1]):
        assert first % 65536 == 0
        assert 65536 <= first < 65536 * 111  # the default range: 110 pods


def test_exec_joins_all_namespaces(cluster: Any) -> None:
    found = running(cluster, "userns2")
    script = (
        "cat /proc/self/uid_map; id -u; cat /proc/self/cgroup; ls /proc/self/fd | wc -l; touch /made; stat -c %u /made"
    )
    command = [sys.executable, "-m", "minikubelet", "exec", *cluster.roots, "userns2", "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "0"
    assert lines[0].split()[2] == "65536"
    assert lines[1] == "0"
    assert all(line.endswith(":/") for line in lines[2:-2])  # the container's own groups are the roots it sees
    assert lines[-2:] == ["4", "0"]
    assert found["status"]["phase"] == "Running"


@pytest.mark.conformance("SEC-04")
def test_host_users(cluster: Any) -> None:
    assert output(cluster, "hostusers")[0].split() == ["0", "0", "4294967295"]


@pytest.mark.conformance("SEC-05")
def test_volumes_under_a_user_namespace_are_its_roots(cluster: Any) -> None:
    lines = output(cluster, "userns")
    assert lines[2:7] == ["0", "0", "0", "0", "0:0"]
    assert "mount: /mnt: permission denied." in lines
    assert "bound" in lines  # its CAP_NET_BIND_SERVICE counts in its own network


@pytest.mark.conformance("SEC-06")
def test_fs_group_under_a_user_namespace(cluster: Any) -> None:
    assert output(cluster, "userns-group") == ["200", "200", "200", "200", "0:200"]


def test_user_under_a_user_namespace(cluster: Any) -> None:
    assert output(cluster, "userns-user") == ["1000", "7"]


@pytest.mark.conformance("SEC-07")
def test_user_namespaces_are_counted(cluster: Any) -> None:
    cluster.wait(lambda: 'exec: "bogus"' in cluster.cli("events").stdout, "the Failed event")
    lines = cluster.get("/metrics").splitlines()
    counts = dict(line.split() for line in lines if line.startswith("kubelet_started_user_namespaced"))
    assert float(counts["kubelet_started_user_namespaced_pods_total"]) >= 1
    assert float(counts["kubelet_started_user_namespaced_pods_errors_total"]) >= 1


@pytest.mark.conformance("SEC-08")
def test_run_as_user(cluster: Any) -> None:
    ended(cluster, "uid65534")


@pytest.mark.conformance("SEC-09")
def test_run_as_root(cluster: Any) -> None:
    ended(cluster, "uid0")


@pytest.mark.conformance("SEC-10")
def test_run_as_non_root(cluster: Any) -> None:
    assert output(cluster, "nonroot") == ["1000"]


@pytest.mark.conformance("SEC-11")
def test_non_root_with_uid_0_is_not_created(cluster: Any) -> None:
    state = waiting(cluster, "nonroot0")
    uid = cluster.pod("nonroot0")["metadata"]["uid"]
    assert state["reason"] == "CreateContainerConfigError"
    expected = f'container\'s runAsUser breaks non-root policy (pod: "nonroot0-n1_default({uid})", container: main)'
    assert state["message"] == expected
    cluster.wait(lambda: f"Error: {expected}" in cluster.cli("events").stdout, "the Failed event")


def test_non_root_with_roots_image(cluster: Any) -> None:
    message = waiting(cluster, "nonroot-image")["message"]
    assert message.startswith("container has runAsNonRoot and image will run as root (pod: ")


def test_groups(cluster: Any) -> None:
    group, groups = output(cluster, "groups")
    assert group == "3000"
    assert sorted(groups.split()) == ["3000", "4000", "5000"]


@pytest.mark.conformance("SEC-14")
def test_read_only_root(cluster: Any) -> None:
    assert "Read-only file system" in output(cluster, "ro", "Failed")[0]


def test_missing_working_directory_is_made_before_the_root_is_read_only(cluster: Any) -> None:
    """As runc has it: the program finds it, and cannot write there."""
    where, refused = output(cluster, "ro-cwd", "Failed")
    assert where == "/made/for/it"
    assert "Read-only file system" in refused


@pytest.mark.conformance("SEC-15")
def test_writable_root(cluster: Any) -> None:
    ended(cluster, "rw")
    assert not os.path.exists("/checkfile")


@pytest.mark.conformance("SEC-16")
def test_unprivileged(cluster: Any) -> None:
    assert "Operation not permitted" in output(cluster, "plain", "Failed")[0]


@pytest.mark.conformance("SEC-17")
def test_privileged(cluster: Any) -> None:
    lines = output(cluster, "privileged")
    assert not any("Operation not permitted" in line for line in lines)
    assert "mounted" in lines
    assert int(lines[0]) > 15  # the host's devices
    held = Path("/proc/self/status").read_text()
    assert lines[1].split()[1] == held.split("CapEff:")[1].split()[0]


@pytest.mark.conformance("SEC-19")
def test_no_escalation(cluster: Any) -> None:
    lines = output(cluster, "no-escalation")
    assert "euid=" not in lines[0]
    assert lines[1] == "NoNewPrivs:\t1"


@pytest.mark.conformance("SEC-20")
def test_escalation(cluster: Any) -> None:
    lines = output(cluster, "escalation")
    assert "euid=0(root)" in lines[0]
    assert lines[1] == "NoNewPrivs:\t0"


def test_each_containers_sys_is_as_writable_as_it_is_privileged(cluster: Any) -> None:
    """They show one file system, whoever has mounted it first."""
    assert output(cluster, "sys") == ["read-only"]
    found = ended(cluster, "sys")
    assert cluster.output(found, "privileged") == "writable\n"
    assert cluster.output(found, "plain-again") == "read-only\n"


@pytest.mark.conformance("SEC-21")
def test_privilege_of_a_sibling_is_not_shared(cluster: Any) -> None:
    found = cluster.wait_pod(
        "siblings",
        lambda p: (
            [
                "running" in one["state"] or "terminated" in one["state"]
                for one in p["status"].get("containerStatuses", ())
            ]
            == [True, True]
        ),
        "both",
        60,
    )
    cluster.wait(lambda: "made" in cluster.log(found, "main"), "the link")
    cluster.wait(lambda: "Operation not permitted" in cluster.log(found, "other"), "the refusal")


def test_capabilities_in_the_runtimes_order(cluster: Any) -> None:
    assert int(output(cluster, "caps")[0].split()[1], 16) == 1 << 12  # NET_ADMIN alone: single adds follow drop ALL


@pytest.mark.conformance("KUBE-01")
def test_safe_sysctls(cluster: Any) -> None:
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    assert output(cluster, "sysctl") == ["1", "81"]
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before
    assert "FailedCreatePodSandBox" not in cluster.cli("events").stdout


@pytest.mark.conformance("KUBE-02")
def test_sysctl_names(cluster: Any) -> None:
    verdict = cluster.run_dir / "manifests" / "sysctl-names.yaml.txt"
    cluster.wait(verdict.exists, "its refusal")
    text = verdict.read_text()
    assert 'sysctls[0].name: Invalid value: "foo-"' in text
    assert 'sysctls[3].name: Invalid value: "bar.."' in text
    assert "safe-and-unsafe" not in text
    assert "kernel.shmmax" not in text
    assert cluster.pod("sysctl-names") is None


@pytest.mark.conformance("KUBE-03")
def test_unsafe_sysctl(cluster: Any) -> None:
    found = ended(cluster, "sysctl-unsafe", "Failed")
    assert found["status"]["reason"] == "SysctlForbidden"
    assert 'forbidden sysctl: "kernel.msgmax" not allowlisted' in found["status"]["message"]


def test_default_filter(cluster: Any) -> None:
    text = "\n".join(output(cluster, "default-filter"))
    assert re.search(r"unshare( failed)?: .*Operation not permitted", text), text
    assert re.search(r"-1 1$", text, re.MULTILINE), text  # keyctl: EPERM
    assert text.endswith("fine")
    lines = output(cluster, "admin-filter")
    assert lines == ["mounted", "Seccomp:\t2"]
    lines = output(cluster, "user-filter", "Failed")
    assert lines[:2] == ["NoNewPrivs:\t1", "Seccomp:\t2"]
    assert "Operation not permitted" in lines[2]


def test_local_filter(cluster: Any) -> None:
    text = "\n".join(output(cluster, "local", "Failed"))
    assert "No space left on device" in text  # errnoRet 28
    assert "Operation not permitted" in text  # signal 12, and not signal 0
    assert "sent" in text
    state = waiting(cluster, "missing")
    assert state["reason"] == "CreateContainerError"
    assert "no-such-profile.json" in state["message"]


def test_hostile_container_gets_nowhere(cluster: Any) -> None:
    lines = output(cluster, "hostile")
    text = "\n".join(lines)
    assert "/proc/sys/kernel/core_uses_pid: Read-only file system" in text
    assert "mount: /mnt: permission denied." in text
    assert "umount: /proc/sys: must be superuser to unmount." in text
    for path in ("/tmp/disk", "/dev/disk", "/v/disk"):
        assert f"head: cannot open '{path}' for reading: Permission denied" in text
    assert "chmod: changing permissions of '/dev/null': Read-only file system" in text
    assert "unshare: unshare failed: Operation not permitted" in text
    assert "mkdir: cannot create directory" in text
    assert "descriptors: 0 1 2 3" in lines  # 3 is the directory that ls itself reads
    assert "neighbour" not in text
    assert "0+0 records out" in text or "/proc/kcore': No such file" in text  # not every kernel has it
    assert oct(os.stat("/dev/null").st_mode)[-3:] == "666"


def test_pause_withstands_its_own_namespace(cluster: Any) -> None:
    found = running(cluster, "shared")
    cluster.wait(lambda: cluster.log(found, "main").count("\n") >= 4, "its lines")
    text = cluster.log(found, "main")
    assert "alive" in text
    assert text.count("Permission denied") == 2, text
    assert " F no\n" in text
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0


def test_node_and_other_pods_cannot_be_read(cluster: Any) -> None:
    lines = output(cluster, "reader")
    text = "\n".join(lines)
    assert "found" not in text.split()
    assert "kubepods" not in text
    for directory in (cluster.state_dir, cluster.run_dir, cluster.manifests, f"{cluster.log_dir}/pods"):
        at = lines.index(f"{directory}:")
        assert at + 1 == len(lines) or lines[at + 1] == "" or lines[at + 1].startswith(("/", "["))
    assert "'proc'" in lines[-2]  # the container's root is as far up as it gets
    assert lines[-1] == "False"
