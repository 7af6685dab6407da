"""What a pause process is asked to make: plain values that travel as JSON from the daemon to the pause."""

from __future__ import annotations

from minikubelet.linux.lean import Any, asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One pod's sandbox. Paths are absolute and on the host."""

    uid: str
    id: str
    attempt: int
    namespace: str
    name: str
    hostname: str
    run_dir: str  # the pause's socket lies in it
    pod_dir: str  # the journal lies in it
    netns_path: str = ""  # where the network namespace is pinned; "" with the host's network
    host_network: bool = False
    given_netns: bool = False  # its network namespace is made by the daemon, which sends it
    host_ipc: bool = False
    host_pid: bool = False
    share_pid: bool = False
    shm_dir: str = ""
    shm_size: int = 64 * 1024 * 1024
    cgroup_dirs: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    user_namespace: IdMap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMap:
    """A user namespace: ids 0..length-1 inside are `first`.. outside."""

    first: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSpec:
    """One mount of a container, in order.

    `kind` is `bind`, `tmpfs` or `proc`... as mount(8) knows it. A bind source given by descriptor (`source_fd` is an
    index into the message's descriptors) cannot be moved by a symlink between check and use.
    """

    kind: str
    target: str
    source: str = ""
    read_only: bool = False
    recursive_read_only: bool = False
    propagation: str = ""  # "", "rslave", "rshared"
    options: str = ""
    is_file: bool = False
    sub_path: str = ""  # resolved below `source` without leaving it
    own: bool = False  # the pod's alone: its files may be given to the ids of its user namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container instance."""

    id: str
    name: str
    restart_count: int
    spec_hash: str
    argv: list[str]
    env: list[str]  # "NAME=value"
    cwd: str = "/"
    rootfs: str = "overlay"  # or "host"
    rootfs_size: int = 0  # bytes of the writable layer, 0 for the kernel's default
    rootfs_read_only: bool = False
    hidden_paths: list[str] = field(default_factory=list)  # of the host: the daemon's own directories
    host_mounts: list[str] = field(default_factory=list)  # of the host: what an overlay of its root does not show
    mounts: list[MountSpec] = field(default_factory=list)
    masked_paths: list[str] = field(default_factory=list)
    read_only_paths: list[str] = field(default_factory=list)
    privileged: bool = False
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    capabilities: int = 0  # bounding, permitted and effective, as a bit mask
    no_new_privs: bool = False
    seccomp: str = ""  # the kernel's filter program in base64
    apparmor: str = ""
    oom_score_adj: int | None = None
    cgroup_dirs: list[str] = field(default_factory=list)
    memory_cgroup: str = ""
    log_path: str = ""
    log_max_size: int = 10 * 1024 * 1024
    log_max_files: int = 5
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


def to_json(spec: SandboxSpec | ContainerSpec) -> dict[str, Any]:
    """Return a spec as JSON-ready values."""
    return asdict(spec)


def container_from_json(data: dict[str, Any]) -> ContainerSpec:
    """Return a container's spec from JSON; keys of a newer daemon are passed over."""
    mounts: list[MountSpec] = []
    for mount in data.get("mounts", ()):
        mounts.append(_make(MountSpec, mount))
    made: ContainerSpec = _make(ContainerSpec, {**data, "mounts": mounts})
    return made


def sandbox_from_json(data: dict[str, Any]) -> SandboxSpec:
    """Return a sandbox' spec from JSON; keys of a newer daemon are passed over."""
    id_map = data.get("user_namespace")
    made: SandboxSpec = _make(SandboxSpec, {**data, "user_namespace": IdMap(**id_map) if id_map else None})
    return made


def _make(kind: Any, data: dict[str, Any]) -> Any:
    """Return an object of what it has fields for: that is all mostly, so it is tried before names are looked at."""
    try:
        return kind(**data)
    except TypeError:
        return kind(**{name: value for name, value in data.items() if name in kind.__slots__})
