"""EXPN, CFG, DAPI and what a kubelet gives every container: environment, command line, /etc files, names, logs."""

from __future__ import annotations

import base64
import ipaddress
import json
import pwd
import re
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]


def pod(name: str, script: str, env: list[Json] | None = None, **spec: Any) -> Json:
    """Return a Pod that runs a script once."""
    container: Json = {"name": "main", "image": "host", "command": ["sh", "-c", script], "env": env or []}
    container.update(spec.pop("container", {}))
    metadata = {"name": name, **spec.pop("metadata", {})}
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def text(*objects: Json) -> str:
    return "".join(f"---\n{json.dumps(one)}\n" for one in objects)


def field(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": path}}}


DATA = {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"}
OBJECTS = text(
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": DATA},
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key"},
        "data": {"data-1": base64.b64encode(b"value-1\n").decode()},
    },
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "map", "namespace": "other"},
        "data": {"data-1": "of the other namespace"},
    },
)
FOO_BAR = [
    {"name": "FOO", "value": "foo-value"},
    {"name": "BAR", "value": "bar-value"},
    {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"},
]
VOLUME = {"volumes": [{"name": "v", "emptyDir": {}}]}
NAMED = [field("POD_NAME", "metadata.name")]
LIMITS = {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}
RESOURCES = [
    resource("CPU_LIMIT", "limits.cpu"),
    resource("CPU_REQUEST", "requests.cpu"),
    resource("MEMORY_LIMIT", "limits.memory"),
    resource("MEMORY_REQUEST", "requests.memory"),
]
HUGE = [resource("LIMIT", "limits.hugepages-2Mi"), resource("REQUEST", "requests.hugepages-2Mi")]
ARGV = ["python3", "-c", "import sys; print(sys.argv[1:])"]


def mounted(expression: str, path: str = "/sub") -> Json:
    return {
        "volumeMounts": [{"name": "v", "mountPath": path, "subPathExpr": expression}, {"name": "v", "mountPath": "/v"}]
    }


ENV_FILE = {
    **pod("st-09", "echo $CONFIG_1"),
    "spec": {
        "restartPolicy": "Never",
        "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [
            {
                "name": "writer",
                "image": "host",
                "command": ["sh", "-c", "echo CONFIG_1=\\'value1\\' > /v/config.env"],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ],
        "containers": [
            {
                "name": "main",
                "image": "host",
                "command": ["sh", "-c", "echo $CONFIG_1"],
                "env": [
                    {
                        "name": "CONFIG_1",
                        "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "config.env", "key": "CONFIG_1"}},
                    }
                ],
            }
        ],
    },
}
NAMES = "hostname; hostname -f; cat /proc/sys/kernel/hostname /etc/hostname"
ALIASES = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]

