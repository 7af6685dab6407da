"""VOL: emptyDir and hostPath; CMV: what the node writes into volumes. All pods run side by side from the start."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

Json = dict[str, Any]


def pod(name: str, script: str, volume: Json, **more: Any) -> Json:
    """Return a Pod that runs a script once with one volume at /v."""
    security = more.pop("security", None)
    mount = {"name": "v", "mountPath": "/v", **more.pop("mount", {})}
    container = {
        "name": "main",
        "image": "host",
        "command": ["sh", "-c", script],
        "volumeMounts": [mount],
        **more.pop("container", {}),
    }
    spec: Json = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "v", **volume}],
        **more.pop("spec", {}),
    }
    if security is not None:
        spec["securityContext"] = security
    metadata = {"name": name, **more.pop("metadata", {})}
    assert not more
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def config_map(name: str, data: dict[str, str], **more: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data, **more}


def secret(name: str, data: dict[str, str], **more: Any) -> Json:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded, **more}


def text(*objects: Json) -> str:
    return "".join(f"---\n{json.dumps(one)}\n" for one in objects)


MEMORY = {"emptyDir": {"medium": "Memory"}}
DISK: Json = {"emptyDir": {}}
LIVE = "while :; do sleep 0.05; done"

# id: medium, mode of the file, uid
FILES = {
    "VOL-02": (MEMORY, "644", 0),
    "VOL-03": (MEMORY, "666", 0),
    "VOL-04": (MEMORY, "777", 0),
    "VOL-05": (MEMORY, "644", 1001),
    "VOL-06": (MEMORY, "666", 1001),
    "VOL-07": (MEMORY, "777", 1001),
    "VOL-09": (DISK, "644", 0),
    "VOL-10": (DISK, "666", 0),
    "VOL-11": (DISK, "777", 0),
}
SHOWN = {"644": "-rw-r--r--", "666": "-rw-rw-rw-", "777": "-rwxrwxrwx"}
CONTENT = "value-1"
READ = "stat -L -c '%A %g' /v/data-1; cat /v/data-1"
ITEMS = [{"key": "data-1", "path": "path/to/data"}]
READ_ITEM = "stat -L -c '%A %g' /v/path/to/data; cat /v/path/to/data; echo; ls /v"
LIMITS = {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}}


def config(**source: Any) -> Json:
    return {"configMap": {"name": "plain", **source}}


def hidden(**source: Any) -> Json:
    return {"secret": {"secretName": "hidden", **source}}


def projected(**source: Any) -> Json:
    return {"projected": {"sources": [{"configMap": {"name": "plain"}}], **source}}


def downward(item: Json, **source: Any) -> Json:
    return {"downwardAPI": {"items": [{"path": "data-1", **item}], **source}}


NAME = {"fieldRef": {"fieldPath": "metadata.name"}}
GROUP_1001 = {"runAsUser": 1000, "fsGroup": 1001}
ITEM_0400 = [{**ITEMS[0], "mode": 0o400}]

# id: script, volume, pod's security context, and what the script prints
PROJECTIONS: dict[str, tuple[str, Json, Json | None, list[str]]] = {
    "CMV-01": (READ, config(), None, ["-rw-r--r-- 0", CONTENT]),
    "CMV-02": (READ, config(defaultMode=0o400), None, ["-r-------- 0", CONTENT]),
    "CMV-03": (READ, config(defaultMode=0o440), GROUP_1001, ["-r--r----- 1001", CONTENT]),
    "CMV-04": (READ, config(), {"runAsUser": 1000}, ["-rw-r--r-- 0", CONTENT]),
    "CMV-05": (READ, config(defaultMode=0o400), GROUP_1001, ["-r--r----- 1001", CONTENT]),
    "CMV-06": (READ_ITEM, config(items=ITEMS), None, ["-rw-r--r-- 0", CONTENT, "path"]),
    "CMV-07": (READ_ITEM, config(items=ITEM_0400, defaultMode=0o644), None, ["-r-------- 0", CONTENT, "path"]),
    "CMV-08": (READ_ITEM, config(items=ITEMS), {"runAsUser": 1000}, ["-rw-r--r-- 0", CONTENT, "path"]),
    "CMV-09": (READ_ITEM, config(items=ITEMS), GROUP_1001, ["-rw-r--r-- 1001", CONTENT, "path"]),
    "CMV-13": (READ, hidden(), None, ["-rw-r--r-- 0", CONTENT]),
    "CMV-14": (READ, hidden(defaultMode=0o400), None, ["-r-------- 0", CONTENT]),
    "CMV-15": (READ, hidden(defaultMode=0o440), GROUP_1001, ["-r--r----- 1001", CONTENT]),
    "CMV-16": (READ_ITEM, hidden(items=ITEMS), None, ["-rw-r--r-- 0", CONTENT, "path"]),
    "CMV-17": (READ_ITEM, hidden(items=ITEM_0400), None, ["-r-------- 0", CONTENT, "path"]),
    "CMV-22": (READ, downward(NAME), None, ["-rw-r--r-- 0", "cmv-22-n1"]),
    "CMV-23": (READ, downward(NAME, defaultMode=0o400), None, ["-r-------- 0", "cmv-23-n1"]),
    "CMV-24": (READ, downward({**NAME, "mode": 0o400}), None, ["-r-------- 0", "cmv-24-n1"]),
    "CMV-25": (READ, downward(NAME), {"runAsUser": 1000, "fsGroup": 1234}, ["-rw-r--r-- 1234", "cmv-25-n1"]),
    "CMV-26": (
        READ,
        downward({**NAME, "mode": 0o440}),
        {"runAsUser": 1000, "fsGroup": 1234},
        ["-r--r----- 1234", "cmv-26-n1"],
    ),
    "CMV-35": (READ, projected(), None, ["-rw-r--r-- 0", CONTENT]),
    "CMV-36": (READ, projected(defaultMode=0o400), None, ["-r-------- 0", CONTENT]),
}

# id: resource, whether the container has limits and requests, and the pattern of what the file holds
RESOURCES = {
    "CMV-29": ("limits.cpu", True, "2"),
    "CMV-30": ("limits.memory", True, "67108864"),
    "CMV-31": ("requests.cpu", True, "1"),
    "CMV-32": ("requests.memory", True, "33554432"),
    "CMV-33": ("limits.cpu", False, "[1-9][0-9]*"),
    "CMV-34": ("limits.memory", False, "[1-9][0-9]*"),
}


def lower(row: str) -> str:
    return row.lower()


def file_pod(row: str) -> Json:
    medium, mode, uid = FILES[row]
    script = f"echo content > /v/f; chmod {mode} /v/f; stat -c %A /v/f; cat /v/f; stat -f -c %T /v"
    return pod(lower(row), script, medium, security={"runAsUser": uid})


def resource_pod(row: str) -> Json:
    resource, limited, _ = RESOURCES[row]
    item = {"resourceFieldRef": {"containerName": "main", "resource": resource}}
    return pod(lower(row), "cat /v/data-1", downward(item), container={"resources": LIMITS} if limited else {})


SHARED = [
    {"name": "writer", "image": "host", "command": ["sh", "-c", "echo from the writer > /v/f; sleep 100"]},
    {
        "name": "reader",
        "image": "host",
        "command": ["sh", "-c", "until cat /v/f 2>/dev/null; do sleep 0.05; done; sleep 100"],
    },
]
for one in SHARED:
    one["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]

SMALL = {"emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}}
PODS = {
    "objects": text(config_map("plain", {"data-1": CONTENT}), secret("hidden", {"data-1": CONTENT})),
    "vol-01": text(pod("vol-01", "stat -c %A /v; stat -f -c %T /v", MEMORY)),
    "vol-08": text(pod("vol-08", "stat -c %A /v", DISK)),
    "vol-18": text(pod("vol-18", "", DISK, spec={"containers": SHARED})),
    "vol-19": text(pod("vol-19", "exec 2>&1; df -k /v | tail -1; dd if=/dev/zero of=/v/f bs=1M count=20", SMALL)),
    "vol-20": text(pod("vol-20", "stat -c %A /v", {"hostPath": {"path": "/tmp"}})),
    **{lower(row): text(file_pod(row)) for row in FILES},
    **{
        lower(row): text(pod(lower(row), script, volume, security=security))
        for row, (script, volume, security, _) in PROJECTIONS.items()
    },
    **{lower(row): text(resource_pod(row)) for row in RESOURCES},
    "cmv-10": text(
        config_map("changing", {"data-1": "value-1"}),
        pod("cmv-10", LIVE, {"configMap": {"name": "changing"}}),
    ),
    "cmv-12": text(pod("cmv-12", LIVE, {"configMap": {"name": "absent", "optional": True}})),
    "cmv-20": text(pod("cmv-20", LIVE, {"secret": {"secretName": "absent", "optional": True}})),
}


UID = "0f6a5b1c-1d2e-4f30-8a4b-0123456789{}"


def labelled(number: int, **metadata: Any) -> str:
    """Return a Pod with a uid of its own, so that an edit of its labels is the same pod's."""
    item = {"fieldRef": {"fieldPath": f"metadata.{'labels' if number == 27 else 'annotations'}"}}
    return text(pod(f"cmv-{number}", LIVE, downward(item), metadata={"uid": UID.format(number), **metadata}))


