"""What this machine has for pods, as admission, the API and the downward API know it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from minikubelet.api.quantity import NANO, Quantity, parse_quantity
from minikubelet.lifecycle.admission import Node
from minikubelet.node.settings import Settings

_APP_ARMOR: Final = "/sys/module/apparmor/parameters/enabled"
_HUGE_PAGES: Final = "/sys/kernel/mm/hugepages"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def machine_capacity(state_dir: str) -> dict[str, str]:
    """Return the machine's processors, bytes of memory and bytes of the state directory's disk, as quantities."""
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "ephemeral-storage": str(_disk_bytes(state_dir)),
    }


def node_facts(settings: Settings, capacity: Mapping[str, str]) -> Node:
    """Return what admission must know of this machine.

    Args:
        settings: The node's configuration.
        capacity: What the machine has (`machine_capacity`), as quantities, without huge pages.
    """
    machine = os.uname().machine
    architecture = _ARCHITECTURES.get(machine, machine)
    labels = {
        "kubernetes.io/hostname": settings.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        **dict(settings.node_labels),
    }
    there = {name: parse_quantity(text).nanos for name, text in capacity.items()} | _huge_pages()
    reserved = (dict(settings.system_reserved), dict(settings.kube_reserved))
    allocatable = {
        name: max(0, nanos - sum(parse_quantity(one[name]).nanos for one in reserved if name in one))
        for name, nanos in there.items()
    }
    return Node(
        name=settings.node_name,
        labels=labels,
        capacity=there,
        allocatable=allocatable,
        max_pods=settings.max_pods,
        allowed_unsafe_sysctls=settings.allowed_unsafe_sysctls,
        app_armor=read_text(_APP_ARMOR).startswith("Y"),
    )


def resource_list(resources: Mapping[str, int]) -> dict[str, str]:
    """Return amounts in nano units as the texts of a Node: processors in decimal, bytes in binary suffixes."""
    return {
        name: Quantity(nanos, "DecimalSI" if name == "cpu" else "BinarySI").canonical()
        for name, nanos in sorted(resources.items())
    }


def read_text(path: str) -> str:
    """Return what stands in a file of the kernel's or the machine's, without blanks around it; "" without the file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _disk_bytes(directory: str) -> int:
    """Return the size of the file system that a directory lies, or will lie, on."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize


def _huge_pages() -> dict[str, int]:
    """Return the machine's huge pages by resource name, in nano bytes."""
    found: dict[str, int] = {}
    try:
        names = os.listdir(_HUGE_PAGES)
    except OSError:
        return found
    for name in names:
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        size = f"{kilobytes // 1048576}Gi" if kilobytes >= 1048576 else f"{kilobytes // 1024}Mi"
        number = int(read_text(f"{_HUGE_PAGES}/{name}/nr_hugepages") or 0)
        found[f"hugepages-{size}"] = number * kilobytes * 1024 * NANO
    return found
