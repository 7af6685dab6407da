"""Volumes as pods see them: propagation, read-only, sub-paths, fsGroup, refusals, /etc files, secrecy. One daemon."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minikubelet.linux import libc, mounts
from tests.conftest import running_node

pytestmark = pytest.mark.root

Json = dict[str, Any]
PASSWORD = "correct-horse-battery"


def pod(name: str, script: str, volumes: Json, mounted: list[Json], **more: Any) -> Json:
    container = {
        "name": "main",
        "image": "host",
        "command": ["sh", "-c", f"exec 2>&1; {script}"],  # one way for all that it says: nothing orders two
        "volumeMounts": mounted,
        **more.pop("container", {}),
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": one, **source} for one, source in volumes.items()],
        **more,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def at(path: str, **more: Any) -> Json:
    return {"name": "v", "mountPath": path, **more}


def host(path: Path) -> Json:
    return {"v": {"hostPath": {"path": str(path), "type": "Directory"}}}


EMPTY: Json = {"v": {"emptyDir": {}}}
PRIVILEGED = {"securityContext": {"privileged": True}}
FROM_MAP = {"v": {"configMap": {"name": "c"}}}
OBJECTS: list[Json] = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "text", "l": "other"}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": PASSWORD}},
]
FROM_SECRET = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}
# A path that is masked gives nothing, and one that is read-only is a mount of its own. Shell builtins only.
MASKED = (
    "for f in kcore keys timer_list latency_stats; do [ -e /proc/$f ] || continue; "
    "if read -r text < /proc/$f; then echo $f is open; else echo $f is masked; fi; done; "
    "echo 1 > /proc/sys/kernel/hostname; grep -c ' /proc/sys ro' /proc/self/mountinfo; echo seen"
)
LIVE = "; while :; do sleep 0.05; done"
SEE = "until [ -e /v/host/file ]; do sleep 0.05; done; cat /v/host/file; mkdir -p /v/own; mount -t tmpfs own /v/own"
DNS = {"nameservers": ["192.0.2.53"], "searches": ["a.example"], "options": [{"name": "ndots", "value": "2"}]}


def pods(base: Path) -> list[Json]:
    shared, outer, plain = base / "shared", base / "outer", base / "plain"
    return [
        pod("slave", SEE + "; echo done" + LIVE, host(shared), [at("/v", mountPropagation="HostToContainer")],
            container={**PRIVILEGED}),
        pod("both", "mkdir -p /v/both; mount -t tmpfs both /v/both; echo from inside > /v/both/file; echo done" + LIVE,
            host(shared), [at("/v", mountPropagation="Bidirectional")], container={**PRIVILEGED}),
        pod("none", "echo ready" + LIVE, host(shared), [at("/v")]),
        pod("not-shared", "true", host(plain), [at("/v", mountPropagation="Bidirectional")],
            container={**PRIVILEGED}),
        pod("read-only", "touch /v/f; touch /v/inner/plain && echo inner is writable", host(outer),
            [at("/v", readOnly=True)]),
        pod("all-read-only", "touch /v/f; touch /v/inner/recursive && echo inner is writable", host(outer),
            [at("/v", readOnly=True, recursiveReadOnly="Enabled")]),
        pod("group", "stat -c '%A %g' /v; echo x > /v/f; stat -c '%g' /v/f; id -G; cat /m/f", {**EMPTY,
            "m": {"emptyDir": {"medium": "Memory"}}}, [at("/v"), {"name": "m", "mountPath": "/m"}],
            securityContext={"runAsUser": 1000, "fsGroup": 1234, "fsGroupChangePolicy": "OnRootMismatch"},
            initContainers=[{"name": "first", "image": "host", "command": ["sh", "-c", "echo memory > /m/f"],
                             "volumeMounts": [{"name": "m", "mountPath": "/m"}]}]),
        pod("sub", "stat -c %A /v /s; touch /s/mine; cat /etc/issue; ls -A /t", {**EMPTY, "c": FROM_MAP["v"]},
            [at("/v"), at("/s", subPath="a/b"), {"name": "c", "mountPath": "/etc/issue", "subPath": "k"},
             {"name": "c", "mountPath": "/t/l", "subPath": "l"}], securityContext={"runAsUser": 1000}),
        pod("escape", "cat /s/shadow", EMPTY, [at("/s", subPath="out")], initContainers=[
            {"name": "first", "image": "host", "command": ["ln", "-s", "/etc", "/v/out"], "volumeMounts": [at("/v")]}]),
        pod("links", f"ln -s {plain} /v/l; ln -s /etc/passwd /v/p; echo harm > /v/l/harm; ln /v/l/x /v/hard;"
            f" ln {plain}/precious /v/hard; ls /v", EMPTY, [at("/v")]),
        pod("config-is-read-only", "touch /v/x; rm /v/k; echo x > /v/k; cat /v/k", FROM_MAP, [at("/v")]),
        pod("message", "echo -n 'the reason' > /v/message; exit 1", EMPTY, [at("/v")],
            container={"terminationMessagePath": "/v/message"}),
        pod("beside", f"cat {plain}/precious; echo; touch {plain}/mine || echo refused", {}, []),
        pod("own-hosts", "cat /etc/hosts", FROM_MAP, [at("/etc/hosts", subPath="k")]),
        pod("over-dev", MASKED, EMPTY, [at("/dev")]),
        pod("over-null", MASKED, FROM_MAP, [at("/dev/null", subPath="k")]),
        pod("dns", "cat /etc/resolv.conf", {}, [], dnsPolicy="None", dnsConfig=DNS),
        pod("hidden", "stat -f -c %T /v; test -n \"$PASSWORD\"; echo read" + LIVE, {"v": {"secret": {"secretName": "s",
            "defaultMode": 0o400}}}, [at("/v")], container={"env": [{"name": "PASSWORD", **FROM_SECRET}]}),
        pod("busy", "echo ready" + LIVE, {"v": {"emptyDir": {"medium": "Memory"}}}, [at("/v")]),
        *(pod(name, "true", {"v": source}, [at("/v")], serviceAccountName="default")
          for name, (source, _) in REFUSED.items()),
    ]  # fmt: skip


TOKEN = {"serviceAccountToken": {"path": "token"}}
REFUSED: dict[str, tuple[Json, str]] = {
    "no-nfs": ({"nfs": {"server": "s", "path": "/"}}, "nfs volumes need a cluster's storage plugins"),
    "no-csi": ({"csi": {"driver": "d.example"}}, "csi volumes need a cluster's storage plugins"),
    "no-claim": (
        {"persistentVolumeClaim": {"claimName": "c"}},
        "persistentVolumeClaim volumes need a cluster's storage plugins",
    ),
    "no-image": ({"image": {"reference": "r"}}, "image volumes need an image store"),
    "no-token": (
        {"projected": {"sources": [TOKEN]}},
        "cannot project serviceAccountToken: only an API server issues tokens",
    ),
    "no-medium": ({"emptyDir": {"medium": "Floppy"}}, 'unknown storage medium "Floppy"'),
    "no-socket": (
        {"hostPath": {"path": "/etc", "type": "Socket"}},
        "hostPath type check failed: /etc is not a socket file",
    ),
    "no-key": (
        {"configMap": {"name": "c", "items": [{"key": "none", "path": "p"}]}},
        "configmap references non-existent config key: none",
    ),
    "no-secret-key": (
        {"secret": {"secretName": "s", "items": [{"key": "none", "path": "p"}]}},
        "references non-existent secret key: none",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def dropped(cluster: Any) -> Iterator[None]:
    base = cluster.base
    for name in ("shared", "outer", "plain"):
        (base / name).mkdir(mode=0o777)
        os.chmod(base / name, 0o777)
    (base / "plain" / "precious").write_text("kept")
    mounts.bind(str(base / "plain"), str(base / "plain"))
    libc.mount(None, str(base / "plain"), None, libc.MS_PRIVATE)
    mounts.mount_tmpfs(str(base / "shared"), size=1 << 20, mode=0o777)
    libc.mount(None, str(base / "shared"), None, libc.MS_SHARED)
    (base / "outer" / "inner").mkdir()
    mounts.mount_tmpfs(str(base / "outer" / "inner"), size=1 << 20, mode=0o777)
    for one in pods(base):
        cluster.write(f"{one['metadata']['name']}.yaml", json.dumps(one))
    cluster.write("objects.yaml", "".join(f"---\n{json.dumps(one)}\n" for one in OBJECTS))
    yield
    for name in ("shared", "outer", "plain"):
        mounts.unmount_below(str(base / name))


@pytest.fixture(scope="module", autouse=True)
def freed(cluster: Any, dropped: None) -> Path:
    """Hold a file of a pod open while it is removed, until that has failed; what then comes is the last test's."""
    found = cluster.wait_pod("busy", phase("Running"), "Running")
    volume = cluster.state_dir / "pods" / found["metadata"]["uid"] / "volumes" / "kubernetes.io~empty-dir" / "v"
    with open(volume / "file", "w"):
        cluster.remove("busy.yaml")
        cluster.wait(lambda: "Device or resource busy" in cluster.cli("get", "events").stdout, "the event")
        assert cluster.pod("busy") is not None
    return volume