LABELS = {"key1": "value1", "key2": "value2"}
PODS["cmv-27"] = labelled(27, labels=LABELS)
PODS["cmv-28"] = labelled(28, annotations={"builder": "bar"})


def succeeded(pod: Json) -> bool:
    return pod["status"]["phase"] == "Succeeded"


def running(pod: Json) -> bool:
    return pod["status"]["phase"] == "Running"


def printed(cluster: Any, row: str) -> list[str]:
    """Return what a row's pod printed once it has succeeded."""
    return cluster.output(cluster.wait_pod(lower(row), succeeded, f"{row} Succeeded", 60)).splitlines()


@pytest.mark.conformance("VOL-01")
def test_memory_volume_may_be_written_by_all(cluster):
    assert printed(cluster, "VOL-01") == ["drwxrwxrwx", "tmpfs"]


@pytest.mark.parametrize("row", [pytest.param(row, marks=pytest.mark.conformance(row), id=row) for row in FILES])
def test_file_modes_in_empty_dirs(cluster, row):
    medium, mode, _ = FILES[row]
    mode_shown, content, kind = printed(cluster, row)
    assert (mode_shown, content) == (SHOWN[mode], "content")
    assert (kind == "tmpfs") == (medium is MEMORY)


@pytest.mark.conformance("VOL-08")
def test_empty_dir_may_be_written_by_all(cluster):
    assert printed(cluster, "VOL-08") == ["drwxrwxrwx"]


