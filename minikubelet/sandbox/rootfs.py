"""Builds what a container sees as its file system, in a mount namespace of its own.

The root is an overlay: below it the host's `/`, above it a tmpfs that dies with the container. What the host has
mounted, volumes above all, is cloned before anything else is touched and attached by descriptor, so that no symlink,
inside or outside, can redirect it; targets are resolved inside the new root. The namespace begins as a copy of a small
one (`mount_base.py`), not of the host's.

Unless the container is privileged, every mount of it is `nodev`, and its few devices are mounts of the host's own
nodes: a container's root may make device nodes (it has CAP_MKNOD, as everywhere), and they are good for nothing.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from minikubelet.linux import libc, mounts
from minikubelet.linux.lean import Callable, Final, suppress
from minikubelet.sandbox.mount_base import HOST_ROOT, SCRATCH
from minikubelet.sandbox.spec import ContainerSpec, MountSpec

_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_TTY_GROUP: Final = 5
_DEVICE_LINKS: Final = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)

_CGROUPS: Final = "/sys/fs/cgroup"
_FOLLOWING_ATTEMPTS: Final = 10  # a host whose mounts change all the time keeps no container from its start

Step = Callable[[str], None]


class Mapping:
    """How owners are shown in a user namespace: id 0 inside is `first` outside."""

    __slots__ = (
        "first",
        "namespace",
    )

    def __init__(self, namespace: int, first: int) -> None:
        """Args: namespace: A descriptor of the user namespace."""
        self.namespace = namespace
        self.first = first

    def apply(self, tree: int) -> None:
        """Show a detached mount's owners mapped. Raises OSError."""
        libc.map_tree_ids(tree, self.namespace)


def build(spec: ContainerSpec, *, base: int, shm_dir: str, mapping: Mapping | None, step: Step) -> None:
    """Make and enter the container's root.

    Args:
        spec: The container.
        base: A descriptor of the mount namespace that `mount_base.make` has made.
        shm_dir: The pod's /dev/shm on the host, "" for none.
        mapping: The pod's user namespace, None for the host's. The caller is not in it yet.
        step: Told the name of each step before it is done, for the error message.
    """
    step("open volumes")
    follower = _Follower() if any(one.propagation for one in spec.mounts) else None
    sources = [_open_source(one) if one.kind == "bind" else -1 for one in spec.mounts]
    trees = [
        libc.clone_tree(source, recursive=True) if source >= 0 and not one.propagation else -1
        for one, source in zip(spec.mounts, sources, strict=True)
    ]
    shm = mounts.clone(shm_dir) if shm_dir else -1
    for one, tree in zip(spec.mounts, trees, strict=True):
        if mapping is not None and tree >= 0:
            step(f"map owners of {one.target}")
            _map_owners(tree, mapping, own=one.own)
    step("open host file systems")
    whole_host = mounts.clone("/") if spec.rootfs == "host" else -1
    host_mounts = _open_host_mounts(spec, mapping)
    step("enter mount namespace")
    libc.setns(base, libc.CLONE_NEWNS)
    libc.unshare(libc.CLONE_NEWNS)
    step("mount root")
    root = _mount_whole_host(whole_host, mapping) if whole_host >= 0 else _mount_overlay(spec, mapping)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if whole_host < 0:
        step("mount host file systems")
        _show_host_mounts(root_fd, host_mounts)
        _hide(root_fd, spec.hidden_paths)
        step("mount /dev")
        _mount_dev(root_fd, shm, privileged=spec.privileged, first_id=mapping.first if mapping else 0)
        step("mount /sys")
        _mount_sys(root_fd, read_only=not spec.privileged)
        step("mount /sys/fs/cgroup")
        _mount_cgroups(root_fd, spec.cgroup_dirs, privileged=spec.privileged)
    step("mount /proc")
    _mount_at(root_fd, "/proc", lambda path: _mount_proc(path))
    for one, source, tree in zip(spec.mounts, sources, trees, strict=True):
        step(f"mount {one.target}")
        if tree >= 0:
            _attach(root_fd, one, tree, privileged=spec.privileged)
        elif follower is not None and source >= 0:
            follower.attach(root_fd, one, source, mapping, privileged=spec.privileged, step=step)
        else:
            _mount_new(root_fd, one)
    if not spec.privileged:
        step("mask paths")
        _mask(root_fd, spec.masked_paths, spec.read_only_paths)
    step("enter root")
    os.fchdir(root_fd)
    libc.pivot_root(".", ".")
    libc.umount(".", libc.MNT_DETACH)
    os.chdir("/")
    os.close(root_fd)
    step("create working directory")
    _make_working_directory(spec.cwd, mapping.first if mapping is not None else 0)
    if spec.rootfs_read_only and whole_host < 0:
        step("make root read-only")
        libc.set_read_only("/", recursive=False)


