"""The control groups of pods: one group a pod, one below it for each container, in the daemon's own subtree only.

Version 2 (one tree) is the norm; version 1 (a tree for each controller) works too. On version 2 a group that holds
processes may not hand controllers to its children: under systemd the pods lie in a scope of their own (see `scope`),
elsewhere the daemon first steps into a leaf of its own. Where no tree is writable, pods run without groups and
`Cgroups.problem` says what is therefore not enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from minikubelet.lifecycle.resources import MAX_SHARES, MIN_SHARES, pod_weight
from minikubelet.linux.faults import point
from minikubelet.runtime.scope import Scope

log = structlog.get_logger(__name__)

# The controllers that Pod fields need; cpuacct is a tree of its own on version 1 and part of cpu on version 2.
_V1_CONTROLLERS: Final = ("cpu", "cpuacct", "memory", "pids", "hugetlb")
_V2_CONTROLLERS: Final = ("cpu", "memory", "pids", "hugetlb")
# Of a node that is not told of another one: the one to a machine.
USUAL_BRIDGE: Final = "minikubelet0"
_REMOVE_DELAYS_S: Final = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupTree:
    """One writable tree: where our subtree lies in it and which controllers it carries (none in a bare tree)."""

    version: int
    base: str
    controllers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupPaths:
    """The directories of one group, one a tree, and the one that a given controller's files are in."""

    directories: tuple[str, ...] = ()
    by_controller: Mapping[str, str] = field(default_factory=dict)
    version: int = 0

    def controller(self, name: str) -> str | None:
        """Return the directory that holds the named controller's files, or None when the tree does not have it."""
        return self.by_controller.get(name)


def group_name(bridge: str) -> str:
    """Return the name of the top group of the node with this bridge, as several may share a machine."""
    return "kubepods" if bridge == USUAL_BRIDGE else f"kubepods-{bridge}"


def find_trees(mountinfo: str, self_cgroup: str) -> list[CgroupTree]:
    """Return the trees that this process lives in, with `base` being its own group.

    Args:
        mountinfo: The text of /proc/self/mountinfo.
        self_cgroup: The text of /proc/self/cgroup.
    """
    own: dict[str, str] = {}
    for line in self_cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    trees: list[CgroupTree] = []
    unified: CgroupTree | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        root, mount_point = left.split()[3:5]
        filesystem, _, options = [*right.split(), "", ""][:3]
        if filesystem == "cgroup":
            wanted = tuple(c for c in options.split(",") if c in _V1_CONTROLLERS and c in own)
            if wanted:
                trees.append(CgroupTree(version=1, base=_below(mount_point, root, own[wanted[0]]), controllers=wanted))
        elif filesystem == "cgroup2" and "" in own and unified is None:
            unified = CgroupTree(version=2, base=_below(mount_point, root, own[""]), controllers=())
    # With version 1 controllers in use the version 2 tree (hybrid set-up) carries none and adds nothing.
    return trees or ([unified] if unified else [])


def _below(mount_point: str, root: str, own: str) -> str:
    relative = os.path.relpath(own, root) if own.startswith(root) else own.lstrip("/")
    return mount_point if relative in (".", "") else os.path.join(mount_point, relative)


