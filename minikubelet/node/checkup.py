"""Whether this machine can run pods, and what an earlier run has left on it: what `minikubelet doctor` prints.

Each check gives one line: how it stands, what was found, and what to do when that is not good. A problem is something
without which pods do not run or are not safe; a warning takes a feature away or is only untidy.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from minikubelet.linux import features, mounts
from minikubelet.node import cordon
from minikubelet.node.guard import RefusedError, check_trusted
from minikubelet.node.pressure import disk_problem, measure_disk
from minikubelet.runtime.cgroups import find_trees, group_name
from minikubelet.runtime.network.inspection import BridgeFinding, inspect_network
from minikubelet.runtime.network.nft import find_nft
from minikubelet.runtime.processes import is_alive
from minikubelet.sandbox.journal import read_journal

_KERNEL: Final = (5, 12)  # mount_setattr(2)
_CAPABILITIES: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
}
_RULES: Final = """table inet probe {
  chain post { type nat hook postrouting priority 100; ip saddr 10.0.0.0/8 masquerade; }
}
"""
_INOTIFY_INSTANCES: Final = 16


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's: `result` is ok, warning or problem."""

    name: str
    result: str
    found: str
    advice: str = ""


def check_machine(
    *,
    manifests: str,
    trusted_uid: int,
    state_dir: str,
    run_dir: str,
    log_dir: str,
    bridge: str,
    daemon: int | None,
) -> list[Check]:
    """Run all checks; those that need root say so without it."""
    checks = [*_program(), *_kernel()]
    if os.geteuid() == 0:
        checks += [*_kernel_as_root(), *_network()]
    checks += [*_security(), *_cgroups(), *_inotify()]
    directories = {"state": state_dir, "run": run_dir, "log": os.path.join(log_dir, "pods")}
    checks += _directories(manifests, trusted_uid, directories)
    checks += _daemon(run_dir, daemon)
    if os.geteuid() == 0:
        checks += _leftovers(state_dir, bridge)
    return checks


def _program() -> Iterator[Check]:
    version = importlib.metadata.version("minikubelet")
    yield Check("minikubelet", "ok", f"{version}, Python {platform.python_version()}, {sys.prefix}")
    if os.geteuid() != 0:
        yield Check("root", "warning", "not root", "run it with sudo: most checks need root, and so does the daemon")
        return
    missing = features.missing_capabilities(_CAPABILITIES)
    if missing:
        advice = "the daemon is to run as real root: not in a container or unit that takes capabilities away"
        yield Check("root", "problem", f"root without {', '.join(missing)}", advice)
    else:
        yield Check("root", "ok", "root with the capabilities that pods need")


def _kernel() -> Iterator[Check]:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _KERNEL:
        yield Check("kernel", "problem", release, f"Linux {_KERNEL[0]}.{_KERNEL[1]} or later is needed")
    else:
        yield Check("kernel", "ok", release)


def _kernel_as_root() -> Iterator[Check]:
    yield _verdict(
        "namespaces",
        features.missing_namespaces(),
        "mount, pid, network, ipc, uts",
        "a kernel with namespaces is needed, and room in /proc/sys/user/max_*_namespaces",
    )
    yield _verdict(
        "system calls",
        features.system_calls(),
        "pidfd_open, openat2, open_tree, mount_setattr",
        "a newer kernel is needed, or a container around this machine must allow them",
    )
    yield _verdict(
        "overlay",
        features.overlay(),
        "the machine's root can be a container's lower layer",
        "load the module (modprobe overlay); until then only pods with `minikubelet.io/rootfs: host` run",
    )
    yield _verdict(
        "user namespaces",
        features.user_namespaces(),
        "can be made",
        "pods with `hostUsers: false` do not run; see /proc/sys/user/max_user_namespaces",
        worst="warning",
    )