def phase(expected: str) -> Any:
    return lambda found: found["status"]["phase"] == expected


def ended(cluster: Any, name: str) -> str:
    """Return what a pod's container wrote, once it has ended."""
    return cluster.output(cluster.wait_pod(name, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), "its end"))


def says(cluster: Any, name: str, line: str) -> Json:
    """Wait until a running pod has written a line."""
    found = cluster.wait_pod(name, phase("Running"), "Running")
    cluster.wait(lambda: line in cluster.output(found).splitlines(), f"{name} to say {line!r}")
    return found


def waiting(found: Json) -> Json:
    return found["status"]["containerStatuses"][0]["state"].get("waiting", {})


# Propagation


def test_mounts_of_the_host_are_seen_under_host_to_container_only(cluster):
    shared = cluster.base / "shared"
    says(cluster, "none", "ready")
    cluster.wait_pod("slave", phase("Running"), "Running")
    (shared / "host").mkdir()
    mounts.mount_tmpfs(str(shared / "host"), size=1 << 20, mode=0o777)
    (shared / "host" / "file").write_text("from the host\n")
    says(cluster, "slave", "from the host")
    says(cluster, "slave", "done")
    assert not os.path.ismount(shared / "own")  # what the container mounted stays with it
    assert not (cluster.container_process(cluster.pod("none")) / "root" / "v" / "host" / "file").exists()


