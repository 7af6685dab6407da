"""From fork to exec: what a new process of a pod does to itself, step by step.

The order, and why:
    1. shield         close-on-exec on every descriptor, no core and no ptrace: until exec it is a copy of the pause
    2. session        own session, so that the terminal and the pause's signals are not shared
    3. signals        the pause's handlers and masks are undone
    4. cgroup         before anything that costs memory or time; then its own cgroup namespace, rooted there
    5. oom score      while still allowed to
    6. root           mounts need the host's view and all capabilities; owners are mapped for a user namespace here
    7. streams        their owner is set while this process is still the host's root
    8. user namespace with all that could only be done as the host's root behind it; then a mount namespace that
                      belongs to it, in which no mount of before can be taken away singly
    9. directory      as the container's root, and where that may not enter it, as its user, behind 14: as runc does it
   10. AppArmor       the profile that exec will put on
   11. bounding set   needs CAP_SETPCAP, so before the capabilities go
   12. no_new_privs   (or, without it, the seccomp filter, which then needs CAP_SYS_ADMIN)
   13. groups, ids    setgroups needs CAP_SETGID, so before the capabilities go; groups before the user
   14. capabilities   none at all for a user that is not root, as exec would take them away
   15. death signal   cleared by a change of ids, so after it
   16. seccomp        last with no_new_privs: the filter may forbid everything above
   17. exec

A step that fails reports its name and the error through a close-on-exec pipe; end of file there means that all is done
but exec. Where that fails the program has started and ended with 255, as under runc: its output says why.
"""

from __future__ import annotations

import errno
import os
from binascii import a2b_base64

from minikubelet.linux import libc
from minikubelet.linux.faults import point
from minikubelet.linux.files import read_small, write_small
from minikubelet.linux.forking import thread_number_address
from minikubelet.linux.lean import Any, Final, NoReturn, cache, signal, suppress
from minikubelet.sandbox import rootfs
from minikubelet.sandbox.protocol import to_line
from minikubelet.sandbox.spec import ContainerSpec, IdMap
from minikubelet.sandbox.terminal import connect_terminal
from minikubelet.sandbox.wire import dumps

_NOT_EXECUTED: Final = 255
_FORMAT: Final = 0o170000
_PIPE: Final = 0o010000
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Reporter:
    """Remembers the current step and sends a failure to the pause."""

    __slots__ = (
        "_descriptor",
        "_step",
    )

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._step = "start"

    def step(self, name: str) -> None:
        """Name what is done next."""
        self._step = name
        point("spawn." + name.replace(" ", "-"))

    def send(self, message: dict[str, Any]) -> None:
        """Send one line to the pause."""
        os.write(self._descriptor, to_line(message) + b"\n")

    def fail(self, error: BaseException) -> NoReturn:
        """Report why the process could not be started, and end it."""
        with suppress(OSError):
            if isinstance(error, CommandError):
                self.send({"failed": "exec", "message": str(error)})
            else:
                number = error.errno if isinstance(error, OSError) else 0
                path = error.filename if isinstance(error, OSError) else None
                text = os.strerror(number) if number else str(error)
                self.send({"failed": self._step, "message": f"{path}: {text}" if path else text})
        os._exit(128)


class CommandError(Exception):
    """The command cannot be executed; the text is what a user of containers knows."""


def run_container(
    spec: ContainerSpec,
    reporter: Reporter,
    *,
    groups: list[str],
    mount_base: int,
    shm_dir: str,
    pause_pid: int,
    user_namespace: int,
    id_map: IdMap | None,
    console: int = -1,
) -> NoReturn:
    """Become the container's main process; never returns.

    Args:
        spec: What to become.
        reporter: Where failures go.
        groups: The control groups to join.
        mount_base: The mount namespace in which to build the root.
        shm_dir: The pod's shared memory directory on the host.
        pause_pid: Who the parent must still be, as the host's /proc numbers it.
        user_namespace: A descriptor of the pod's user namespace, -1 without one.
        id_map: What it maps.
        console: Where the terminal's controlling side is sent, -1 without a terminal.
    """
    try:
        status = shield(reporter)
        if not spec.cwd.startswith("/"):
            raise CommandError("Cwd must be an absolute path")
        reporter.step("session")
        os.setsid()
        reset_signals()
        reporter.step("join cgroup")
        join_cgroups(groups)
        if not spec.privileged:
            libc.unshare(libc.CLONE_NEWCGROUP)
        reporter.step("set oom score")
        set_oom_score(spec.oom_score_adj)
        mapping = None if id_map is None else rootfs.Mapping(user_namespace, id_map.first)
        rootfs.build(spec, base=mount_base, shm_dir=shm_dir, mapping=mapping, step=reporter.step)
        owner = spec.uid + (id_map.first if id_map is not None else 0)
        give_streams(console, owner, reporter, is_console=spec.rootfs != "host")
        if user_namespace >= 0:
            reporter.step("enter user namespace")
            libc.setns(user_namespace, libc.CLONE_NEWUSER)
            own_capabilities.cache_clear()  # all of them, over what belongs to that namespace
            libc.unshare(libc.CLONE_NEWNS)
        become(spec, reporter)
        reporter.step("set death signal")
        die_with_parent(pause_pid, status)
        reporter.step("exec")
        execute(spec.argv, spec.env, spec.seccomp)
    except BaseException as error:
        reporter.fail(error)


