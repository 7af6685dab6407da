"""What must hold after every round of chaos, whatever was killed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.pods import ChaosPod

if TYPE_CHECKING:
    from tests.conftest import Node

Json = dict[str, Any]
_LINE = re.compile(r"^\S+ (?:stdout|stderr) F line (\d+)$")


def unsettled(node: Node, wanted: Mapping[str, ChaosPod]) -> str:
    """Say what is not yet as wanted; empty when all is."""
    for name, pod in wanted.items():
        found = node.pod(name)
        if found is None:
            return f"{name} has no status"
        if found["metadata"]["annotations"].get("edition") != str(pod.edition):
            return f"{name} is not of edition {pod.edition}"
        if "deletionTimestamp" in found["metadata"]:
            return f"{name} terminates"
        status = found["status"]
        if pod.ends and status["phase"] not in ("Succeeded", "Failed"):
            return f"{name} has not ended"
        if not pod.ends and pod.kind != "crashy" and not _runs(status):
            return f"{name} does not run"
        if pod.kind == "crashy" and status["phase"] != "Running":
            return f"{name} is {status['phase']}"
    listed = {path.stem for path in (node.run_dir / "status").glob("*.json")}
    strange = listed - {f"default_{name}-n1" for name in wanted}
    return f"{sorted(strange)} still listed" if strange else ""


def _runs(status: Json) -> bool:
    sidecars = [one for one in status.get("initContainerStatuses", ()) if one["name"] == "helper"]
    return all("running" in one["state"] for one in [*status.get("containerStatuses", ()), *sidecars]) and bool(
        status.get("containerStatuses")
    )


def leaks(node: Node, wanted: Mapping[str, ChaosPod]) -> list[str]:
    """Return what is there and belongs to no wanted pod."""
    found = [node.pod(name) for name in wanted]
    uids = {pod["metadata"]["uid"] for pod in found if pod is not None}
    problems = [
        f"state directory of {entry.name}" for entry in (node.state_dir / "pods").iterdir() if entry.name not in uids
    ]
    problems += [
        f"network record {entry.name}"
        for entry in (node.state_dir / "network").glob("*.json")
        if not any(uid in entry.name for uid in uids) and re.search(r"[0-9a-f]{32}", entry.name)
    ]
    mounts = Path("/proc/mounts").read_text().splitlines()
    problems += [
        f"mount {line}" for line in mounts if f"{node.state_dir}/pods/" in line and not any(uid in line for uid in uids)
    ]
    for process, text in _processes().items():
        if text.startswith("minikubelet: pause default/") and _belongs(process, node):
            if not any(f"default/{name}-n1" in text for name in wanted):
                problems.append(f"process {process} {text}")
    for entry in (node.log_dir / "pods").glob("*"):
        if entry.name.rpartition("_")[2] not in uids:
            problems.append(f"log directory {entry.name}")
    for link in (node.log_dir / "containers").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            target = os.readlink(link)
            if not any(uid in target for uid in uids):
                problems.append(f"link {link.name} to the log of no pod")
    for top, names, _ in os.walk("/sys/fs/cgroup"):  # passes over what other nodes remove meanwhile
        if f"/kubepods-{node.bridge}" in top:
            strange = [name for name in names if name.startswith("pod") and name[3:] not in uids]
            problems += [f"cgroup {top}/{name}" for name in strange]
    return problems


def broken_logs(node: Node) -> list[str]:
    """Return what the apps said of broken laws, and logs in which a line is missing or doubled."""
    problems: list[str] = []
    for path in sorted((node.log_dir / "pods").glob("*/*/*.log")):
        expected = 1
        for text in path.read_text(errors="replace").splitlines():
            if "VIOLATION" in text:
                problems.append(f"{path}: {text}")
            found = _LINE.match(text)
            if found is not None:
                if int(found[1]) != expected:
                    problems.append(f"{path}: line {found[1]} where {expected} was due")
                expected = int(found[1]) + 1
    return problems


def unexplained_restarts(node: Node, wanted: Mapping[str, ChaosPod], before: dict[str, int]) -> list[str]:
    """Return restart counts that fell, or that no log file explains; notes the counts for the next round."""
    problems: list[str] = []
    known = dict(before)
    before.clear()  # a pod that is away for a round may come back as a new one of the same UID
    for name in wanted:
        pod = node.pod(name)
        if pod is None:
            continue
        meta, status = pod["metadata"], pod["status"]
        for one in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
            key, count = f"{meta['uid']}/{one['name']}", one["restartCount"]
            if count < known.get(key, 0):
                problems.append(f"{name}/{one['name']}: restart count fell from {known[key]} to {count}")
            before[key] = count
            directory = node.log_dir / "pods" / f"default_{meta['name']}_{meta['uid']}" / one["name"]
            numbers = [int(path.stem) for path in directory.glob("*.log") if path.stem.isdigit()]
            if numbers and max(numbers) > count + 1:
                problems.append(f"{name}/{one['name']}: log {max(numbers)} with restart count {count}")
    return problems


def changed_ends(node: Node, wanted: Mapping[str, ChaosPod], ends: dict[str, str]) -> list[str]:
    """Return pods whose terminal phase changed; notes terminal phases for the next round."""
    problems: list[str] = []
    for name in wanted:
        pod = node.pod(name)
        if pod is None:
            continue
        uid, phase = pod["metadata"]["uid"], pod["status"]["phase"]
        if uid in ends and phase != ends[uid]:
            problems.append(f"{name}: ended as {ends[uid]}, then {phase}")
        if phase in ("Succeeded", "Failed"):
            ends[uid] = phase
    return problems


def settled_statuses(node: Node, wanted: Mapping[str, ChaosPod]) -> dict[str, Json]:
    """Return the statuses that only change when something happens to the pod: not those of pods that crash by plan."""
    found = {name: node.pod(name) for name, pod in wanted.items() if pod.kind != "crashy"}
    return {name: pod["status"] for name, pod in found.items() if pod is not None}


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Return where statuses differ, as `pod: field`."""
    problems: list[str] = []
    for name in before.keys() & after.keys():
        for key in before[name].keys() | after[name].keys():
            if before[name].get(key) != after[name].get(key):
                was, is_now = before[name].get(key), after[name].get(key)
                problems.append(f"{name}: {key} was {was}, a fresh daemon wrote {is_now}")
    return problems


