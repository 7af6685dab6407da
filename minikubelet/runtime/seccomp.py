"""Seccomp profiles, in the OCI's JSON form, made into kernel filters by libseccomp.

`RuntimeDefault` is the allow-list that container engines use: everything an ordinary program calls, with the calls that
belong to a capability allowed where the container has it. A call that is not listed fails with EPERM.
Source: OCI runtime specification, "Seccomp"; containerd contrib/seccomp (the set of calls).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import tempfile
from collections.abc import Collection, Iterable, Mapping
from ctypes.util import find_library
from functools import cache
from typing import Any, Final

JsonObject = Mapping[str, Any]


class SeccompError(Exception):
    """A profile could not be read or compiled."""


_ALLOW: Final = 0x7FFF0000
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": _ALLOW,
}
_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ARCHITECTURES: Final = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
}
_UNKNOWN_SYSCALL: Final = -1
_FILTER_NO_NEW_PRIVS: Final = 3  # SCMP_FLTATR_CTL_NNP
_FILTER_BAD_ARCH: Final = 2  # SCMP_FLTATR_ACT_BADARCH

# Ordinary calls, allowed to every container.
_COMMON: Final = """
accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv
futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday
getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl
io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt
mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64
pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid
setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid
setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn
socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs
sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
vmsplice wait4 waitid waitpid write writev process_vm_readv process_vm_writev ptrace
""".split()

_BY_CAPABILITY: Final[Mapping[str, str]] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
    "move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 "
    "unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module query_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
_NAMESPACE_FLAGS: Final = 0x7E020000  # every CLONE_NEW* flag of clone(2)
_AF_VSOCK: Final = 40
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def runtime_default(capabilities: Collection[str]) -> JsonObject:
    """Return the default profile for a container with these (bounding) capabilities, names with their `CAP_`."""
    rules: list[JsonObject] = [_allow(_COMMON)]
    for capability, names in _BY_CAPABILITY.items():
        if capability in capabilities:
            rules.append(_allow(names.split()))
    rules.extend(_allow(["personality"], [_argument(0, value, "SCMP_CMP_EQ")]) for value in _PERSONALITIES)
    rules.append(_allow(["socket"], [_argument(0, _AF_VSOCK, "SCMP_CMP_NE")]))
    if "CAP_SYS_ADMIN" not in capabilities:
        no_namespaces = {**_argument(0, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ"), "valueTwo": 0}
        rules.append(_allow(["clone"], [no_namespaces]))
        # Its flags are in memory, out of a filter's sight: "not there" makes the C library fall back to clone.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": _native_architectures(),
        "syscalls": rules,
    }


def _allow(names: Iterable[str], args: list[JsonObject] | None = None) -> JsonObject:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": args or []}


def _argument(index: int, value: int, operator: str) -> JsonObject:
    return {"index": index, "value": value, "op": operator}


def _native_architectures() -> list[str]:
    if platform.machine() == "x86_64":
        return ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    return ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"] if platform.machine() == "aarch64" else []


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@cache
def _library() -> ctypes.CDLL:
    name = find_library("seccomp") or "libseccomp.so.2"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise SeccompError("seccomp profiles need libseccomp (Debian package libseccomp2)") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    return library


def compile_profile(profile: JsonObject) -> bytes:
    """Compile an OCI seccomp profile into the kernel's filter program.

    Raises:
        SeccompError: The profile is malformed, or libseccomp is missing.
    """
    library = _library()
    default = _action(profile.get("defaultAction", ""), profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise SeccompError(f"cannot use seccomp default action {profile.get('defaultAction')!r}")
    try:
        library.seccomp_attr_set(context, _FILTER_NO_NEW_PRIVS, 0)
        library.seccomp_attr_set(context, _FILTER_BAD_ARCH, default)
        for name in profile.get("architectures") or ():
            code = library.seccomp_arch_add(context, _ARCHITECTURES.get(name, 0)) if name in _ARCHITECTURES else 0
            if code not in (0, -errno.EEXIST):
                raise SeccompError(f"cannot add seccomp architecture {name}: {os.strerror(-code)}")
        newest = max((_add_rule(library, context, rule, default) for rule in profile.get("syscalls") or ()), default=-1)
        with tempfile.TemporaryFile() as file:
            code = library.seccomp_export_bpf(context, file.fileno())
            if code:
                raise SeccompError(f"cannot compile seccomp profile: {os.strerror(-code)}")
            file.seek(0)
            return (_stub(newest) if _hides_new_calls(default) else b"") + file.read()
    finally:
        library.seccomp_release(context)


def _hides_new_calls(default: int) -> bool:
    """Tell whether a profile's default keeps a program from learning that the kernel lacks a call."""
    return default not in (_ALLOW, _ACTIONS["SCMP_ACT_LOG"], _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)


def _stub(newest: int) -> bytes:
    """Return the beginning of a filter that answers "not there" to calls of the machine's own newer than a number.

    A C library tries a new call and falls back to an old one only on ENOSYS; a profile, or a libseccomp, that does not
    know the call yet would answer with its default. Source: runc libcontainer/seccomp/patchbpf.
    """
    machine = _ARCHITECTURES.get(next(iter(_native_architectures()), ""), 0)
    if newest < 0 or not machine:
        return b""
    instructions = (
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 0, 4, machine),  # another one: on to the profile
        (0x20, 0, 0, 0),  # load the number
        (0x35, 2, 0, _X32_CALLS),  # those of x32 have numbers of their own
        (0x25, 0, 1, newest),
        (0x06, 0, 0, _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS),
    )
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


_X32_CALLS: Final = 0x40000000


def _add_rule(library: ctypes.CDLL, context: int, rule: JsonObject, default: int) -> int:
    """Add a rule; return the highest number of its calls, -1 when none of them is known."""
    action = _action(rule.get("action", ""), rule.get("errnoRet"))
    newest = -1
    args = [_comparison(arg) for arg in rule.get("args") or ()]
    array = (_Comparison * len(args))(*args)
    for name in rule.get("names") or ():
        number = library.seccomp_syscall_resolve_name(str(name).encode())
        if number == _UNKNOWN_SYSCALL:
            continue  # newer or other machines' calls: as runc does, nothing to filter here
        newest = max(newest, number)
        if action == default:
            continue  # libseccomp refuses a rule that says what happens anyway
        code = library.seccomp_rule_add_array(context, action, number, len(args), array)
        if code not in (0, -errno.EEXIST):
            raise SeccompError(f"cannot add seccomp rule for {name}: {os.strerror(-code)}")
    return newest


def _action(name: str, errno_value: int | None) -> int:
    if name not in _ACTIONS:
        raise SeccompError(f"unknown seccomp action {name!r}, expected one of {', '.join(_ACTIONS)}")
    value = _ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        value |= errno.EPERM if errno_value is None else errno_value & 0xFFFF
    return value


def _comparison(arg: JsonObject) -> _Comparison:
    operator = arg.get("op", "")
    if operator not in _OPERATORS:
        raise SeccompError(f"unknown seccomp operator {operator!r}, expected one of {', '.join(_OPERATORS)}")
    return _Comparison(int(arg["index"]), _OPERATORS[operator], int(arg["value"]), int(arg.get("valueTwo") or 0))