PODS = {
    "objects": OBJECTS,
    "expn-01": text(pod("expn-01", "echo $FOOBAR", FOO_BAR)),
    "expn-02": text(pod("expn-02", 'TEST_VAR=wrong echo "$(TEST_VAR)"', [{"name": "TEST_VAR", "value": "test-value"}])),
    "expn-04": text(pod("expn-04", "ls /v", NAMED, container=mounted("$(POD_NAME)"), **VOLUME)),
    "expn-05": text(
        pod("expn-05", "true", [{"name": "UP", "value": ".."}], container=mounted("$(UP)"), **VOLUME),
        pod("expn-05-empty", "true", [{"name": "EMPTY", "value": ""}], container=mounted("$(NONE)$(EMPTY)"), **VOLUME),
        pod("expn-05-absolute", "true", [{"name": "TOP", "value": "/tmp"}], container=mounted("$(TOP)"), **VOLUME),
    ),
    "expn-08": text(pod("expn-08", "sleep 1000", NAMED, container=mounted("$(POD_NAME)"), **VOLUME)),
    "cfg-01": text(
        pod(
            "cfg-01",
            "echo $X",
            [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "data-1"}}}],
        ),
    ),
    "cfg-02": text(
        pod(
            "cfg-02",
            "tr '\\0' '\\n' < /proc/1/environ | grep data- | sort",
            container={
                "envFrom": [{"configMapRef": {"name": "map"}}, {"prefix": "p-", "configMapRef": {"name": "map"}}]
            },
        ),
    ),
    "cfg-06": text(
        pod(
            "cfg-06",
            'echo "$X"',
            [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "data-1"}}}],
        ),
    ),
    "cfg-12": text(pod("cfg-12", "", container={"command": [*ARGV, "one", "two words"]})),
    "cfg-13": text(pod("cfg-13", "", container={"command": ARGV, "args": ["one", "", "$(X)"]})),
    "dapi-01": text(
        pod(
            "dapi-01",
            "echo $NAME $SPACE $IP",
            [
                field("NAME", "metadata.name"),
                field("SPACE", "metadata.namespace"),
                field("IP", "status.podIP"),
            ],
        )
    ),
    "dapi-02": text(
        pod("dapi-02", "echo $IP; echo $IPS", [field("IP", "status.hostIP"), field("IPS", "status.hostIPs")])
    ),
    "dapi-04": text(
        pod(
            "dapi-04",
            "echo $CPU_LIMIT $CPU_REQUEST $MEMORY_LIMIT $MEMORY_REQUEST",
            RESOURCES,
            container={"resources": LIMITS},
        )
    ),
    "dapi-06": text(
        pod(
            "dapi-06",
            "echo $ID",
            [field("ID", "metadata.uid")],
            metadata={"uid": "6a1b5d6c-9c1f-4b6e-8f1e-0123456789ab"},
        )
    ),
    "dapi-07": text(
        pod(
            "dapi-07",
            "echo $LIMIT $REQUEST",
            HUGE,
            container={
                "resources": {
                    "limits": {"cpu": "1", "hugepages-2Mi": "0"},
                    "requests": {"cpu": "1", "hugepages-2Mi": "0"},
                }
            },
        )
    ),
    "dapi-08": text(pod("dapi-08", "echo $LIMIT", [resource("LIMIT", "limits.hugepages-2Mi")])),
    "kube-04": text(pod("kube-04", "echo 'Hello World'; sleep 240")),
    "kube-05": text(pod("kube-05", "exit 1")),
    "kube-07": text(pod("kube-07", "cat /etc/hosts", hostAliases=ALIASES)),
    "kube-09": text(
        pod(
            "kube-09",
            "",
            containers=[
                {"name": name, "image": "host", "command": ["sh", "-c", "cat /etc/hosts; echo more >> /etc/hosts"]}
                for name in ("one", "two")
            ],
        )
    ),
    "kube-11": text(pod("kube-11", "cat /etc/hosts", hostNetwork=True, hostAliases=ALIASES)),
    "node-25": text(pod("node-25", NAMES)),
    "node-26": text(pod("node-26", NAMES, setHostnameAsFQDN=True)),
    "node-27": text(pod("node-27", NAMES, subdomain="sub")),
    "node-27-fqdn": text(pod("node-27-fqdn", NAMES, hostname="h", subdomain="sub", setHostnameAsFQDN=True)),
    "node-27-long": text(pod("node-27-long", NAMES, hostname="h" * 40, subdomain="s" * 20, setHostnameAsFQDN=True)),
    "st-09": text(ENV_FILE),
    "defaults": text(
        *(
            pod(name, "tr '\\0' '\\n' < /proc/1/environ", env, securityContext={"runAsUser": uid})
            for name, uid, env in (
                ("defaults-root", 0, []),
                ("defaults-nobody", 65534, []),
                ("defaults-stranger", 54321, []),
                ("defaults-own", 0, [{"name": "PATH", "value": "/bin:/own"}, {"name": "HOSTNAME", "value": "mine"}]),
                ("defaults-empty", 0, [{"name": "HOME", "value": ""}]),
            )
        )
    ),
    "nul": text(pod("nul", "true", [{"name": "X", "value": "a\0b"}])),
    "waiting": text(
        pod(
            "waiting-map",
            'echo "$X"',
            [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}],
        ),
        pod(
            "waiting-volume",
            "cat /v/k",
            container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            volumes=[{"name": "v", "secret": {"secretName": "late"}}],
        ),
    ),
}


def succeeded(pod: Json) -> bool:
    return pod["status"]["phase"] == "Succeeded"


def printed(cluster: Any, name: str, container: str = "main") -> list[str]:
    """Return what a pod printed once it has succeeded."""
    return cluster.output(cluster.wait_pod(name, succeeded, f"{name} Succeeded", 60), container).splitlines()


