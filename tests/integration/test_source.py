"""A running node and its manifest directory: what is heard, what is refused and where that is told."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Node

pytestmark = pytest.mark.root


def manifest(name: str, *, command: str = "sleep 1000", more: str = "") -> str:
    words = json.dumps(["/bin/sh", "-c", f"trap 'exit 0' TERM; {command} & wait"])
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"
        f"spec:\n  containers:\n  - {{name: main, image: host, command: {words}}}\n{more}"
    )


def is_running(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def restarts(pod: dict[str, Any]) -> int:
    return sum(one["restartCount"] for one in pod["status"]["containerStatuses"])


def container_id(pod: dict[str, Any]) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"])


def verdict(node: Node, name: str) -> str:
    try:
        return (node.run_dir / "manifests" / f"{name}.txt").read_text()
    except FileNotFoundError:
        return ""


def told(node: Node, reason: str) -> list[tuple[str, str, str]]:
    """Wait for events of a reason; return their types and whom they concern."""
    found: list[dict[str, Any]] = []

    def seen() -> bool:
        listed = json.loads(node.cli("get", "events", "-o", "json").stdout)["items"]
        found[:] = [one for one in listed if one["reason"] == reason]
        return bool(found)

    node.wait(seen, f"the event {reason}")
    return [(one["type"], one["involvedObject"]["kind"], one["involvedObject"]["name"]) for one in found]


def test_a_bad_edit_is_told_in_four_places_until_it_is_mended(node: Node) -> None:
    node.write("web.yaml", manifest("web"))
    before = node.wait_pod("web", is_running, "web to run")
    node.write("web.yaml", manifest("web", more="  restartPolicy: Sometimes\n"))
    node.wait(lambda: ": refused" in verdict(node, "web.yaml"), "the refusal's verdict")
    text = verdict(node, "web.yaml")
    assert "web.yaml:7:" in text and "Sometimes" in text
    assert "last good version" in text and "pod default/web-n1" in text
    shown = node.cli("get", "pods")
    assert "web-n1" in shown.stdout and "manifest refused: " in shown.stderr and "web.yaml:7:" in shown.stderr
    assert told(node, "FailedValidation") == [("Warning", "Pod", "web-n1")]
    assert "web.yaml:7:" in (node.base / "daemon.log").read_text()
    assert container_id(node.pod("web") or {}) == container_id(before)
    node.write("web.yaml", manifest("web"))
    node.wait(lambda: ": accepted" in verdict(node, "web.yaml"), "the verdict to be mended")
    assert node.cli("get", "pods").stderr == ""
    assert container_id(node.pod("web") or {}) == container_id(before)


def test_a_new_file_that_is_bad_is_told_of_the_node(node: Node) -> None:
    node.write("bad.yaml", "kind: [")
    node.wait(lambda: ": refused" in verdict(node, "bad.yaml"), "the verdict")
    assert told(node, "FailedParsing") == [("Warning", "Node", "n1")]
    shown = node.cli("get", "pods", "bad")
    assert shown.returncode == 1 and "bad.yaml:2:" in shown.stderr


def test_a_duplicate_is_told_and_the_first_goes_on_over_a_crash(node: Node) -> None:
    node.write("z.yaml", manifest("web"))
    before = node.wait_pod("web", is_running, "web to run")
    node.write("a.yaml", manifest("web", command="sleep 2000"))
    node.wait(lambda: "already defined in" in verdict(node, "a.yaml"), "the duplicate's verdict")
    node.kill()
    node.start()
    node.wait(lambda: "already defined in" in verdict(node, "a.yaml"), "the duplicate's verdict after a crash")
    after = node.wait_pod("web", is_running, "web to be adopted")
    assert container_id(after) == container_id(before)
    (node.manifests / "z.yaml").unlink()
    node.wait_pod("web", lambda one: is_running(one) and container_id(one) != container_id(before), "the other one")


def test_files_that_others_may_write_are_refused(node: Node) -> None:
    path = node.manifests / "open.yaml"
    node.write("open.yaml", manifest("open"))
    node.wait_pod("open", is_running, "open to run")
    path.chmod(0o666)
    node.wait(lambda: "writable by anybody" in verdict(node, "open.yaml"), "the refusal")
    os.chown(path, 12345, 0)
    path.chmod(0o644)
    node.wait(lambda: "owned by uid 12345" in verdict(node, "open.yaml"), "the refusal of the owner")
    assert is_running(node.pod("open") or {})
    os.chown(path, 0, 0)
    node.wait(lambda: ": accepted" in verdict(node, "open.yaml"), "trust again")


def test_a_slow_writer_is_waited_for(node: Node) -> None:
    text = manifest("slow")
    with (node.manifests / "slow.yaml").open("w") as file:
        os.fchmod(file.fileno(), 0o644)
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
            time.sleep(0.1)  # a writer's pace, not a wait for something
        node.wait(lambda: "open for writing" in verdict(node, "slow.yaml"), "the verdict of a file in the making")
        assert node.pod("slow") is None
    node.wait_pod("slow", is_running, "slow to run")
    assert "refused" not in (node.base / "daemon.log").read_text()


def test_an_edit_in_place_replaces_the_pod(node: Node) -> None:
    node.write("web.yaml", manifest("web"))
    before = node.wait_pod("web", is_running, "web to run")
    (node.manifests / "web.yaml").write_text(manifest("web", command="sleep 2000"))
    node.wait_pod(
        "web", lambda one: is_running(one) and one["metadata"]["uid"] != before["metadata"]["uid"], "the edited pod"
    )


def test_an_exchanged_directory_disturbs_no_pod(node: Node) -> None:
    node.write("web.yaml", manifest("web"))
    before = node.wait_pod("web", is_running, "web to run")
    shutil.copytree(node.manifests, node.base / "next")
    shutil.copy(node.base / "next" / "web.yaml", node.base / "next" / "more.yaml")
    (node.base / "next" / "more.yaml").write_text(manifest("more"))
    node.manifests.rename(node.base / "old")
    time.sleep(0.2)  # the directory is missing long enough to be missed
    (node.base / "next").rename(node.manifests)
    node.wait_pod("more", is_running, "the new directory's pod")
    assert container_id(node.pod("web") or {}) == container_id(before)
    shutil.rmtree(node.manifests)
    node.wait(lambda: node.pod("web") is None and node.pod("more") is None, "the pods to go with the directory")
    node.manifests.mkdir(mode=0o755)
    node.write("back.yaml", manifest("back"))
    node.wait_pod("back", is_running, "the pod of the directory that came back")


def test_a_directory_that_becomes_a_link_disturbs_no_pod(node: Node) -> None:
    node.write("web.yaml", manifest("web"))
    before = node.wait_pod("web", is_running, "web to run")
    moved = node.base / "elsewhere"
    node.manifests.rename(moved)
    node.manifests.symlink_to(moved)
    (moved / "more.yaml").write_text(manifest("more"))
    node.wait_pod("more", is_running, "the pod that came by the link")
    assert container_id(node.pod("web") or {}) == container_id(before)
    (moved / "more.yaml").unlink()
    node.wait(lambda: node.pod("more") is None, "the removal behind the link to be heard")


def test_a_directory_that_is_a_link_may_be_exchanged(idle_node: Node, tmp_path: Path) -> None:
    node = idle_node
    node.manifests.rmdir()
    for number in (1, 2):
        (tmp_path / str(number)).mkdir(mode=0o755)
        (tmp_path / str(number) / "web.yaml").write_text(manifest("web", command=f"sleep {number}000"))
    (tmp_path / "..data").symlink_to("1")
    node.manifests.symlink_to(tmp_path / "..data")
    node.start()
    try:
        before = node.wait_pod("web", is_running, "web to run")
        (tmp_path / "..next").symlink_to("2")
        (tmp_path / "..next").rename(tmp_path / "..data")
        node.wait_pod(
            "web", lambda one: is_running(one) and one["metadata"]["uid"] != before["metadata"]["uid"], "the other"
        )
    finally:
        node.stop()
        assert node.leftovers() == []


def test_three_hundred_files_at_once_are_all_judged(node: Node) -> None:
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m%d}\ndata: {a: b}\n"
    for number in range(300):
        node.write(f"m{number}.yaml", config_map % number)
    verdicts = node.run_dir / "manifests"
    node.wait(lambda: len(list(verdicts.glob("*.txt"))) == 300, "300 verdicts")  # and none that is being written
    assert ": accepted" in verdict(node, "m299.yaml")