def _network() -> Iterator[Check]:
    ip = shutil.which("ip") or "/usr/sbin/ip"
    for kind, name in (("bridge", "b0"), ("veth", "v0")):
        error = features.inside_network_namespace([ip, "link", "add", name, "type", kind])
        advice = f"load the module (modprobe {kind}); pods with an address of their own need it"
        yield _verdict(kind, error, "can be made", advice)
    nft = find_nft()
    if nft is None:
        yield Check("nftables", "warning", "no nft", "install nftables: until then pods do not reach the outside")
        return
    error = features.inside_network_namespace([nft, "-f", "-"], _RULES)
    advice = "load nf_tables and nft_masq; until then the daemon itself carries host ports, and egress fails"
    yield _verdict("nftables", error, "rules with address translation can be loaded", advice, worst="warning")


def _security() -> Iterator[Check]:
    advice = "CAP_SYS_RESOURCE is missing: the kernel may kill Guaranteed pods and pauses as readily as others"
    lowers = features.can_lower_oom_score()
    yield Check("OOM scores", "ok", "can be lowered") if lowers else Check("OOM scores", "warning", "stay", advice)
    actions = _read("/proc/sys/kernel/seccomp/actions_avail")
    advice = "pods with a seccomp profile do not run"
    yield Check("seccomp", "ok", actions) if actions else Check("seccomp", "warning", "not in this kernel", advice)
    enabled = _read("/sys/module/apparmor/parameters/enabled") == "Y"
    advice = "pods that ask for an AppArmor profile are refused; others run"
    yield Check("AppArmor", "ok", "enabled") if enabled else Check("AppArmor", "warning", "not enabled", advice)