@pytest.mark.conformance("VOL-18")
def test_volume_is_shared_by_containers(cluster):
    found = cluster.wait_pod("vol-18", running, "Running")
    cluster.wait(lambda: cluster.output(found, "reader") == "from the writer\n", "the reader's output")


@pytest.mark.conformance("VOL-19")
def test_memory_volume_has_the_size_of_its_limit(cluster):
    found = cluster.wait_pod("vol-19", lambda p: p["status"]["phase"] == "Failed", "Failed", 60)
    output = cluster.output(found)
    assert output.splitlines()[0].split()[1] == "10240"
    assert "No space left on device" in output


@pytest.mark.conformance("VOL-20")
def test_host_path_shows_the_host(cluster):
    assert printed(cluster, "VOL-20") == ["drwxrwxrwt"]


@pytest.mark.conformance("VOL-21")
def test_host_path_is_read_and_written(cluster):
    directory = cluster.base / "shown"
    directory.mkdir(mode=0o777)
    volume = {"hostPath": {"path": str(directory), "type": "Directory"}}
    cluster.write("vol-21.yaml", text(pod("vol-21", "", volume, spec={"containers": SHARED})))
    found = cluster.wait_pod("vol-21", running, "Running")
    cluster.wait(lambda: cluster.output(found, "reader") == "from the writer\n", "the reader's output")
    assert (directory / "f").read_text() == "from the writer\n"
    cluster.remove("vol-21.yaml")
    cluster.wait(lambda: cluster.pod("vol-21") is None, "the pod to be gone")
    assert (directory / "f").read_text() == "from the writer\n"


@pytest.mark.conformance("VOL-22")
def test_host_path_sub_path(cluster):
    directory = cluster.base / "sub"
    directory.mkdir(mode=0o777)
    mounts = [
        {"name": "v", "mountPath": "/sub", "subPath": "sub-path"},
        {"name": "v", "mountPath": "/v"},
    ]
    script = "echo written > /sub/file; cat /v/sub-path/file"
    one = pod("vol-22", script, {"hostPath": {"path": str(directory)}}, container={"volumeMounts": mounts})
    cluster.write("vol-22.yaml", text(one))
    assert printed(cluster, "VOL-22") == ["written"]
    assert (directory / "sub-path" / "file").read_text() == "written\n"


@pytest.mark.parametrize("row", [pytest.param(row, marks=pytest.mark.conformance(row), id=row) for row in PROJECTIONS])
def test_projected_files(cluster, row):
    assert printed(cluster, row) == PROJECTIONS[row][3]