def test_bidirectional_mounts_reach_the_host(cluster):
    says(cluster, "both", "done")
    assert os.path.ismount(cluster.base / "shared" / "both")
    assert (cluster.base / "shared" / "both" / "file").read_text() == "from inside\n"


def test_propagation_that_the_host_does_not_have(cluster):
    found = cluster.wait_pod("not-shared", lambda p: bool(waiting(p).get("message")), "a reason")
    assert waiting(found)["reason"] == "CreateContainerError"
    plain = cluster.base / "plain"
    text = f'path "{plain}" is mounted on "{plain}" but it is not a shared mount'
    assert waiting(found)["message"] == f"failed to generate container spec: {text}"


def test_a_volume_over_devices_unmasks_nothing(cluster):
    for name in ("over-dev", "over-null"):
        text = ended(cluster, name)
        assert "seen" in text
        assert ("is masked" in text, "is open" in text) == (True, False), text
        assert "Read-only file system" in text


# Read-only


def test_read_only_leaves_mounts_below_writable_unless_it_is_recursive(cluster):
    assert "inner is writable" in ended(cluster, "read-only")
    assert "inner is writable" not in ended(cluster, "all-read-only")
    for name in ("read-only", "all-read-only"):
        assert "Read-only file system" in ended(cluster, name)
    assert (cluster.base / "outer" / "inner" / "plain").exists()
    assert not (cluster.base / "outer" / "inner" / "recursive").exists()


def test_written_volumes_are_read_only_inside(cluster):
    output = ended(cluster, "config-is-read-only")
    assert output.count("Read-only file system") == 3
    assert output.splitlines()[-1] == "text"


# Owners and sub-paths


def test_fs_group_owns_empty_dirs_and_what_is_made_in_them(cluster):
    mode, made, groups, memory = ended(cluster, "group").splitlines()
    assert (mode, made, memory) == ("drwxrwsrwx 1234", "1234", "memory")
    assert "1234" in groups.split()


def test_sub_paths_are_made_like_their_volume_and_files_cover_files(cluster):
    assert ended(cluster, "sub") == "drwxrwxrwx\ndrwxrwxrwx\ntextl\n"


def test_sub_path_over_a_link_out_of_the_volume(cluster):
    found = cluster.wait_pod("escape", lambda p: bool(waiting(p).get("message")), "a reason")
    assert waiting(found)["reason"] == "CreateContainerConfigError"
    text = 'failed to prepare subPath for volumeMount "v" of container "main"'
    assert waiting(found)["message"] == text


def test_links_in_a_volume_lead_nowhere_on_the_host_and_are_removed_as_links(cluster):
    output = ended(cluster, "links")
    plain = cluster.base / "plain"
    assert output.splitlines()[-2:] == ["l", "p"]
    assert [one.name for one in plain.iterdir()] == ["precious"]
    cluster.remove("links.yaml")
    cluster.wait(lambda: cluster.pod("links") is None, "the pod to be gone")
    assert (plain / "precious").read_text() == "kept"
    assert Path("/etc/passwd").stat().st_size


# Files of the pod


def test_termination_message_in_a_volume(cluster):
    found = cluster.wait_pod("message", phase("Failed"), "Failed")
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "the reason"


def test_volume_in_place_of_the_hosts_file(cluster):
    assert ended(cluster, "own-hosts") == "text"