class Cgroups:
    """Makes and removes the groups of pods; owner of everything below `<own group>/<name>`."""

    def __init__(self, name: str) -> None:
        """Args: name: Name of the top group, unique for each daemon that shares this process' own group."""
        self._name = name
        self._scope = Scope(f"minikubelet-{name}.scope")
        self._trees: list[CgroupTree] = []
        self._burstable_shares: dict[str, int] = {}
        self._written_shares: dict[str, int] = {}  # by directory of a QoS class
        self.problem: str = ""

    @property
    def version(self) -> int:
        """Return 1 or 2, or 0 when there is no writable tree."""
        return self._trees[0].version if self._trees else 0

    def start(self) -> None:
        """Find the trees and make the top group in each; remember in `problem` what cannot be had."""
        with open("/proc/self/mountinfo") as mountinfo, open("/proc/self/cgroup") as own:
            found = find_trees(mountinfo.read(), own.read())
        problems: list[str] = []
        for tree in found:
            if tree.version == 2 and (scope := self._scope.hold()) is not None:
                tree = replace(tree, base=scope)
            try:
                self._trees.append(self._prepare(tree))
            except OSError as error:
                problems.append(f"{','.join(tree.controllers) or 'cgroup2'}: {error.strerror} ({tree.base})")
        missing = [c for c in ("cpu", "memory", "pids") if not any(c in tree.controllers for tree in self._trees)]
        if missing:
            problems.append(f"no {', '.join(missing)} controller: these limits are not enforced")
        self.problem = "; ".join(problems)
        if self.problem:
            log.warning("cgroups limited", problem=self.problem)

    def _prepare(self, tree: CgroupTree) -> CgroupTree:
        top = os.path.join(tree.base, self._name)
        if tree.version == 1:
            os.makedirs(top, exist_ok=True)
            return CgroupTree(version=1, base=top, controllers=tree.controllers)
        own_leaf = os.path.join(tree.base, self._name + ".daemon")
        available = _read(os.path.join(tree.base, "cgroup.controllers")).split()
        wanted = [c for c in _V2_CONTROLLERS if c in available]
        os.makedirs(top, exist_ok=True)
        if wanted and not _enable(tree.base, wanted):
            # Processes in our own group forbid that: step aside into a leaf, then try again.
            os.makedirs(own_leaf, exist_ok=True)
            _write(os.path.join(own_leaf, "cgroup.procs"), str(os.getpid()))
            if not _enable(tree.base, wanted):
                wanted = []
        if wanted:
            _enable(top, wanted)
        return CgroupTree(version=2, base=top, controllers=tuple(wanted))

    def limit_memory(self, allocatable: int) -> None:
        """Bound what all pods together take to what the node has for them (enforceNodeAllocatable `pods`), in bytes."""
        for tree in self._trees:
            if "memory" not in tree.controllers:
                continue
            path = os.path.join(tree.base, "memory.max" if tree.version == 2 else "memory.limit_in_bytes")
            try:
                _write(path, str(allocatable))
            except OSError as error:  # version 1 refuses less than what is in use
                log.warning("memory of all pods not limited", limit=allocatable, error=str(error))

    def make_pod(self, uid: str, qos: str) -> CgroupPaths:
        """Make the pod's group below its QoS class, as the kubelet names them, and return it."""
        relative = _pod_path(uid, qos)
        for tree in self._trees:
            for directory in _parents(relative):
                path = os.path.join(tree.base, directory)
                point("cgroup.make")
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path)
                    self._written_shares.pop(path, None)
                if tree.version == 2 and tree.controllers:
                    _enable(path, tree.controllers)  # also where it is: a daemon may have died in between
        return self._paths(relative)

    def share(self, uid: str, qos: str, shares: int) -> None:
        """Give the QoS classes their parts of the processors: Burstable what its pods request, BestEffort the least.

        Source: kubelet pkg/kubelet/cm/qos_container_manager_linux.go (v1.36).
        """
        if qos == "Burstable":
            self._burstable_shares[uid] = shares
        self._write_shares()

    def _write_shares(self) -> None:
        total = max(MIN_SHARES, min(MAX_SHARES, sum(self._burstable_shares.values())))
        for tree in self._trees:
            if "cpu" not in tree.controllers:
                continue
            for name, shares in (("burstable", total), ("besteffort", MIN_SHARES)):
                path = os.path.join(tree.base, name)
                if self._written_shares.get(path) == shares:
                    continue  # the kernel weighs all groups anew for each write
                file, value = ("cpu.shares", shares) if tree.version == 1 else ("cpu.weight", pod_weight(shares))
                with contextlib.suppress(FileNotFoundError):  # no pod of that class yet
                    _write(os.path.join(path, file), str(value))
                    self._written_shares[path] = shares

    def make_pause(self, uid: str, qos: str) -> CgroupPaths:
        """Return the group of the pause, made: version 2 lets no process into a group that hands on controllers.

        With version 1 it is the pod's own, as each group costs the kernel up to 0.2 ms for each controller.
        """
        return self.pod(uid, qos) if self.version == 1 else self.make_child(uid, qos, "pause")

    def make_child(self, uid: str, qos: str, name: str) -> CgroupPaths:
        """Make and return one leaf below the pod's group, for a container or the pause."""
        relative = os.path.join(_pod_path(uid, qos), name)
        for tree in self._trees:
            point("cgroup.make")
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(tree.base, relative))
        return self._paths(relative)

    def pod(self, uid: str, qos: str) -> CgroupPaths:
        """Return the pod's group without making it."""
        return self._paths(_pod_path(uid, qos))

    def child(self, uid: str, qos: str, name: str) -> CgroupPaths:
        """Return one leaf of the pod's group without making it."""
        return self._paths(os.path.join(_pod_path(uid, qos), name))

    def _paths(self, relative: str) -> CgroupPaths:
        directories = tuple(os.path.join(tree.base, relative) for tree in self._trees)
        by_controller = {
            controller: directory
            for tree, directory in zip(self._trees, directories, strict=True)
            for controller in tree.controllers
        }
        return CgroupPaths(directories=directories, by_controller=by_controller, version=self.version)

    async def remove_child(self, uid: str, qos: str, name: str) -> None:
        """Remove one leaf; it is empty once its processes are reaped."""
        for directory in self.child(uid, qos, name).directories:
            await _remove_tree(directory)

    async def remove_pod(self, uid: str) -> None:
        """Remove the pod's group with everything below it, under whichever QoS class it lies."""
        if self._burstable_shares.pop(uid, None) is not None:
            self._write_shares()
        for tree in self._trees:
            for qos in ("Guaranteed", "Burstable", "BestEffort"):
                await _remove_tree(os.path.join(tree.base, _pod_path(uid, qos)))

    async def kill_pod(self, uid: str) -> None:
        """Kill whatever is still in a pod's group, under whichever QoS class it lies, and wait for its end."""
        for qos in ("Guaranteed", "Burstable", "BestEffort"):
            paths = self.pod(uid, qos)
            if not paths.directories or not os.path.isdir(paths.directories[0]):
                continue
            for delay in _REMOVE_DELAYS_S:
                if not processes(paths):
                    return
                kill_processes(paths)
                await asyncio.sleep(delay)  # version 1 tells nobody when a group becomes empty

    def known_pods(self) -> set[str]:
        """Return the UIDs of all pods that have a group, for finding leftovers."""
        found: set[str] = set()
        for tree in self._trees:
            for parent in ("", "burstable", "besteffort"):
                with contextlib.suppress(FileNotFoundError):
                    names = os.listdir(os.path.join(tree.base, parent))
                    found.update(name[3:] for name in names if name.startswith("pod"))
        return found

    async def stop(self, *, remove: bool) -> None:
        """Remove the top groups when `remove`; they must be empty of pods by then."""
        for tree in self._trees if remove else ():
            await _remove_tree(tree.base)
            leaf = tree.base + ".daemon"
            if tree.version == 2 and os.path.isdir(leaf):
                with contextlib.suppress(OSError):
                    _write(os.path.join(os.path.dirname(tree.base), "cgroup.procs"), str(os.getpid()))
                await _remove_tree(leaf)
        self._scope.close()