def run_exec(
    spec: ContainerSpec,
    argv: list[str],
    reporter: Reporter,
    *,
    groups: list[str],
    pidfd: int,
    pause_pid: int,
    user_namespace: int,
    id_map: IdMap | None,
    console: int = -1,
    adopts: bool = False,
) -> NoReturn:
    """Become a further process inside a running container; never returns.

    Args:
        spec: The container.
        argv: The command.
        reporter: Where failures go.
        groups: The control groups to join.
        pidfd: The container's main process, whose mount and control group namespaces it joins.
        pause_pid: Who the parent must still be, as the host's /proc numbers it.
        user_namespace: The pod's, -1 without one.
        id_map: Of that namespace.
        console: A socket that its terminal is sent to, -1 for no terminal.
        adopts: Orphans of the command become its children, not the container's, so that they can be found and ended.
    """
    try:
        status = shield(reporter)
        reporter.step("session")
        os.setsid()
        reset_signals()
        reporter.step("join cgroup")
        join_cgroups(groups)
        set_oom_score(spec.oom_score_adj)
        reporter.step("enter namespaces")
        libc.setns(pidfd, libc.CLONE_NEWNS | (0 if spec.privileged else libc.CLONE_NEWCGROUP))
        give_streams(console, spec.uid + (id_map.first if id_map is not None else 0), reporter)
        if user_namespace >= 0:
            reporter.step("enter user namespace")
            libc.setns(user_namespace, libc.CLONE_NEWUSER)
            own_capabilities.cache_clear()  # all of them, over what belongs to that namespace
        become(spec, reporter)
        reporter.step("set death signal")
        die_with_parent(pause_pid, status)
        if adopts:
            libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        reporter.step("exec")
        execute(argv, spec.env, spec.seccomp)
    except BaseException as error:
        reporter.fail(error)


def shield(reporter: Reporter) -> int:
    """Keep what the pause holds from the container: others in its PID namespace can look at this process already.

    Returns:
        This process' status in the host's /proc, which it will no longer see: for `die_with_parent`.
    """
    reporter.step("shield")
    libc.close_on_exec_from(3)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


def die_with_parent(parent: int, status: int) -> None:
    """Have this process killed when its parent dies, and end it now if that has happened already.

    Args:
        parent: The parent as the host's /proc numbers it. `getppid` says 0 in a PID namespace of one's own, whoever
            the parent is.
        status: As `shield` has opened it.
    """
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    # In this order: the kernel gives a process its new parent before it looks for whom to signal.
    if b"\nPPid:\t%d\n" % parent not in os.read(status, 4096):
        os._exit(128)


def look_up() -> None:
    """Look up, in the pause, what all its children need to know: in a new process each page touched costs."""
    ignored_signals()
    blocks_signals()
    own_capabilities()
    last_capability()
    thread_number_address()


@cache
def ignored_signals() -> tuple[int, ...]:
    """Return the signals that a pause ignores: an exec resets handlers, but a program inherits what is ignored."""
    return tuple(one for one in signal.valid_signals() if signal.getsignal(one) == signal.SIG_IGN)


@cache
def blocks_signals() -> bool:
    """Tell whether a pause blocks signals, which it may have from whoever started the daemon."""
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


@cache
def own_capabilities() -> int:
    """Return the capabilities that a pause has to give, as a bit mask."""
    for line in read_small("/proc/self/status").splitlines():
        if line.startswith(b"CapPrm:"):
            return int(line.split()[1], 16)
    return 0


@cache
def last_capability() -> int:
    """Return the highest number of a capability that this kernel knows."""
    return int(read_small("/proc/sys/kernel/cap_last_cap"))


def reset_signals() -> None:
    """Undo what a pause ignores or blocks."""
    for number in ignored_signals():
        libc.reset_signal(number)
    if blocks_signals():
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def join_cgroups(directories: list[str]) -> None:
    """Move this process, which has one thread, into control groups that it was not made in.

    On version 1 through `tasks`: a thread that moves itself needs no lock over all threads of the machine, which a
    write to `cgroup.procs` takes, and which costs a grace period of the kernel (12 ms measured, against 0.05 ms).
    """
    for directory in directories:
        try:
            write_small(f"{directory}/tasks", b"0")
        except FileNotFoundError:
            write_small(f"{directory}/cgroup.procs", b"0")


