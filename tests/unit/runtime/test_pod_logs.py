"""Links to logs that lead nowhere go, but not those of starts that are under way; missing ones come back."""

from __future__ import annotations

from pathlib import Path

from minikubelet.api.types import Container, ObjectMeta, Pod, PodSpec
from minikubelet.runtime.pod_logs import PodLogs


def make_pod(uid: str) -> Pod:
    meta = ObjectMeta(name="p", namespace="n", uid=uid)
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=PodSpec(containers=[Container(name="c", image="i")]))


def test_dead_links_go_but_for_starts_that_are_under_way(tmp_path: Path) -> None:
    logs = PodLogs(str(tmp_path))
    for uid in ("dead", "starting"):
        logs.link(make_pod(uid), "c", uid, logs.path(make_pod(uid), "c", 0))
    logs.remove_dead_links(lambda uid: uid == "starting")
    assert [one.name for one in (tmp_path / "containers").iterdir()] == ["p_n_c-starting.log"]


def test_only_an_instance_with_a_log_gets_its_link_again(tmp_path: Path) -> None:
    logs = PodLogs(str(tmp_path))
    pod = make_pod("u")
    logs.link(pod, "c", "1", logs.path(pod, "c", 0))
    link = tmp_path / "containers" / "p_n_c-1.log"
    link.unlink()
    logs.link_again(pod, "c", "1", 0)
    assert not link.is_symlink()
    Path(logs.path(pod, "c", 0)).write_text("x\n")
    for _ in range(2):
        logs.link_again(pod, "c", "1", 0)
        assert link.read_text() == "x\n"