def _mount_whole_host(tree: int, mapping: Mapping | None) -> str:
    """Make the host's own tree the root."""
    libc.set_tree_attributes(tree, read_only=False, propagation=libc.MS_PRIVATE, recursive=True)
    if mapping is not None:
        mapping.apply(tree)
    _move(tree, -1, SCRATCH)
    return SCRATCH


def _mount_overlay(spec: ContainerSpec, mapping: Mapping | None) -> str:
    mounts.mount_tmpfs(SCRATCH, size=spec.rootfs_size, mode=0o755)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{SCRATCH}/{name}", 0o755)
    lower = HOST_ROOT
    if mapping is not None:
        os.chown(f"{SCRATCH}/upper", mapping.first, mapping.first)
        with suppress(OSError):  # else the host's files are nobody's, readable where all may read
            lower = _mount_mapped_host_root(mapping)
    options = f"lowerdir={lower},upperdir={SCRATCH}/upper,workdir={SCRATCH}/work"
    libc.mount("overlay", f"{SCRATCH}/root", "overlay", 0 if spec.privileged else libc.MS_NODEV, options)
    return f"{SCRATCH}/root"


def _mount_mapped_host_root(mapping: Mapping) -> str:
    """Mount the host's root with its owners mapped. Raises OSError: its file system cannot do that."""
    tree = mounts.clone(HOST_ROOT, recursive=False)
    try:
        mapping.apply(tree)
    except OSError:
        os.close(tree)
        raise
    os.mkdir(f"{SCRATCH}/lower")
    _move(tree, -1, f"{SCRATCH}/lower")
    return f"{SCRATCH}/lower"


def _open_host_mounts(spec: ContainerSpec, mapping: Mapping | None) -> list[tuple[str, int]]:
    """Clone the host's other file systems, to be shown read-only; the overlay has only the root's own."""
    trees: list[tuple[str, int]] = []
    for path in spec.host_mounts:
        with suppress(OSError):  # gone meanwhile, or hung
            tree = mounts.clone(path, recursive=False)
            if mapping is not None:
                with suppress(OSError):  # shown with nobody as owner, where the file system cannot map
                    mapping.apply(tree)
            libc.set_tree_attributes(
                tree, read_only=True, propagation=libc.MS_PRIVATE, recursive=False, no_devices=not spec.privileged
            )
            trees.append((path, tree))
    return trees


def _show_host_mounts(root: int, trees: list[tuple[str, int]]) -> None:
    for path, tree in trees:
        with suppress(OSError):
            target = _open_target(root, path, is_file=not stat.S_ISDIR(os.fstat(tree).st_mode))
            libc.move_tree(tree, target)
            os.close(target)
        os.close(tree)


def _hide(root: int, hidden: list[str]) -> None:
    """Cover the daemon's own directories, which lie on the host's root, by empty ones, and a file by one."""
    for path in hidden:
        with suppress(FileNotFoundError):
            descriptor = libc.openat2(root, path, os.O_PATH, libc.RESOLVE_IN_ROOT)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                libc.mount("tmpfs", f"/proc/self/fd/{descriptor}", "tmpfs", libc.MS_RDONLY, "mode=0700,size=4k")
            else:  # the manifests may be one file
                libc.mount("/dev/null", f"/proc/self/fd/{descriptor}", None, libc.MS_BIND)
            os.close(descriptor)


def _mount_at(root: int, path: str, work: Callable[[str], None]) -> None:
    target = _open_target(root, path, is_file=False)
    try:
        work(f"/proc/self/fd/{target}")
    finally:
        os.close(target)


