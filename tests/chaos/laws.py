"""What must hold after every round of chaos, whatever was killed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from minikubelet.lifecycle.observed import PodUID
from minikubelet.runtime.network import names as network_names
from tests.chaos.pods import ChaosPod

if TYPE_CHECKING:
    from tests.conftest import Node

Json = dict[str, Any]
_LINE = re.compile(r"^\S+ (?:stdout|stderr) F line (\d+)$")
_TITLE = re.compile(r"minikubelet: pause default/(\S+)-n1\b")
_WRITE_S: Final = 3.0  # nobody is still writing a file that is older
LOG_FILES: Final = 5  # of one instance, the one that is written included


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
    """Return what is there and belongs to no wanted pod, or to one that has ended."""
    found = {name: node.pod(name) for name in wanted}
    uids = {pod["metadata"]["uid"]: name for name, pod in found.items() if pod is not None}
    running = {uid: name for uid, name in uids.items() if not wanted[name].ends}
    problems = [*_leaked_files(node, uids), *_leaked_network(node, running, wanted, found), *_strays(node)]
    mounts = Path("/proc/mounts").read_text().splitlines()
    problems += [
        f"mount {line}"
        for line in mounts
        if f"{node.state_dir}/pods/" in line and not any(uid in line for uid in running)
    ]
    titles = Counter(pod_of(process) for process in children_of(node)["pause"])
    for name, number in titles.items():
        if name not in running.values() or number > 1:
            problems.append(f"{number} pause processes of {name}")
    problems += [f"no pause process of {name}" for name in running.values() if not titles[name]]
    for top, directories, _ in os.walk("/sys/fs/cgroup"):  # passes over what other nodes remove meanwhile
        if f"/kubepods-{node.bridge}" in top:
            strange = [name for name in directories if name.startswith("pod") and name[3:] not in running]
            problems += [f"cgroup {top}/{name}" for name in strange]
    return problems


def wait_for_no_leaks(node: Node, wanted: Mapping[str, ChaosPod]) -> None:
    """Wait until there is nothing that belongs to no wanted pod: a verdict's file goes a moment after the pod."""
    try:
        node.wait(lambda: not leaks(node, wanted), "nothing to be left")
    except AssertionError as error:
        raise AssertionError(f"{leaks(node, wanted)}: {error}") from None