def test_the_hosts_other_file_systems_are_seen_read_only(cluster):
    """Mounted since the daemon began; an overlay of the host's root alone would show it, and take writes."""
    assert ended(cluster, "beside").startswith("kept\n")
    assert "refused" in ended(cluster, "beside")


def test_dns_of_the_pod_alone(cluster):
    assert ended(cluster, "dns") == "search a.example\nnameserver 192.0.2.53\noptions ndots:2\n"


def test_missing_cluster_dns_is_an_event(cluster):
    says(cluster, "none", "ready")
    events = cluster.cli("get", "events").stdout
    assert "MissingClusterDNS" in events
    assert 'Falling back to "Default" policy.' in events


# Refusals


@pytest.mark.parametrize("name", REFUSED)
def test_volumes_that_cannot_be_had_say_why(cluster, name):
    text = f'MountVolume.SetUp failed for volume "v" : {REFUSED[name][1]}'
    cluster.wait(lambda: text in cluster.cli("get", "events").stdout, "the event")
    found = cluster.pod(name)
    assert found["status"]["phase"] == "Pending"
    assert waiting(found)["reason"] == "ContainerCreating"


# Secrecy


def test_secrets_are_nowhere_but_in_memory(cluster):
    found = says(cluster, "hidden", "read")
    assert cluster.output(found).splitlines()[0] == "tmpfs"
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    for arguments in (
        ["get", "events"],
        ["get", "pods", "-o", "yaml"],
        ["get", "secrets", "-o", "yaml"],
        ["describe", "pod", "hidden"],
    ):
        shown = cluster.cli(*arguments)
        assert shown.returncode == 0, shown.stderr
        assert PASSWORD not in shown.stdout
        assert encoded not in shown.stdout
    volume = cluster.state_dir / "pods" / found["metadata"]["uid"] / "volumes" / "kubernetes.io~secret"
    assert stat.S_IMODE(cluster.state_dir.stat().st_mode) == 0o700
    command = [
        "grep",
        "-rlF",
        PASSWORD,
        cluster.state_dir,
        cluster.run_dir,
        cluster.log_dir,
        cluster.base / "daemon.log",
    ]
    holders = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    assert holders
    assert [one for one in holders if not one.startswith(str(volume))] == []


@pytest.mark.conformance("ST-05")
def test_stuck_unmount_is_tried_again_until_it_succeeds(cluster, freed):
    cluster.wait(lambda: cluster.pod("busy") is None, "the pod to be gone")
    assert not freed.exists()
    assert not os.path.ismount(freed)
    cluster.write("busy.yaml", json.dumps(next(p for p in pods(cluster.base) if p["metadata"]["name"] == "busy")))
    cluster.wait_pod("busy", phase("Running"), "Running again")


# A machine whose mounts are shared, as systemd has them


@pytest.fixture
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node whose directories lie on a shared mount."""
    top = tmp_path_factory.mktemp("shared")
    mounts.mount_tmpfs(str(top), size=256 << 20, mode=0o755)
    libc.mount(None, str(top), None, libc.MS_SHARED)
    (top / "node").mkdir()
    try:
        with running_node(top / "node") as one:
            yield one
    finally:
        mounts.unmount_below(str(top))


def test_mounts_of_containers_reach_a_shared_host_only_where_they_are_to_and_go_with_the_pod(shared_node):
    script = "mkdir /{0}/inner; mount -t tmpfs inner /{0}/inner; echo kept > /{0}/inner/file; echo done" + LIVE
    for name, propagation in (("both", "Bidirectional"), ("slave", "HostToContainer"), ("none", "None")):
        one = pod(name, script.format("v"), EMPTY, [at("/v", mountPropagation=propagation)], container={**PRIVILEGED})
        shared_node.write(f"{name}.yaml", json.dumps(one))
    volumes = {}
    for name in ("both", "slave", "none"):
        uid = says(shared_node, name, "done")["metadata"]["uid"]
        volumes[name] = shared_node.state_dir / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "v"
    assert (volumes["both"] / "inner" / "file").read_text() == "kept\n"
    for name in ("slave", "none"):
        assert not (volumes[name] / "inner" / "file").exists()
    below = mounts.mount_points_below(str(shared_node.base))
    shm = {str(path.parents[2] / "shm") for path in volumes.values()}
    assert set(below) == {*shm, str(volumes["both"] / "inner")}
    for name in volumes:
        shared_node.remove(f"{name}.yaml")
    for name, volume in volumes.items():
        shared_node.wait(lambda name=name: shared_node.pod(name) is None, f"{name} to be gone")
        assert not volume.exists()
    assert mounts.mount_points_below(str(shared_node.base)) == []