@pytest.mark.parametrize("row", [pytest.param(row, marks=pytest.mark.conformance(row), id=row) for row in RESOURCES])
def test_resources_in_files(cluster, row):
    assert re.fullmatch(RESOURCES[row][2], cluster.output(cluster.wait_pod(lower(row), succeeded, row, 60)))


@pytest.mark.conformance("CMV-10")
def test_config_map_change_is_seen_without_restart(cluster):
    found = cluster.wait_pod("cmv-10", running, "Running")
    file = cluster.container_process(found) / "root/v/data-1"
    assert file.read_text() == "value-1"
    cluster.write("cmv-10.yaml", PODS["cmv-10"].replace("value-1", "value-2"))
    cluster.wait(lambda: file.read_text() == "value-2", "the new value")
    assert cluster.pod("cmv-10")["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize(
    ("name", "make"),
    [
        pytest.param("cmv-12", config_map, marks=pytest.mark.conformance("CMV-12"), id="CMV-12"),
        pytest.param("cmv-20", secret, marks=pytest.mark.conformance("CMV-20"), id="CMV-20"),
    ],
)
def test_optional_object_comes_changes_and_goes(cluster, name, make):
    found = cluster.wait_pod(name, running, "Running")
    directory = cluster.container_process(found) / "root/v"

    def shown() -> dict[str, str]:
        try:
            return {entry.name: entry.read_text() for entry in directory.iterdir() if not entry.name.startswith("..")}
        except OSError:
            return {"": "changing"}

    assert shown() == {}
    for data in ({"one": "1", "two": "2"}, {"two": "3", "three": "4"}):
        cluster.write(f"{name}-object.yaml", text(make("absent", data)))
        cluster.wait(lambda data=data: shown() == data, f"{data} in the volume")
    cluster.remove(f"{name}-object.yaml")
    cluster.wait(lambda: shown() == {}, "the files to be gone")
    assert cluster.pod(name)["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize(
    ("number", "edited", "before", "after"),
    [
        pytest.param(
            27,
            {"labels": {**LABELS, "key3": "value3"}},
            'key2="value2"',
            'key1="value1"\nkey2="value2"\nkey3="value3"',
            marks=pytest.mark.conformance("CMV-27"),
        ),
        pytest.param(
            28,
            {"annotations": {"builder": "foo"}},
            'builder="bar"',
            'builder="foo"',
            marks=pytest.mark.conformance("CMV-28"),
        ),
    ],
)
def test_labels_and_annotations_change_in_files(cluster, number, edited, before, after):
    name = f"cmv-{number}"
    found = cluster.wait_pod(name, running, "Running")
    file = cluster.container_process(found) / "root/v/data-1"
    assert before in file.read_text()
    cluster.write(f"{name}.yaml", labelled(number, **edited))
    cluster.wait(lambda: after in file.read_text(), "the new text")
    field, values = next(iter(edited.items()))
    changed = cluster.wait_pod(name, lambda p: values.items() <= p["metadata"][field].items(), "the pod's new metadata")
    assert changed["metadata"]["uid"] == found["metadata"]["uid"]
    assert (
        changed["status"]["containerStatuses"][0]["containerID"]
        == found["status"]["containerStatuses"][0]["containerID"]
    )


def test_edited_pod_with_a_uid_of_its_own_restarts_only_what_has_another_image(cluster):
    def make(word: str, image: str) -> str:
        one = pod("own-uid", f"echo {word}; sleep 1000", DISK, metadata={"uid": UID.format("00")})
        one["spec"]["containers"][0]["image"] = image
        return text(one)

    def says(word: str) -> bool:
        found = cluster.pod("own-uid")
        if found is None or "running" not in found["status"]["containerStatuses"][0]["state"]:
            return False
        count = found["status"]["containerStatuses"][0]["restartCount"]
        return cluster.log(found, found["spec"]["containers"][0]["name"], count).endswith(f" {word}\n")

    cluster.write("own-uid.yaml", make("one", "host"))
    cluster.wait(lambda: says("one"), "the first output")
    first = cluster.pod("own-uid")
    cluster.write("own-uid.yaml", make("two", "host"))
    cluster.wait_pod("own-uid", lambda p: "two" in json.dumps(p["spec"]), "the edit in the spec")
    cluster.write("own-uid.yaml", make("three", "host:2"))
    cluster.wait(lambda: says("three"), "the output of the new container")
    last = cluster.pod("own-uid")["status"]
    assert last["podIP"] == first["status"]["podIP"]
    assert last["containerStatuses"][0]["restartCount"] == 1