def _mount_proc(path: str) -> None:
    libc.mount("proc", path, "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)


def _mount_dev(root: int, shm: int, *, privileged: bool, first_id: int) -> None:
    flags = libc.MS_NOSUID | (0 if privileged else libc.MS_NODEV)
    _mount_at(root, "/dev", lambda path: libc.mount("tmpfs", path, "tmpfs", flags, "mode=755,size=64k"))
    dev = libc.openat2(root, "/dev", os.O_RDONLY | os.O_DIRECTORY, libc.RESOLVE_IN_ROOT)
    mask = os.umask(0)
    for name in () if privileged else _DEVICES:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=dev))
        tree = mounts.clone(f"/dev/{name}")
        # Read-only: owner and mode of the host's node stay; a device is written through it all the same.
        libc.set_tree_attributes(tree, read_only=True, propagation=libc.MS_PRIVATE, recursive=False)
        _move(tree, dev, name, directory=False)
    for name, target in _DEVICE_LINKS:
        os.symlink(target, name, dir_fd=dev)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=dev)
    if privileged:
        _copy_devices("/dev", dev)
    os.umask(mask)
    libc.mount(
        "devpts",
        f"/proc/self/fd/{dev}/pts",
        "devpts",
        libc.MS_NOSUID | libc.MS_NOEXEC,
        f"newinstance,ptmxmode=0666,mode=0620,gid={first_id + _TTY_GROUP}",
    )
    libc.mount("mqueue", f"/proc/self/fd/{dev}/mqueue", "mqueue", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    if shm >= 0:
        point = os.open("shm", os.O_PATH | os.O_DIRECTORY, dir_fd=dev)
        libc.set_tree_attributes(shm, read_only=False, propagation=libc.MS_PRIVATE, recursive=True)
        libc.move_tree(shm, point)
        os.close(point)
    os.close(dev)


def _copy_devices(source: str, target: int) -> None:
    """Make a node for each of the host's devices."""
    for entry in os.scandir(source):
        with suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
                os.mknod(entry.name, found.st_mode, found.st_rdev, dir_fd=target)
                os.chown(entry.name, found.st_uid, found.st_gid, dir_fd=target)
            elif stat.S_ISDIR(found.st_mode) and entry.name not in ("pts", "shm", "mqueue", "hugepages", "fd"):
                os.mkdir(entry.name, 0o755, dir_fd=target)
                below = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=target)
                _copy_devices(entry.path, below)
                os.close(below)


def _mount_sys(root: int, *, read_only: bool) -> None:
    """Mount what belongs to the pod's network; read-only is the mount, as the file system is all its containers'."""
    flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
    _mount_at(root, "/sys", lambda path: libc.mount("sysfs", path, "sysfs", flags))
    if read_only:
        mounted = libc.openat2(root, "/sys", os.O_PATH | os.O_DIRECTORY, libc.RESOLVE_IN_ROOT)
        libc.set_read_only(f"/proc/self/fd/{mounted}", recursive=False)
        os.close(mounted)


def _mount_cgroups(root: int, directories: list[str], *, privileged: bool) -> None:
    """Show the container's own groups, read-only; to a privileged one the host's, writable.

    This process is in a cgroup namespace of its own unless privileged, so that /proc/self/cgroup agrees with it.
    """
    if not os.path.isdir(_CGROUPS):
        return
    flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
    if privileged:
        tree = mounts.clone(_CGROUPS)
        libc.set_tree_attributes(tree, read_only=False, propagation=libc.MS_PRIVATE, recursive=True)
        _move(tree, root, _CGROUPS)
    elif os.path.exists(f"{_CGROUPS}/cgroup.controllers"):
        _mount_at(root, _CGROUPS, lambda path: libc.mount("cgroup2", path, "cgroup2", flags | libc.MS_RDONLY))
    else:
        _mount_at(root, _CGROUPS, lambda path: libc.mount("tmpfs", path, "tmpfs", flags, "mode=755,size=64k"))
        _show_version_1_cgroups(root, directories)