def waits_for(reason: str) -> Any:
    def holds(pod: Json) -> bool:
        return pod["status"]["containerStatuses"][0]["state"].get("waiting", {}).get("reason") == reason

    return holds


@pytest.mark.conformance("EXPN-01")
def test_variables_in_variables(cluster):
    assert printed(cluster, "expn-01") == ["foo-value;;bar-value"]


@pytest.mark.conformance("EXPN-02")
def test_variables_in_commands(cluster):
    assert printed(cluster, "expn-02") == ["test-value"]


@pytest.mark.conformance("EXPN-04")
def test_variables_in_sub_paths(cluster):
    assert printed(cluster, "expn-04") == ["expn-04-n1"]


@pytest.mark.conformance("EXPN-05")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("expn-05", "unable to provision SubPath `..`: must not contain '..'"),
        ("expn-05-absolute", "error SubPath `/tmp` must not be an absolute path"),
        ("expn-05-empty", "missing value for EMPTY, NONE"),
    ],
)
def test_sub_path_that_leaves_its_volume(cluster, name, message):
    found = cluster.wait_pod(name, waits_for("CreateContainerConfigError"), "CreateContainerConfigError")
    assert found["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == message


@pytest.mark.conformance("EXPN-08")
def test_writes_through_sub_path(cluster):
    found = cluster.wait_pod("expn-08", lambda p: p["status"]["phase"] == "Running", "Running")
    volume = cluster.state_dir / "pods" / found["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/v"
    (volume / "expn-08-n1" / "test.log").write_text("seen")
    root = cluster.container_process(found) / "root"
    assert (root / "sub" / "test.log").read_text() == "seen"
    assert (root / "v" / "expn-08-n1" / "test.log").read_text() == "seen"


@pytest.mark.conformance("CFG-01")
def test_config_map_key_in_environment(cluster):
    assert printed(cluster, "cfg-01") == ["value-1"]


@pytest.mark.conformance("CFG-02")
def test_whole_config_map_in_environment(cluster):
    expected = [f"{name}={value}" for name, value in DATA.items()]
    assert printed(cluster, "cfg-02") == expected + [f"p-{one}" for one in expected]


@pytest.mark.conformance("CFG-06")
def test_secret_key_in_environment_keeps_its_newline(cluster):
    assert printed(cluster, "cfg-06") == ["value-1", ""]


@pytest.mark.conformance("CFG-12")
def test_command_is_taken_as_it_is(cluster):
    assert printed(cluster, "cfg-12") == ["['one', 'two words']"]


@pytest.mark.conformance("CFG-13")
def test_args_follow_the_command(cluster):
    assert printed(cluster, "cfg-13") == ["['one', '', '$(X)']"]


@pytest.mark.conformance("DAPI-01")
def test_name_namespace_and_address(cluster):
    ip = cluster.wait_pod("dapi-01", succeeded, "Succeeded")["status"]["podIP"]
    assert printed(cluster, "dapi-01") == [f"dapi-01-n1 default {ip}"]


@pytest.mark.conformance("DAPI-02")
@pytest.mark.conformance("NODE-31")
@pytest.mark.conformance("NODE-32")
def test_addresses_of_the_host(cluster):
    status = cluster.wait_pod("dapi-02", succeeded, "Succeeded")["status"]
    ip, ips = printed(cluster, "dapi-02")
    found = [ipaddress.ip_address(one) for one in ips.split(",")]
    assert [one["ip"] for one in status["hostIPs"]] == ips.split(",")
    assert status["hostIP"] == ip == str(found[0])
    assert len({one.version for one in found}) == len(found) <= 2


@pytest.mark.conformance("DAPI-04")
def test_limits_and_requests(cluster):
    assert printed(cluster, "dapi-04") == ["2 1 67108864 33554432"]


@pytest.mark.conformance("DAPI-06")
def test_uid(cluster):
    uid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    (found,) = printed(cluster, "dapi-06")
    assert re.fullmatch(uid, found)
    assert found == cluster.pod("dapi-06")["metadata"]["uid"]


@pytest.mark.conformance("DAPI-07")
def test_huge_pages_of_none(cluster):
    assert printed(cluster, "dapi-07") == ["0 0"]


@pytest.mark.conformance("DAPI-08")
def test_huge_pages_without_a_limit(cluster):
    assert printed(cluster, "dapi-08")[0].isdigit()


@pytest.mark.conformance("KUBE-04")
@pytest.mark.conformance("NODE-06")
def test_output_reaches_the_log_under_both_paths(cluster):
    found = cluster.wait_pod("kube-04", lambda p: p["status"]["phase"] == "Running", "Running")
    cluster.wait(lambda: cluster.output(found) == "Hello World\n", "the output")
    identity = found["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    link = cluster.log_dir / "containers" / f"kube-04-n1_default_main-{identity}.log"
    assert link.read_text() == cluster.log(found, "main")


@pytest.mark.conformance("KUBE-05")
@pytest.mark.conformance("KUBE-06")
def test_failed_container_has_a_reason_and_its_pod_can_be_removed(cluster):
    found = cluster.wait_pod("kube-05", lambda p: p["status"]["phase"] == "Failed", "Failed")
    (status,) = found["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] != 0
    assert status["state"]["terminated"]["reason"]
    cluster.remove("kube-05.yaml")
    cluster.wait(lambda: cluster.pod("kube-05") is None, "the pod to be gone")


@pytest.mark.conformance("KUBE-07")
def test_host_aliases(cluster):
    assert "123.45.67.89\tfoo\tbar" in printed(cluster, "kube-07")


@pytest.mark.conformance("KUBE-09")
def test_managed_hosts_file(cluster):
    node_file = Path("/etc/hosts").read_text()
    for container in ("one", "two"):
        output = printed(cluster, "kube-09", container)
        assert output[0] == "# Kubernetes-managed hosts file."
        assert "\n".join(output) + "\n" != node_file


@pytest.mark.conformance("KUBE-11")
def test_hosts_file_of_the_host_network(cluster):
    expected = "# Kubernetes-managed hosts file (host network).\n" + Path("/etc/hosts").read_text()
    expected += "\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n"
    found = cluster.wait_pod("kube-11", succeeded, "Succeeded")
    assert cluster.output(found) == expected


@pytest.mark.conformance("NODE-25")
def test_hostname(cluster):
    assert printed(cluster, "node-25") == ["node-25-n1"] * 4


@pytest.mark.conformance("NODE-26")
def test_fqdn_without_subdomain_has_no_effect(cluster):
    assert printed(cluster, "node-26") == ["node-26-n1"] * 4


@pytest.mark.conformance("NODE-27")
def test_subdomain(cluster):
    full = "node-27-n1.sub.default.svc.cluster.local"
    assert printed(cluster, "node-27") == ["node-27-n1", full, "node-27-n1", "node-27-n1"]


def test_fqdn_as_hostname(cluster):
    assert printed(cluster, "node-27-fqdn") == ["h.sub.default.svc.cluster.local"] * 4


def test_fqdn_too_long_for_the_kernel(cluster):
    expected = "is too long (64 characters is the max, 87 characters requested)"
    cluster.wait(lambda: expected in cluster.cli("get", "events").stdout, "the event")
    assert cluster.pod("node-27-long")["status"]["phase"] == "Pending"


@pytest.mark.conformance("ST-09")
def test_environment_from_a_file(cluster):
    assert printed(cluster, "st-09") == ["value1"]


def test_pods_wait_for_what_is_missing_say_so_and_start_when_it_comes(cluster):
    waiting = cluster.wait_pod("waiting-map", waits_for("CreateContainerConfigError"), "CreateContainerConfigError")
    assert waiting["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == 'configmap "late" not found'
    message = 'MountVolume.SetUp failed for volume "v" : secret "late" not found'
    cluster.wait(lambda: message in cluster.cli("get", "events").stdout, "the event")
    late = {"apiVersion": "v1", "metadata": {"name": "late"}}
    secret = {**late, "kind": "Secret", "stringData": {"k": "hunter2"}}
    cluster.write("late.yaml", text({**late, "kind": "ConfigMap", "data": {"k": "arrived"}}, secret))
    # At once, not at the next try of a back-off.
    cluster.wait_pod("waiting-map", succeeded, "Succeeded", 8)
    cluster.wait_pod("waiting-volume", succeeded, "Succeeded", 8)
    assert printed(cluster, "waiting-map") == ["arrived"]
    assert printed(cluster, "waiting-volume") == ["hunter2"]
    cluster.remove("late.yaml")


@pytest.mark.conformance("EXPN-07")
def test_failing_sub_path_repaired_by_an_edit(cluster):
    def version(annotations: Json) -> str:
        env = [field("PART", "metadata.annotations['part']")]
        metadata = {"annotations": annotations}
        return text(pod("expn-07", "ls /v", env, metadata=metadata, container=mounted("$(PART)"), **VOLUME))

    cluster.write("expn-07.yaml", version({}))
    cluster.wait_pod("expn-07", waits_for("CreateContainerConfigError"), "CreateContainerConfigError")
    cluster.write("expn-07.yaml", version({"part": "repaired"}))
    assert printed(cluster, "expn-07") == ["repaired"]


@pytest.mark.conformance("CFG-04")
def test_changed_config_map_is_seen_by_the_next_container_and_never_by_a_running_one(cluster):
    def objects(value: str) -> str:
        return text({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "edited"}, "data": {"k": value}})

    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "edited", "key": "k"}}}]
    wait = "until grep -q two /c/k; do sleep 0.05; done"
    script = f"echo start $X; {wait}; tr '\\0' '\\n' < /proc/1/environ | grep ^X=; exit 1"
    mount = {"volumeMounts": [{"name": "c", "mountPath": "/c"}]}
    volumes = [{"name": "c", "configMap": {"name": "edited"}}]
    cluster.write("edited.yaml", objects("one"))
    one = pod("cfg-04", script, env, container=mount, volumes=volumes, restartPolicy="OnFailure")
    cluster.write("cfg-04.yaml", text(one))
    found = cluster.wait_pod("cfg-04", lambda p: p["status"]["phase"] == "Running", "Running")
    cluster.wait(lambda: cluster.output(found) == "start one\n", "the first value")
    cluster.write("edited.yaml", objects("two"))
    cluster.wait(lambda: cluster.output(found, count=1) == "start two\nX=two\n", "the second value")
    assert cluster.output(found) == "start one\nX=one\n"
    cluster.remove("cfg-04.yaml")


DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("defaults-root", {"PATH": DEFAULT_PATH, "HOSTNAME": "defaults-root-n1", "HOME": pwd.getpwuid(0).pw_dir}),
        ("defaults-nobody", {"PATH": DEFAULT_PATH, "HOSTNAME": "defaults-nobody-n1", "HOME": "/nonexistent"}),
        ("defaults-stranger", {"PATH": DEFAULT_PATH, "HOSTNAME": "defaults-stranger-n1", "HOME": "/"}),
        ("defaults-own", {"PATH": "/bin:/own", "HOSTNAME": "mine", "HOME": pwd.getpwuid(0).pw_dir}),
        ("defaults-empty", {"PATH": DEFAULT_PATH, "HOSTNAME": "defaults-empty-n1", "HOME": pwd.getpwuid(0).pw_dir}),
    ],
)
def test_environment_of_a_container_is_its_own_and_three_defaults(cluster, name, expected):
    assert dict(line.split("=", 1) for line in printed(cluster, name)) == expected


def test_nul_in_a_variable_is_refused(cluster):
    found = cluster.wait_pod("nul", waits_for("CreateContainerConfigError"), "CreateContainerConfigError")
    message = found["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message == "environment variable 'X' contains a NUL byte"


@pytest.mark.conformance("CFG-05")
def test_config_map_is_made_changed_listed_by_label_and_removed(cluster):
    def listed() -> Json:
        found = cluster.cli("get", "configmaps", "-l", "test=listed", "-o", "json")
        assert found.returncode == 0, found.stderr
        return {one["metadata"]["name"]: one["data"] for one in json.loads(found.stdout)["items"]}

    def config_map(value: str) -> str:
        metadata = {"name": "listed", "labels": {"test": "listed"}}
        return text({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}})

    assert listed() == {}
    for value in ("one", "two"):
        cluster.write("listed.yaml", config_map(value))
        cluster.wait(lambda value=value: listed() == {"listed": {"k": value}}, f"the value {value!r}")
    cluster.remove("listed.yaml")
    cluster.wait(lambda: listed() == {}, "the ConfigMap to be gone")