def _pod_path(uid: str, qos: str) -> str:
    parent = {"Burstable": "burstable", "BestEffort": "besteffort"}.get(qos, "")
    return os.path.join(parent, f"pod{uid}")


def _parents(relative: str) -> Iterable[str]:
    parts = relative.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def kill_processes(paths: CgroupPaths) -> None:
    """Send SIGKILL to every process in the group and below it."""
    for directory in paths.directories:
        with contextlib.suppress(OSError):
            _write(os.path.join(directory, "cgroup.kill"), "1")
            continue
        for root, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):
                for pid in _read(os.path.join(root, "cgroup.procs")).split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), 9)


def processes(paths: CgroupPaths) -> set[int]:
    """Return the ids of all processes in the group and below it."""
    found: set[int] = set()
    for directory in paths.directories[:1]:
        for root, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in _read(os.path.join(root, "cgroup.procs")).split())
    return found


def _enable(directory: str, controllers: Iterable[str]) -> bool:
    try:
        _write(os.path.join(directory, "cgroup.subtree_control"), " ".join("+" + c for c in controllers))
    except OSError:
        return False
    return True


async def _remove_tree(directory: str) -> None:
    """Remove a group and all below it, waiting a little for processes that are still being reaped."""
    for delay in _REMOVE_DELAYS_S:
        if delay:
            await asyncio.sleep(delay)  # version 1 tells nobody when a group becomes empty
        try:
            for root, _, _ in os.walk(directory, topdown=False):
                point("cgroup.remove")
                with contextlib.suppress(FileNotFoundError):  # somebody else removes it, too
                    os.rmdir(root)
        except OSError as error:
            last = error
        else:
            return
    log.warning("cgroup not removed", path=directory, error=str(last))


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    point("cgroup.write")
    with open(path, "w") as file:
        file.write(text)