def _show_version_1_cgroups(root: int, directories: list[str]) -> None:
    """Show one directory a controller, as the host has it, with the container's own group at its top."""
    mounted = libc.openat2(root, _CGROUPS, os.O_PATH | os.O_DIRECTORY, libc.RESOLVE_IN_ROOT)
    for directory in directories:
        name = directory.removeprefix(_CGROUPS + "/").split("/", 1)[0]
        os.mkdir(name, 0o755, dir_fd=mounted)
        tree = mounts.clone(directory, recursive=False)
        libc.set_tree_attributes(tree, read_only=True, propagation=libc.MS_PRIVATE, recursive=False)
        _move(tree, mounted, name)
    libc.set_read_only(f"/proc/self/fd/{mounted}", recursive=False)
    os.close(mounted)


def _map_owners(tree: int, mapping: Mapping, *, own: bool) -> None:
    """Map a volume's owners; on a file system that cannot (tmpfs before Linux 6.3), give a pod's own files away."""
    try:
        mapping.apply(tree)
    except OSError as error:
        if not own or error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        shift_owners(f"/proc/self/fd/{tree}", mapping.first)


def shift_owners(top: str, first: int) -> None:
    """Add `first` to the owners of all files below a directory, or of a file, but not a second time."""
    _shift(top, first, None)
    if not os.path.isdir(top):
        return
    for _, directories, files, descriptor in os.fwalk(top + "/."):
        for name in (*directories, *files):
            _shift(name, first, descriptor)


def _shift(name: str, first: int, directory: int | None) -> None:
    follow = directory is None  # the top is given through /proc
    found = os.stat(name, dir_fd=directory, follow_symlinks=follow)
    if found.st_uid < first or found.st_gid < first:
        uid = found.st_uid if found.st_uid >= first else found.st_uid + first
        gid = found.st_gid if found.st_gid >= first else found.st_gid + first
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=follow)


def _move(tree: int, root: int, path: str, *, directory: bool = True) -> None:
    """Attach a detached mount at a path below a root (-1: at an absolute path), and close it."""
    flags = os.O_PATH | (os.O_DIRECTORY if directory else 0)
    at_root = root >= 0
    target = libc.openat2(root, path, flags, libc.RESOLVE_IN_ROOT) if at_root else os.open(path, flags | os.O_CLOEXEC)
    libc.move_tree(tree, target)
    os.close(target)
    os.close(tree)


def _open_source(one: MountSpec) -> int:
    """Open what a bind mount shows; a sub-path cannot lead out of its volume."""
    source = os.open(one.source, os.O_PATH | os.O_CLOEXEC)
    if one.sub_path:
        below = open_sub_path(source, one.sub_path)
        os.close(source)
        source = below
    return source


def open_sub_path(volume: int, sub_path: str) -> int:
    """Open a path below a volume, making missing directories with the volume's mode; links may not leave it."""
    flags = os.O_PATH
    resolve = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_MAGICLINKS
    try:
        return libc.openat2(volume, sub_path, flags, resolve)
    except FileNotFoundError:
        pass
    mode = stat.S_IMODE(os.fstat(volume).st_mode)
    current = os.dup(volume)
    done = ""
    try:
        for part in (part for part in sub_path.split("/") if part not in ("", ".")):
            done = f"{done}/{part}" if done else part
            try:
                below = libc.openat2(volume, done, flags | os.O_DIRECTORY, resolve)
            except FileNotFoundError:
                below = _make_directory(current, part, mode)
            os.close(current)
            current = below
    except OSError:
        os.close(current)
        raise
    return current


def _make_directory(parent: int, name: str, mode: int) -> int:
    """Make and open a directory; its mode is set by descriptor, for the name may be a link a moment later."""
    made = True
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        made = False
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if made:
        os.fchmod(descriptor, mode)
    return descriptor


def _mount_new(root: int, one: MountSpec) -> None:
    options = one.options or None
    _mount_at(root, one.target, lambda path: libc.mount(one.kind, path, one.kind, libc.MS_NOSUID, options))


