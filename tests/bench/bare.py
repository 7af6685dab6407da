"""What the kernel alone takes: fork, namespaces, an overlay root, a veth pair with an address, exec.

The yardstick of the same run. It is a plain Python loop with the system calls in their order and nothing else: no
decision, no record, no log, no limit. Run as a program of its own, so that it forks from a small process:

    python -S -E tests/bench/bare.py ROUNDS WORD_PREFIX MARKS_DIRECTORY SCRATCH

Prints one number a round: milliseconds from the fork until the word has arrived.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
FLAGS = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mount, UTS, IPC, PID and network namespaces
MS_REC_PRIVATE = 0x4000 | 0x40000
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def check(result: int) -> None:
    """Raise what the last call left in errno."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def attribute(kind: int, data: bytes) -> bytes:
    """Pack one netlink attribute."""
    return struct.pack("HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def ask(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    """Send one rtnetlink request and wait until the kernel has done it."""
    sock.send(struct.pack("IHHII", 16 + len(body), kind, flags | 1 | 4, 1, 0) + body)
    error = struct.unpack_from("i", sock.recv(4096), 16)[0]
    if error:
        raise OSError(-error, os.strerror(-error))


def link_request(index: int, flags: int = 0) -> bytes:
    """Pack the head of a link request."""
    return struct.pack("BxHiII", 0, 0, index, flags, flags)


def connect(netns: int, number: int) -> None:
    """Make a veth pair into a namespace, with an address inside, both ends up."""
    host, inside = f"mkbare{number}", "eth0"
    peer = link_request(0) + attribute(3, inside.encode() + b"\0") + attribute(28, struct.pack("I", netns))
    info = attribute(18, attribute(1, b"veth") + attribute(2, attribute(1, peer)))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        ask(sock, 16, 0x400 | 0x200, link_request(0, 1) + attribute(3, host.encode() + b"\0") + info)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    check(LIBC.setns(netns, 0x40000000))
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            index = socket.if_nametoindex(inside)
            address = socket.inet_aton("10.250.0.2")
            ask(sock, 16, 0, link_request(1, 1))
            ask(sock, 16, 0, link_request(index, 1))
            body = struct.pack("BBBBI", 2, 24, 0, 0, index) + attribute(1, address) + attribute(2, address)
            ask(sock, 20, 0x400 | 0x200, body)
            gateway = attribute(5, socket.inet_aton("10.250.0.1")) + attribute(4, struct.pack("I", index))
            ask(sock, 24, 0x400 | 0x200, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + gateway)
    finally:
        check(LIBC.setns(home, 0x40000000))
        os.close(home)


def build_root(marks: str, scratch: str) -> None:
    """Put an overlay over the host's root with /proc in it, and change into it."""
    check(LIBC.mount(b"none", b"/", None, MS_REC_PRIVATE, None))
    base = scratch.encode()
    check(LIBC.mount(b"tmpfs", base, b"tmpfs", 0, None))
    for name in (b"/upper", b"/work", b"/root"):
        os.mkdir(base + name)
    options = b"lowerdir=/,upperdir=" + base + b"/upper,workdir=" + base + b"/work"
    check(LIBC.mount(b"overlay", base + b"/root", b"overlay", 0, options))
    os.makedirs(base.decode() + "/root" + marks, exist_ok=True)
    check(LIBC.mount(marks.encode(), base + b"/root" + marks.encode(), None, 4096, None))
    check(LIBC.mount(b"proc", base + b"/root/proc", b"proc", 0, None))
    os.chdir(base + b"/root")
    check(LIBC.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."))
    check(LIBC.umount2(b".", 2))


def start(word: str, number: int, marks: str, scratch: str) -> int:
    """Start one program in namespaces of its own; return the process that stands for its pause."""
    told, tell = os.pipe()
    go, ready = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            LIBC.prctl(1, signal.SIGKILL)
            check(LIBC.unshare(FLAGS))
            os.write(tell, b"x")
            os.read(go, 1)
            child = os.fork()
            if child == 0:
                LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the program goes with its holder
                build_root(marks, scratch)
                os.execv("/bin/sh", ["/bin/sh", "-c", f"echo {word} > {marks}/marks; exec sleep 100000"])
            signal.pause()
        finally:
            os._exit(1)
    os.read(told, 1)
    netns = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    connect(netns, number)
    os.close(netns)
    os.write(ready, b"x")
    for descriptor in (told, tell, go, ready):
        os.close(descriptor)
    return holder


def main() -> None:
    """Measure, one round after the other."""
    rounds, prefix, marks, scratch = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    fifo = os.open(f"{marks}/marks", os.O_RDWR | os.O_NONBLOCK)
    for number in range(rounds):
        word = f"{prefix}{number}"
        began = time.monotonic()
        holder = start(word, number, marks, scratch)
        text = b""
        while word.encode() not in text:
            if not select.select([fifo], [], [], 10)[0]:
                sys.exit("the bare program did not start")
            text += os.read(fifo, 4096)
        print((time.monotonic() - began) * 1000, flush=True)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


if __name__ == "__main__":
    main()
