"""Get, list and watch over the socket, in every form, and what the node says of itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.integration.server.conftest import TABLE, Api, pod_path

pytestmark = [pytest.mark.root, pytest.mark.anyio, pytest.mark.usefixtures("pods")]

PODS = "/api/v1/namespaces/default/pods"


def names(body: dict[str, Any]) -> list[str]:
    return [one["metadata"]["name"] for one in body["items"]]


async def test_lists_and_selectors(api: Api) -> None:
    assert names(await api.get("/api/v1/pods")) == ["job-n1", "pair-n1", "web-n1"]
    for query, expected in (
        ({"labelSelector": "app=web"}, ["web-n1"]),
        ({"labelSelector": "app in (web, job),!tier"}, ["job-n1"]),
        ({"labelSelector": "app notin (web)"}, ["job-n1", "pair-n1"]),
        ({"fieldSelector": "metadata.name=web-n1,metadata.namespace=default"}, ["web-n1"]),
        ({"fieldSelector": "status.phase!=Running"}, ["job-n1"]),
        ({"fieldSelector": "spec.nodeName=elsewhere"}, []),
    ):
        assert names(await api.get(PODS, **query)) == expected, query
    status, body = await api.ask(PODS, fieldSelector="spec.colour=blue")
    assert (status, body["message"]) == (400, 'field label not supported: "spec.colour"')


async def test_pages_are_of_one_version(api: Api) -> None:
    first = await api.get(PODS, limit=2)
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["job-n1", "pair-n1"], 1)
    api.node.write("later.yaml", _pod("later"))
    api.node.wait_pod("later", lambda pod: pod["status"]["phase"] == "Running", "Running")
    token = first["metadata"]["continue"]
    second = await api.get(PODS, limit=2, **{"continue": token})
    assert names(second) == ["web-n1"]  # `later` came after the first page
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]
    exact = await api.get(PODS, resourceVersion=first["metadata"]["resourceVersion"], resourceVersionMatch="Exact")
    assert "later-n1" not in names(exact)
    status, body = await api.ask(PODS, **{"continue": "nonsense"})
    assert (status, body["reason"]) == (400, "BadRequest")
    api.node.remove("later.yaml")
    api.node.wait(lambda: api.node.pod("later") is None, "the pod to be gone")


async def test_tables_have_kubectls_columns(api: Api) -> None:
    expected = {
        "pods": "Name Ready Status Restarts Age IP* Node* Nominated_Node* Readiness_Gates*",
        "events": "Last_Seen Type Reason Object Subobject* Source* Message First_Seen* Count* Name*",
        "nodes": "Name Status Roles Age Version Internal-IP* External-IP* OS-Image* Kernel-Version* Container-Runtime*",
        "namespaces": "Name Status Age",
        "configmaps": "Name Data Age",
        "secrets": "Name Type Data Age",
    }
    for kind, columns in expected.items():
        table = await api.get(f"/api/v1/{kind}", accept=TABLE)
        found = [one["name"].replace(" ", "_") + "*" * one["priority"] for one in table["columnDefinitions"]]
        assert " ".join(found) == columns
        assert all(len(row["cells"]) == len(found) for row in table["rows"])
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    rows = {row["cells"][0]: row["cells"] for row in (await api.get(PODS, accept=TABLE))["rows"]}
    assert rows["web-n1"][1:4] == ["1/1", "Running", "0"]
    assert rows["job-n1"][1:3] == ["0/1", "Error"]
    whole = await api.get(PODS, accept=TABLE, includeObject="Object")
    assert whole["rows"][0]["object"]["kind"] == "Pod"
    one = await api.get(pod_path("web"), accept=TABLE)
    assert [row["cells"][0] for row in one["rows"]] == ["web-n1"]
    metadata = await api.get(PODS, accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
    assert (metadata["kind"], "spec" in metadata["items"][0]) == ("PartialObjectMetadataList", False)


async def test_watch_from_a_version_with_selectors_and_tables(api: Api) -> None:
    version = (await api.get(PODS))["metadata"]["resourceVersion"]
    label = {"labelSelector": "app=watched"}
    async with (
        api.watch(PODS, resourceVersion=version, **label) as following,
        api.watch(PODS, resourceVersion=version, accept=TABLE, **label) as rows,
    ):
        api.node.write("watched.yaml", _pod("watched"))
        added, row = await following(), await rows()
        assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "watched-n1")
        assert (row["type"], len(row["object"]["rows"]), len(row["object"]["columnDefinitions"])) == ("ADDED", 1, 9)
        assert (await rows())["object"]["columnDefinitions"] == []
        api.node.wait_pod("watched", lambda pod: pod["status"]["phase"] == "Running", "Running")
        api.node.remove("watched.yaml")
        seen = [added]
        while seen[-1]["type"] != "DELETED":
            seen.append(await following())
        versions = [int(one["object"]["metadata"]["resourceVersion"]) for one in seen]
        assert versions == sorted(set(versions))
        assert {one["type"] for one in seen[1:-1]} == {"MODIFIED"}


async def test_watch_sees_an_object_come_into_view_and_leave_it(api: Api) -> None:
    api.node.write("phased.yaml", _pod("phased", "until [ -e /tmp/seen ]; do sleep 0.05; done"))
    async with api.watch(PODS, fieldSelector="status.phase=Running,metadata.name=phased-n1") as following:
        assert (await following())["type"] == "ADDED"
        await api.run("phased", "touch", "/tmp/seen")
        seen = await following()
        while seen["type"] == "MODIFIED":
            seen = await following()
        assert (seen["type"], seen["object"]["status"]["phase"]) == ("DELETED", "Running")
    api.node.remove("phased.yaml")
    api.node.wait(lambda: api.node.pod("phased") is None, "the pod to be gone")


async def test_watch_begins_with_the_state_and_ends_in_time(api: Api) -> None:
    for version in ({}, {"resourceVersion": "0"}):
        async with api.watch(PODS, timeoutSeconds=1, fieldSelector="metadata.name=web-n1", **version) as following:
            assert (await following())["type"] == "ADDED"
            assert await following() is None
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with api.watch(PODS, timeoutSeconds=1, **options) as following:
        seen = [await following() for _ in range(4)]
        assert [one["type"] for one in seen] == ["ADDED"] * 3 + ["BOOKMARK"]
        assert seen[3]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    status, body = await api.ask(PODS, watch="true", sendInitialEvents="true")
    assert (status, "resourceVersionMatch" in body["message"]) == (422, True)


async def test_versions_that_cannot_be_had(api: Api) -> None:
    async with api.watch(PODS, resourceVersion="5") as following:
        error = await following()
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await following() is None
    status, body = await api.ask(PODS, resourceVersion=str(2**62))
    assert (status, body["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
    status, body = await api.ask(PODS, resourceVersion="abc")
    assert (status, body["reason"]) == (400, "BadRequest")
    status, body = await api.ask(PODS, resourceVersion="5", resourceVersionMatch="Exact")
    assert (status, body["reason"]) == (410, "Expired")


async def test_what_is_not_there(api: Api) -> None:
    for path, message in (
        ("/api/v1/pods/x/y/z", "the server could not find the requested resource"),
        ("/api/v1/namespaces/default/nodes", "the server could not find the requested resource"),
        (f"{PODS}/nope", 'pods "nope" not found'),
        ("/api/v1/nodes/other", 'nodes "other" not found'),
    ):
        status, body = await api.ask(path)
        assert (status, body["reason"], body["message"]) == (404, "NotFound", message)
    status, body = await api.ask(PODS, accept="application/vnd.kubernetes.protobuf")
    assert (status, body["reason"]) == (406, "NotAcceptable")


async def test_writes_name_the_file_to_edit(api: Api) -> None:
    place = str(api.node.manifests / "pods.yaml")
    for method in ("DELETE", "PUT", "PATCH"):
        status, body = await api.ask(pod_path("pair"), method=method)
        assert (status, body["reason"]) == (403, "Forbidden")
        assert f"{place}:14" in body["message"]
    _, body = await api.ask("/api/v1/namespaces/default/configmaps/settings", method="DELETE")
    assert f"to delete it, remove the manifest file {place}" in body["message"]
    status, body = await api.ask(PODS, method="POST")
    assert (status, str(api.node.manifests) in body["message"]) == (403, True)
    status, body = await api.ask("/api/v1/nodes/n1", method="PATCH")
    assert (status, "'minikubelet drain' ends its pods" in body["message"]) == (403, True)
    status, body = await api.ask("/api/v1/namespaces/default/pods/web-n1/ephemeralcontainers", method="PATCH")
    assert (status, "'minikubelet debug POD'" in body["message"]) == (403, True)
    index = await api.get("/openapi/v3")
    document = await api.get(index["paths"]["api/v1"]["serverRelativeURL"])
    assert "io.k8s.api.core.v1.Pod" in document["components"]["schemas"]
    pod = await api.get("/api/v1/namespaces/default/pods/web-n1")
    assert pod["metadata"]["creationTimestamp"] == pod["status"]["startTime"]
    status, body = await api.ask("/api/v1/bindings", method="POST")
    assert (status, body["reason"]) == (405, "MethodNotAllowed")


async def test_node_namespaces_and_objects(api: Api) -> None:
    node = await api.get("/api/v1/nodes/n1")
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"
    assert int(node["status"]["capacity"]["cpu"]) >= 1
    assert node["status"]["capacity"]["memory"].endswith("Ki")
    assert node["spec"]["podCIDR"] == api.node.cidr
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
    assert {one["type"] for one in node["status"]["addresses"]} == {"InternalIP", "Hostname"}
    api.node.write("far.yaml", _pod("far").replace("name: far", "name: far, namespace: far-away"))
    async with api.watch("/api/v1/namespaces") as following:
        seen = [(await following())["object"]["metadata"]["name"] for _ in range(2)]
        assert set(seen) == {"default", "far-away"}
        api.node.remove("far.yaml")
        gone = await following()
        assert (gone["type"], gone["object"]["metadata"]["name"]) == ("DELETED", "far-away")
    settings = await api.get("/api/v1/namespaces/default/configmaps/settings")
    assert settings["data"] == {"colour": "blue", "size": "large"}


async def test_values_of_secrets_are_not_told(api: Api) -> None:
    for path in ("/api/v1/secrets", "/api/v1/namespaces/default/secrets/login", "/minikubelet/v1/manifests"):
        status, body = await api.ask(path)
        text = json.dumps(body)
        assert status == 200
        assert "hunter2" not in text
        assert "aHVudGVyMg" not in text
    secret = await api.get("/api/v1/namespaces/default/secrets/login")
    assert (secret["data"], secret["type"]) == ({"password": ""}, "Opaque")
    assert secret["metadata"]["annotations"]["minikubelet.io/values"] == "withheld"


async def test_discovery_in_all_forms(api: Api) -> None:
    plain = await api.get("/api/v1")
    served = {one["name"]: one for one in plain["resources"]}
    assert served["pods"]["shortNames"] == ["po"]
    assert {"pods/log", "pods/exec", "nodes", "events"} <= served.keys()
    for version in ("v2", "v2beta1"):
        accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        for path, group in (("/api", ""), ("/apis", "metrics.k8s.io")):
            found = await api.get(path, accept=accept)
            assert found["apiVersion"] == f"apidiscovery.k8s.io/{version}"
            assert found["items"][0]["metadata"]["name"] == group
    assert (await api.get("/api"))["kind"] == "APIVersions"
    assert (await api.get("/apis"))["groups"][0]["name"] == "metrics.k8s.io"
    assert (await api.get("/version"))["gitVersion"].startswith("v1.36")


async def test_health(api: Api) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping"):
        assert await api.get(path) == "ok"
    assert "[+]ping ok\n" in await api.get("/readyz", verbose="")
    assert (await api.ask("/livez/nonsense"))[0] == 404


async def test_usage(api: Api) -> None:
    body = await api.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods", labelSelector="app=web")
    assert [one["metadata"]["name"] for one in body["items"]] == ["web-n1"]
    usage = body["items"][0]["containers"][0]["usage"]
    assert usage["cpu"].endswith("n")
    assert int(usage["memory"].removesuffix("Ki")) > 0
    nodes = await api.get("/apis/metrics.k8s.io/v1beta1/nodes")
    assert int(nodes["items"][0]["usage"]["memory"].removesuffix("Ki")) > 0
    summary = await api.get("/stats/summary")
    assert summary["node"]["nodeName"] == "n1"
    web = next(one for one in summary["pods"] if one["podRef"]["name"] == "web-n1")
    assert web["containers"][0]["memory"]["workingSetBytes"] > 0
    assert {one["name"] for one in web["network"]["interfaces"]} >= {"eth0"}


async def test_metrics(api: Api) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[Any]] = {}
    for path in ("/metrics", "/metrics/probes", "/metrics/resource", "/metrics/cadvisor"):
        for family in text_string_to_metric_families(await api.get(path)):
            found.setdefault(path, []).extend(family.samples)
    main: Counter[str] = Counter()
    for one in found["/metrics"]:
        main[one.name] += one.value
    assert main["kubelet_running_pods"] == 2
    assert main["kubelet_started_containers_total"] >= 4
    assert main["minikubelet_file_change_to_start_seconds_count"] >= 3
    work = {one.labels.get("operation_type") for one in found["/metrics"] if "pod_worker_duration" in one.name}
    assert {"create", "sync"} <= work
    assert main["kubelet_restarted_pods_total"] == 0
    assert main["kubelet_pod_start_duration_seconds_count"] >= 2
    cpu = [one for one in found["/metrics/cadvisor"] if one.name == "container_cpu_usage_seconds_total"]
    assert {"web-n1", "pair-n1"} <= {one.labels["pod"] for one in cpu}
    assert any(one.labels["container"] == "main" and one.value > 0 for one in cpu)
    assert any(one.name == "node_cpu_usage_seconds_total" and one.value > 0 for one in found["/metrics/resource"])


async def test_facts_and_manifests(api: Api) -> None:
    api.node.write("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec:\n  containers: []\n")
    await asyncio.to_thread(
        api.node.wait, lambda: (api.node.run_dir / "manifests" / "bad.yaml.txt").exists(), "the verdict"
    )
    items = {one["file"].rsplit("/", 1)[1]: one for one in (await api.get("/minikubelet/v1/manifests"))["items"]}
    assert items["bad.yaml"]["state"] == "refused"
    assert items["bad.yaml"]["problems"][0]["field"] == "spec.containers"
    assert {one["name"] for one in items["pods.yaml"]["pods"]} == {"web-n1", "pair-n1", "job-n1"}
    api.node.remove("bad.yaml")
    facts = await api.get("/minikubelet/v1/namespaces/default/pods/job-n1/facts")
    assert facts["manifest"] == {"file": str(api.node.manifests / "pods.yaml"), "line": 25}
    assert facts["instances"][0]["exit"]["exitCode"] == 4
    assert {one["reason"] for one in facts["events"]} >= {"Created", "Started"}
    assert (await api.get("/configz"))["kubeletconfig"]["nodeName"] == "n1"
    assert len((await api.get("/pods"))["items"]) == 3


def _pod(name: str, command: str = "sleep 1000") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: host, command: [sh, -c, '{command}']}}
"""