def _leaked_files(node: Node, uids: Mapping[str, str]) -> list[str]:
    """Return files and directories of pods that are not there, and halves of writes that nobody finishes."""
    problems = [
        f"state directory of {entry.name}" for entry in (node.state_dir / "pods").iterdir() if entry.name not in uids
    ]
    problems += [
        f"network record {entry.name}"
        for entry in (node.state_dir / "network").glob("*.json")
        if not any(uid in entry.name for uid in uids) and re.search(r"[0-9a-f]{32}", entry.name)
    ]
    problems += [f"socket {entry.name}" for entry in (node.run_dir / "pauses").glob("*.sock") if entry.stem not in uids]
    files = {path.name for path in node.manifests.glob("*.yaml")}
    problems += [
        f"verdict {entry.name}"
        for entry in (node.run_dir / "manifests").glob("*.txt")
        if entry.name.removesuffix(".txt") not in files
    ]
    halves = (path for top in (node.run_dir, node.state_dir) for path in top.glob("*/*.tmp"))
    problems += [f"half-written {path}" for path in halves if _age_s(path) > _WRITE_S]
    for entry in (node.log_dir / "pods").glob("*"):
        if entry.name.rpartition("_")[2] not in uids:
            problems.append(f"log directory {entry.name}")
    for link in (node.log_dir / "containers").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            target = os.readlink(link)
            if not any(uid in target for uid in uids):
                problems.append(f"link {link.name} to the log of no pod")
            elif not os.path.exists(target):
                problems.append(f"link {link.name} to a log that is not there")
    return problems


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _leaked_network(
    node: Node, running: Mapping[str, str], wanted: Mapping[str, ChaosPod], found: Mapping[str, Json | None]
) -> list[str]:
    """Return links, pinned namespaces and rules that no running pod has, or that a running pod lacks."""
    prefix = network_names.link_prefix(node.bridge)
    links = {name.partition("@")[0] for name in os.listdir("/sys/class/net") if name.startswith(prefix)}
    due = {network_names.link_name(node.bridge, PodUID(uid)) for uid in running}
    problems = [f"link {name} of no pod" for name in links - due]
    problems += [f"link {name} is missing" for name in due - links]
    pin = network_names.netns_prefix(node.bridge)
    pins = {path.name for path in Path("/run/netns").glob(f"{pin}*")}
    named = {network_names.netns_name(node.bridge, f"default/{name}-n1", PodUID(uid)) for uid, name in running.items()}
    problems += [f"network namespace {name} of no pod" for name in pins - named]
    problems += [f"network namespace {name} is missing" for name in named - pins]
    ports = {
        (pod.host_port, found[name]["status"].get("podIP", ""))  # type: ignore[index]  # running pods were found
        for name, pod in wanted.items()
        if pod.host_port and name in running.values()
    }
    table = subprocess.run(
        ["nft", "list", "table", "inet", network_names.table_name(node.bridge)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    ruled = {(int(port), ip) for port, ip in re.findall(r"\btcp \. (300\d\d) : ([\d.]+) \. 80\b", table)}
    if table and ruled != ports:
        problems.append(f"rules for {sorted(ruled)} where {sorted(ports)} are due")
    return problems


def _strays(node: Node) -> list[str]:
    """Return processes in the groups of pods that belong to no living pause: they outlived their own."""
    pauses = set(children_of(node)["pause"])
    parents = {process: _parent(process) for process in _processes()}
    problems: list[str] = []
    for process in _grouped(node):
        ancestor = process
        while ancestor > 1 and ancestor not in pauses:
            ancestor = parents.get(ancestor, 0)
        if ancestor == 1 and _state(process) not in ("Z", "X", ""):
            problems.append(f"process {process} without its pause")
    return problems


def _grouped(node: Node) -> set[int]:
    found: set[int] = set()
    for top, _, files in os.walk("/sys/fs/cgroup"):
        if f"/kubepods-{node.bridge}" in top and "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                found.update(int(one) for one in Path(top, "cgroup.procs").read_text().split())
    return found


def broken_logs(node: Node, wanted: Mapping[str, ChaosPod]) -> list[str]:
    """Return what the apps said of broken laws, and logs in which a line is missing or doubled."""
    problems: list[str] = []
    for _ in range(3):  # a log that is rotated while it is read looks broken
        problems = [one for path in _logs(node) for one in _broken_log(path)]
        if not problems:
            break
        time.sleep(0.2)
    for name, wish in wanted.items():
        pod = node.pod(name)
        if pod is None or not wish.ends or pod["status"]["phase"] != "Succeeded":
            continue
        meta, (main,) = pod["metadata"], pod["status"]["containerStatuses"]
        path = node.log_dir / "pods" / f"default_{meta['name']}_{meta['uid']}" / "main" / f"{main['restartCount']}.log"
        numbers = [int(found[1]) for text in _lines(path) if (found := _LINE.match(text)) is not None]
        if not numbers or numbers[-1] != wish.lines:
            problems.append(f"{path}: ends with line {numbers[-1:]} of {wish.lines}")
    return problems


def _logs(node: Node) -> list[Path]:
    return sorted((node.log_dir / "pods").glob("*/*/*.log"))


def _lines(path: Path) -> list[str]:
    """Return the lines of a log with its rotated parts."""
    beside = {one.name.removesuffix(".gz"): one for one in sorted(path.parent.glob(f"{path.name}.*"))}
    texts: list[str] = []
    for name, part in sorted(beside.items()):
        if not name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):  # compressed or removed meanwhile: looked at again
                data = gzip.decompress(part.read_bytes()) if part.suffix == ".gz" else part.read_bytes()
                texts += data.decode(errors="replace").splitlines()
    with contextlib.suppress(FileNotFoundError):
        texts += path.read_text(errors="replace").splitlines()
    return texts


def _broken_log(path: Path) -> list[str]:
    problems: list[str] = []
    rotated = {one.name.removesuffix(".gz") for one in path.parent.glob(f"{path.name}.*")}
    expected = 0 if len(rotated) >= LOG_FILES - 1 else 1  # 0: the oldest part may be gone
    for text in _lines(path):
        if "VIOLATION" in text:
            problems.append(f"{path}: {text}")
        found = _LINE.match(text)
        if found is not None:
            if expected and int(found[1]) != expected:
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


def causeless_restarts(
    node: Node, wanted: Mapping[str, ChaosPod], hits: Mapping[str, int], excused: Collection[str]
) -> list[str]:
    """Return containers that were restarted more often than a kill hit their pod.

    Args:
        node: The node.
        wanted: The pods; those that end by themselves are passed over.
        hits: How often each pod was hit in its life, or more.
        excused: UIDs of pods to which something else happened.
    """
    problems: list[str] = []
    for name, wish in wanted.items():
        pod = node.pod(name)
        if pod is None or pod["metadata"]["uid"] in excused or wish.kind in ("crashy", "retried"):
            continue
        status = pod["status"]
        for one in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
            if one["restartCount"] > hits.get(name, 0):
                problems.append(f"{name}/{one['name']}: {one['restartCount']} restarts, {hits.get(name, 0)} kills")
    return problems


def too_many_starts(node: Node, wanted: Mapping[str, ChaosPod], excused: Collection[str]) -> list[str]:
    """Return containers of which more starts were told than there are instances: an event was told twice."""
    told: dict[tuple[str, str], dict[str, int]] = {}
    for line in (node.state_dir / "events.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):  # it is being written
            event = json.loads(line)
            involved = event["involvedObject"]
            if event["reason"] == "Started":
                key = involved["uid"], involved.get("fieldPath", "")
                told.setdefault(key, {})[event["metadata"]["name"]] = event["count"]
    problems: list[str] = []
    for name in wanted:
        pod = node.pod(name)
        if pod is None or pod["metadata"]["uid"] in excused:
            continue
        uid, status = pod["metadata"]["uid"], pod["status"]
        for group, field in (("initContainerStatuses", "initContainers"), ("containerStatuses", "containers")):
            for one in status.get(group, ()):
                starts = sum(told.get((uid, f"spec.{field}{{{one['name']}}}"), {}).values())
                if starts > one["restartCount"] + 1:
                    problems.append(f"{name}/{one['name']}: {starts} starts told, {one['restartCount']} restarts")
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


def internal_errors(node: Node) -> list[str]:
    """Return ends of the daemon that nobody thought of: a fault may end it, but with a reason."""
    lines = (node.base / "daemon.log").read_text(errors="replace").splitlines()
    return [line for line in lines if line.startswith("minikubelet: internal error")]


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
    # A child of a pause bears its title, too, until it has become its program, or for as long as it compresses a log.
    found["pause"] = [process for process in found["pause"] if _parent(process) not in pauses]
    pauses = set(found["pause"])
    found["container"] = [process for process in _processes() if _parent(process) in pauses]
    return found


def pod_of(process: int) -> str:
    """Return the name of the pod whose pause a process is, or is a child of; "" for another."""
    for one in (process, _parent(process)):
        with contextlib.suppress(OSError):
            found = _TITLE.search(Path(f"/proc/{one}/cmdline").read_bytes().decode(errors="replace"))
            if found is not None:
                return found[1]
    return ""


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


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