def _cgroups() -> Iterator[Check]:
    trees = find_trees(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
    if not trees:
        yield Check("cgroups", "warning", "no tree", "mount cgroup2 on /sys/fs/cgroup: no limit is enforced")
        return
    version = trees[0].version
    if version == 2:
        # What the machine has, not what this shell's own group was given: the daemon's unit asks for all of it.
        controllers = set(_read("/sys/fs/cgroup/cgroup.controllers").split())
    else:
        controllers = {one for tree in trees for one in tree.controllers}
    missing = [one for one in ("cpu", "memory", "pids") if one not in controllers]
    locked = [tree.base for tree in trees if not os.access(tree.base, os.W_OK)]
    found = f"version {version}, {' '.join(sorted(controllers))}"
    if missing:
        yield Check("cgroups", "warning", found, f"no {', '.join(missing)} controller: these limits are not enforced")
    elif locked:
        yield Check("cgroups", "warning", found, f"not writable: {locked[0]}; delegate it (Delegate=yes in the unit)")
    else:
        yield Check("cgroups", "ok", found)


def _inotify() -> Iterator[Check]:
    instances = int(_read("/proc/sys/fs/inotify/max_user_instances") or 0)
    watches = int(_read("/proc/sys/fs/inotify/max_user_watches") or 0)
    found = f"{instances} instances, {watches} watches a user"
    advice = "raise fs.inotify.max_user_instances and max_user_watches, or edits are seen after fileCheckFrequency only"
    well = instances >= _INOTIFY_INSTANCES and watches >= 8192
    yield Check("inotify", "ok", found) if well else Check("inotify", "warning", found, advice)


def _directories(manifests: str, trusted_uid: int, directories: dict[str, str]) -> Iterator[Check]:
    if not os.path.exists(manifests):
        yield Check("manifests", "warning", f"no {manifests}", "the daemon makes it; put Pod manifests there")
    else:
        try:
            check_trusted(manifests, os.stat(manifests), trusted_uid)
        except RefusedError as error:
            yield Check("manifests", "problem", str(error), "the daemon does not read it as it is")
        else:
            more = f", {len(os.listdir(manifests))} entries" if os.path.isdir(manifests) else ""
            yield Check("manifests", "ok", f"{manifests}{more}")
    for what, path in directories.items():
        yield _directory(what, path)


def _directory(what: str, path: str) -> Check:
    if not os.path.isdir(path):
        return Check(what, "ok", f"{path} is not there yet, the daemon makes it")
    found = os.stat(path)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != 0 or (mode & 0o022 and not mode & stat.S_ISVTX):
        writers = f"{path}: owner {found.st_uid}, mode {mode:04o}: others may change what root does there"
        return Check(what, "problem", writers, f"chown root {path}; chmod go-w {path}")
    if what == "state" and mode & 0o077:
        return Check(what, "warning", f"{path}: mode {mode:04o}", f"Secrets lie there: chmod 700 {path}")
    disk = measure_disk(path)
    if problem := disk_problem(path, disk):
        return Check(what, "problem", problem, "pods that run go on; the daemon mends itself when there is room")
    return Check(what, "ok", f"{path}, {disk.free_bytes // 2**20} MiB free")


def _daemon(run_dir: str, daemon: int | None) -> Iterator[Check]:
    unit = _say("systemctl", "is-enabled", "minikubelet.service") if os.path.isdir("/run/systemd/system") else ""
    more = f", unit {unit}" if unit else ""
    if daemon is not None:
        yield Check("daemon", "ok", f"running as process {daemon}{more}")
    else:
        yield Check("daemon", "warning", f"not running{more}", "systemctl enable --now minikubelet, or minikubelet run")
    if cordon.is_cordoned(run_dir):
        yield Check("cordoned", "warning", "drained, no pod runs", "minikubelet uncordon")


def _leftovers(state_dir: str, bridge: str) -> Iterator[Check]:
    """What belongs to no pod that there is a record of."""
    pods = os.path.join(state_dir, "pods")
    known = set(os.listdir(pods)) if os.path.isdir(pods) else set()
    stray = [point for point in mounts.mount_points_below(pods) if point.split("/")[len(pods.split("/"))] not in known]
    yield _left("mounts", stray, "umount each of them")
    alive = {uid for uid in known if _has_pause(os.path.join(pods, uid))}
    yield _left("cgroups", sorted(_stray_groups(bridge, known)), "the daemon removes them at its next start")
    findings = [one.describe() for one in _abandoned_networks()]
    yield _left("network", findings, "ip link delete and nft delete table, or start a daemon with that --bridge")
    dead = len(known) - len(alive)
    yield Check("pods", "ok", f"{len(alive)} with a pause process" + (f", {dead} without" if dead else ""))


def _abandoned_networks() -> list[BridgeFinding]:
    """Return what is of no daemon; looked at twice, for one that comes or goes looks so in between."""
    found = [one for one in inspect_network() if one.abandoned]
    still = {one.bridge for one in inspect_network() if one.abandoned} if found else set()
    return [one for one in found if one.bridge in still]


def _stray_groups(bridge: str, known: set[str]) -> Iterator[str]:
    name = group_name(bridge)
    trees = find_trees(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"))
    scope = "/sys/fs/cgroup/system.slice/minikubelet-kubepods.scope"
    for base in {*(tree.base for tree in trees), scope}:
        for top, directories, _ in os.walk(os.path.join(base, name)):
            directories[:] = [one for one in directories if one in ("burstable", "besteffort") or one.startswith("pod")]
            for one in list(directories):
                if one.startswith("pod"):
                    directories.remove(one)
                    if one[3:] not in known:
                        yield os.path.join(top, one)


def _has_pause(directory: str) -> bool:
    try:
        sandboxes, _ = read_journal(os.path.join(directory, "journal.jsonl"))
    except OSError:
        return False
    return any(is_alive(one) for one in sandboxes.values())


def _left(what: str, found: Iterable[str], advice: str) -> Check:
    found = list(found)
    if not found:
        return Check(f"leftover {what}", "ok", "none")
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return Check(f"leftover {what}", "warning", ", ".join(found[:3]) + more, advice)


def _verdict(name: str, error: str | dict[str, str], found: str, advice: str, worst: str = "problem") -> Check:
    if not error:
        return Check(name, "ok", found)
    text = error if isinstance(error, str) else ", ".join(f"{key}: {value}" for key, value in error.items())
    return Check(name, worst, text, advice)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _say(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