def set_oom_score(score: int | None) -> None:
    """Set the score where the kernel lets us; lowering it needs a right that some machines withhold."""
    if score is None:
        return
    try:
        write_small("/proc/self/oom_score_adj", str(score).encode())
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise


def give_streams(console: int, uid: int, reporter: Reporter, *, is_console: bool = False) -> None:
    """Make a terminal, or give the pipes, to the container's user: programs open /dev/stdout and /dev/stderr again.

    Args:
        console: Where the terminal's controlling side is sent, -1 without a terminal.
        uid: The user, as the host knows it.
        reporter: Told of the step.
        is_console: The terminal is the container's console, too.
    """
    if console >= 0:
        reporter.step("set terminal")
        connect_terminal(console, uid, is_console=is_console)
        return
    reporter.step("give streams")
    for number in range(3) if uid else ():
        if os.fstat(number).st_mode & _FORMAT == _PIPE:
            os.fchown(number, uid, -1)


def become(spec: ContainerSpec, reporter: Reporter) -> None:
    """Enter the working directory and take on the container's user, groups and capabilities."""
    reporter.step("change directory")
    entered = enter(spec.cwd, may_fail=True)
    if spec.apparmor:
        reporter.step("set AppArmor profile")
        write_small("/proc/self/attr/apparmor/exec", f"exec {spec.apparmor}".encode())
    reporter.step("drop bounding capabilities")
    for number in range(last_capability() + 1):
        if not spec.capabilities >> number & 1:
            libc.prctl(libc.PR_CAPBSET_DROP, number)
    if spec.no_new_privs:
        reporter.step("set no_new_privs")
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    if spec.seccomp and not spec.no_new_privs:
        # Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go: install it while we have it. The
        # profiles allow what follows.
        reporter.step("set seccomp filter")
        libc.set_seccomp_filter(a2b_base64(spec.seccomp))
    reporter.step("set user and groups")
    os.setgroups(spec.groups)
    os.setresgid(spec.gid, spec.gid, spec.gid)
    libc.prctl(libc.PR_SET_KEEPCAPS, 1)
    os.setresuid(spec.uid, spec.uid, spec.uid)
    libc.prctl(libc.PR_SET_KEEPCAPS, 0)
    reporter.step("set capabilities")
    wanted = spec.capabilities & own_capabilities() if spec.uid == 0 else 0
    libc.set_capabilities(wanted, wanted, 0)
    if not entered:
        reporter.step("change directory")
        enter(spec.cwd)


def enter(directory: str, *, may_fail: bool = False) -> bool:
    """Make a directory the current one; False when this user may not enter it, and `may_fail`.

    Raises:
        CommandError: It cannot be.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        if may_fail and isinstance(error, PermissionError):
            return False
        why = os.strerror(error.errno or 0).lower()
        raise CommandError(f"chdir to cwd ({dumps(directory)}) set in config.json failed: {why}") from error
    return True


def execute(argv: list[str], env: list[str], seccomp: str) -> NoReturn:
    """Find the command in the container's PATH and execute it.

    Raises:
        CommandError: It is not there, or this user may not execute it.
    """
    environment = dict(entry.split("=", 1) for entry in env)
    path = find_command(argv[0], environment.get("PATH", DEFAULT_PATH))
    if seccomp and libc.has_no_new_privs():
        libc.set_seccomp_filter(a2b_base64(seccomp))
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        # It has no format that the kernel knows, or its interpreter is missing: the container has started, says its
        # program's standard error, and ends.
        with suppress(OSError):
            os.write(2, f"exec {path}: {os.strerror(error.errno or 0).lower()}\n".encode())
        os._exit(_NOT_EXECUTED)


def find_command(name: str, search_path: str) -> str:
    """Return the path of a command, with the words of the usual container runtime when there is none.

    Raises:
        CommandError: Not found, or found but not executable.
    """
    if "/" in name:
        if _is_executable(name):
            return name
        if not os.path.exists(name):
            raise CommandError(f"exec: {dumps(name)}: stat {name}: no such file or directory")
        what = "is a directory" if os.path.isdir(name) else "permission denied"
        raise CommandError(f"exec: {dumps(name)}: {what}")
    candidates = [f"{directory or '.'}/{name}" for directory in search_path.split(":")]
    for candidate in candidates:
        if _is_executable(candidate):
            return candidate
    if any(os.path.isfile(one) for one in candidates):
        raise CommandError(f"exec: {dumps(name)}: permission denied")
    raise CommandError(f"exec: {dumps(name)}: executable file not found in $PATH")


def _is_executable(path: str) -> bool:
    return os.access(path, os.X_OK, effective_ids=True) and not os.path.isdir(path)