def held_descriptors(node: Node, wanted: Mapping[str, ChaosPod]) -> list[str]:
    """Return processes of ours that hold more descriptors than their work explains."""
    problems: list[str] = []
    if node.process is not None:
        problems += _too_many(node.process.pid, "daemon", 60 + 6 * len(wanted))
    for process in children_of(node)["pause"]:
        problems += _too_many(process, f"pause {process}", 40)
    return problems


def _too_many(process: int, what: str, limit: int) -> list[str]:
    try:
        held = os.listdir(f"/proc/{process}/fd")
    except OSError:
        return []
    return [f"{what} holds {len(held)} descriptors"] if len(held) > limit else []


def children_of(node: Node) -> dict[str, list[int]]:
    """Return the node's processes by what they are: pauses, forkserver, containers."""
    daemon = node.process.pid if node.process else -1
    found: dict[str, list[int]] = {"pause": [], "forkserver": [], "container": []}
    for process, text in _processes().items():
        if text.startswith("minikubelet: forkserver") and _parent(process) == daemon:
            found["forkserver"].append(process)
        elif text.startswith("minikubelet: pause ") and _belongs(process, node):
            found["pause"].append(process)
    pauses = set(found["pause"])
    found["container"] = [process for process in _processes() if _parent(process) in pauses]
    return found


def _belongs(process: int, node: Node) -> bool:
    """Tell whether a pause is this node's: its network is pinned under the bridge's name, its journal below base."""
    try:
        open_files = f"/proc/{process}/fd"
        return any(os.readlink(f"{open_files}/{fd}").startswith(str(node.base)) for fd in os.listdir(open_files))
    except OSError:
        return False


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1


def _processes() -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return found
