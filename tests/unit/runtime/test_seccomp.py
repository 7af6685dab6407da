"""Seccomp filters, run by an interpreter of the kernel's filter language: what each capability opens, and arguments."""

from __future__ import annotations

import errno
import platform
import struct
from typing import Any

import pytest

from minikubelet.runtime.seccomp import SeccompError, _library, compile_profile, runtime_default

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64 calls")

X86_64 = 0xC000003E
I386 = 0x40000003
ALLOW = 0x7FFF0000
EPERM = 0x00050000 | errno.EPERM
NONE: frozenset[str] = frozenset()
CLONE_NEWUSER = 0x10000000
SIGCHLD = 17


def run_filter(program: bytes, call: str | int, *arguments: int, arch: int = X86_64) -> int:
    """Return what a filter says to a call; see linux/filter.h and seccomp(2) for the language."""
    number = call if isinstance(call, int) else _library().seccomp_syscall_resolve_name(call.encode())
    assert number >= 0, call
    data = struct.pack("iIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    at = accumulator = index = 0
    scratch = [0] * 16
    while True:
        code, true, false, k = struct.unpack_from("HBBI", program, at * 8)
        at += 1
        operand = index if code & 0x08 and code & 0x07 in (4, 5) else k
        match code & 0x07:
            case 0 if code & 0xE0 == 0x20:
                accumulator = struct.unpack_from("I", data, k)[0]
            case 0:
                accumulator = scratch[k] if code & 0xE0 == 0x60 else k
            case 1:
                index = scratch[k] if code & 0xE0 == 0x60 else k
            case 2:
                scratch[k] = accumulator
            case 4 if code & 0xF0 == 0x50:
                accumulator &= operand
            case 5 if code & 0xF0 == 0:
                at += k
            case 5:
                holds = {
                    0x10: accumulator == operand,
                    0x20: accumulator > operand,
                    0x30: accumulator >= operand,
                    0x40: bool(accumulator & operand),
                }[code & 0xF0]
                at += true if holds else false
            case 6:
                return int(k)
            case _:
                raise AssertionError(f"instruction {code:#x}")


OPENED = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "mount umount2 unshare setns pivot_root_ bpf perf_event_open clone3 sethostname fsopen move_mount",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday clock_settime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "mbind set_mempolicy get_mempolicy",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
ROWS = [(name, call) for name, calls in OPENED.items() for call in calls.split() if not call.endswith("_")]


@pytest.mark.parametrize(("capability", "call"), ROWS)
def test_a_capability_opens_its_calls(capability: str, call: str) -> None:
    assert run_filter(compile_profile(runtime_default({capability})), call) == ALLOW
    closed = run_filter(compile_profile(runtime_default(NONE)), call)
    assert closed == (0x00050000 | errno.ENOSYS if call == "clone3" else EPERM)


@pytest.mark.parametrize(
    "call", "keyctl add_key request_key io_uring_setup userfaultfd kexec_load swapon nfsservctl".split()
)
def test_some_calls_are_closed_to_all(call: str) -> None:
    everything = frozenset(OPENED)
    assert run_filter(compile_profile(runtime_default(everything)), call) == EPERM


@pytest.mark.parametrize("call", "read openat execve ptrace futex setuid chown mknod clone statx openat2 rseq".split())
def test_ordinary_calls_are_open(call: str) -> None:
    program = compile_profile(runtime_default(NONE))
    assert run_filter(program, call) == ALLOW


def test_arguments_count() -> None:
    program = compile_profile(runtime_default(NONE))
    assert run_filter(program, "clone", SIGCHLD) == ALLOW
    assert run_filter(program, "clone", SIGCHLD | CLONE_NEWUSER) == EPERM
    assert run_filter(program, "socket", 2) == ALLOW
    assert run_filter(program, "socket", 40) == EPERM  # vsock
    assert run_filter(program, "personality", 0x20008) == ALLOW
    assert run_filter(program, "personality", 0x40000) == EPERM  # no address randomization


def test_other_architectures_of_the_machine_are_filtered_too() -> None:
    program = compile_profile(runtime_default(NONE))
    number_of_mount_on_i386 = "gettid"  # 186 there is sigaltstack: only the table decides
    assert run_filter(program, number_of_mount_on_i386, arch=I386) == ALLOW
    assert run_filter(program, "read", arch=0xC00000B7) == EPERM  # arm64 is not of this machine


def local(**more: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], **more}


def test_local_profiles() -> None:
    rules = [
        {"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 0xF, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {"names": ["dup"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 100, "op": "SCMP_CMP_GT"}]},
    ]
    program = compile_profile(local(syscalls=rules))
    assert run_filter(program, "mkdir") == 0x00050000 | 28
    assert run_filter(program, "kill", 1, 9) == 0x80000000
    assert run_filter(program, "kill", 1, 15) == ALLOW
    assert run_filter(program, "socket", 2, 0x80003) == EPERM
    assert run_filter(program, "socket", 2, 1) == ALLOW
    assert run_filter(program, "dup", 101) == 0x7FFC0000
    assert run_filter(program, "dup", 100) == ALLOW


def test_default_errno_of_a_local_profile() -> None:
    program = compile_profile({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": []})
    assert run_filter(program, "read") == 0x00050000 | 38


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ({"defaultAction": "ALLOW"}, "unknown seccomp action 'ALLOW'"),
        (local(syscalls=[{"names": ["read"], "action": "NO"}]), "unknown seccomp action 'NO'"),
        (
            local(
                syscalls=[
                    {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "EQ"}]}
                ]
            ),
            "unknown seccomp operator 'EQ'",
        ),
    ],
)
def test_malformed_profiles_say_what_is_wrong(profile: dict[str, Any], text: str) -> None:
    with pytest.raises(SeccompError, match=text):
        compile_profile(profile)


def test_calls_newer_than_the_profile_are_not_there() -> None:
    program = compile_profile(runtime_default(NONE))
    assert run_filter(program, 5000) == 0x00050000 | errno.ENOSYS
    assert run_filter(program, 5000, arch=I386) == EPERM
    assert run_filter(program, 0x40000000 + 5000) == EPERM  # of x32
    narrow = compile_profile(
        {
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read", "mkdir"], "action": "SCMP_ACT_ALLOW"}],
        }
    )
    assert run_filter(narrow, "read") == ALLOW
    assert run_filter(narrow, "open") == 0x80000000
    assert run_filter(narrow, "rmdir") == 0x00050000 | errno.ENOSYS  # one beyond mkdir
    assert run_filter(compile_profile(local(syscalls=[{"names": ["read"], "action": "SCMP_ACT_KILL"}])), 5000) == ALLOW