class _Follower:
    """Attaches volumes that follow what is mounted and unmounted on the host (`mountPropagation`).

    A detached mount follows nothing: what happens on the host between its clone and its attachment would be missed for
    good. So these are cloned right before they are attached, and once more as often as mounts changed meanwhile.
    """

    __slots__ = (
        "_changes",
        "_host",
    )

    def __init__(self) -> None:
        """Remember the host's mount namespace, which the caller is in."""
        self._host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._changes = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)

    def attach(
        self, root: int, one: MountSpec, source: int, mapping: Mapping | None, *, privileged: bool, step: Step
    ) -> None:
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        poll = select.poll()
        poll.register(self._changes, select.POLLPRI)
        for attempts_left in reversed(range(_FOLLOWING_ATTEMPTS)):
            poll.poll(0)  # until now
            libc.setns(self._host, libc.CLONE_NEWNS)
            tree = libc.clone_tree(source, recursive=True)
            step(f"attach {one.target}")
            libc.setns(own, libc.CLONE_NEWNS)
            if mapping is not None:
                _map_owners(tree, mapping, own=one.own)
            _attach(root, one, os.dup(tree), privileged=privileged)
            if not attempts_left or not poll.poll(0):
                break
            # Private first: the host's mounts would go with what is taken away here.
            libc.set_tree_attributes(tree, read_only=False, propagation=libc.MS_PRIVATE, recursive=True)
            libc.umount(f"/proc/self/fd/{tree}", libc.MNT_DETACH)
            os.close(tree)
        os.close(tree)
        os.close(own)


def _attach(root: int, one: MountSpec, tree: int, *, privileged: bool) -> None:
    """Attach a detached mount where the container has it, and close it."""
    is_file = not stat.S_ISDIR(os.fstat(tree).st_mode)
    target = _open_target(root, one.target, is_file=is_file)
    propagation = {"rslave": libc.MS_SLAVE, "rshared": 0}.get(one.propagation, libc.MS_PRIVATE)
    if propagation:
        libc.set_tree_attributes(tree, read_only=False, propagation=propagation, recursive=True)
    if not privileged:
        libc.set_tree_attributes(tree, read_only=False, propagation=0, recursive=True, no_devices=True)
    if one.read_only:
        libc.set_tree_attributes(tree, read_only=True, propagation=0, recursive=one.recursive_read_only)
    libc.move_tree(tree, target)
    os.close(tree)
    os.close(target)


def _open_target(root: int, path: str, *, is_file: bool) -> int:
    """Open a mount target inside the new root, making it (and its parents) when missing."""
    try:
        return libc.openat2(root, path, os.O_PATH, libc.RESOLVE_IN_ROOT)
    except FileNotFoundError:
        pass
    parent_path, _, name = path.rstrip("/").rpartition("/")
    parent = _open_target(root, parent_path or "/", is_file=False)
    try:
        with suppress(FileExistsError):
            if is_file:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=parent))
            else:
                os.mkdir(name, 0o755, dir_fd=parent)
    finally:
        os.close(parent)
    return libc.openat2(root, path, os.O_PATH, libc.RESOLVE_IN_ROOT)


def _make_working_directory(path: str, owner: int) -> None:
    """Make a working directory that is missing, as runc does, owned by the container's root."""
    missing: list[str] = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        os.mkdir(one, 0o755)
        os.chown(one, owner, owner)


def _mask(root: int, masked: list[str], read_only: list[str]) -> None:
    """Cover paths, or make them read-only, where they are there. The host's /dev/null covers, whatever /dev is here."""
    for path in masked:
        target = _find(root, path)
        if target < 0:
            continue
        if stat.S_ISDIR(os.fstat(target).st_mode):
            libc.mount("tmpfs", f"/proc/self/fd/{target}", "tmpfs", libc.MS_RDONLY, "size=0")
        else:
            libc.mount("/dev/null", f"/proc/self/fd/{target}", None, libc.MS_BIND)
        os.close(target)
    for path in read_only:
        target = _find(root, path)
        if target < 0:
            continue
        tree = libc.clone_tree(target, recursive=True)
        libc.set_tree_attributes(tree, read_only=True, propagation=libc.MS_PRIVATE, recursive=False)
        libc.move_tree(tree, target)
        os.close(tree)
        os.close(target)


def _find(root: int, path: str) -> int:
    """Return a descriptor of a path below a root, -1 when it is not there. Raises OSError."""
    try:
        return libc.openat2(root, path, os.O_PATH, libc.RESOLVE_IN_ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return -1
