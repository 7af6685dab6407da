"""What a container is given: groups, capabilities, profiles, masked paths; a table each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minikubelet.api.types import (
    AppArmorProfile,
    Capabilities,
    Container,
    ObjectMeta,
    Pod,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
)
from minikubelet.runtime.accounts import Accounts
from minikubelet.runtime.launch import (
    CAPABILITIES,
    apparmor_profile,
    capability_mask,
    capability_names,
    identity,
    seccomp_filter,
)
from minikubelet.runtime.port import ContainerFailure

DEFAULT = set(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE".split()
)


def pod_of(context: SecurityContext | None = None, **shared: Any) -> tuple[Pod, Container]:
    container = Container(name="c", image="i", security_context=context)
    spec = PodSpec(containers=[container], security_context=PodSecurityContext(**shared))
    meta = ObjectMeta(name="p", namespace="n", uid="u")
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=spec), container


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ("", "", DEFAULT),
        ("NET_ADMIN", "", DEFAULT | {"NET_ADMIN"}),
        ("cap_net_admin", "Cap_Chown", (DEFAULT | {"NET_ADMIN"}) - {"CHOWN"}),
        ("", "ALL", set()),
        ("ALL", "", set(CAPABILITIES)),
        ("ALL", "ALL", set()),
        ("SYS_TIME", "all", {"SYS_TIME"}),
        ("ALL", "SYS_ADMIN", set(CAPABILITIES) - {"SYS_ADMIN"}),
        ("KILL", "KILL", DEFAULT - {"KILL"}),
    ],
)
def test_capabilities(add: str, drop: str, expected: set[str]) -> None:
    context = SecurityContext(capabilities=Capabilities(add=add.split(), drop=drop.split()))
    assert set(capability_names(context)) == expected


def test_privileged_has_all() -> None:
    assert set(capability_names(SecurityContext(privileged=True))) == set(CAPABILITIES)


def test_unknown_capability_is_told() -> None:
    with pytest.raises(ContainerFailure, match='unknown capability "CAP_FLY"'):
        capability_mask(["FLY"])
    assert capability_mask(["CHOWN", "NET_ADMIN"]) == 1 | 1 << 12


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:1000:100:Me:/home/me:/bin/sh\nbroken line\n")
    (tmp_path / "etc/group").write_text("seven:x:7:me\neight:x:8:you\nnine:x:9:you,me\nnone:x:10:\n")
    return Accounts(str(tmp_path))


@pytest.mark.parametrize(
    ("own", "shared", "uid", "gid", "groups"),
    [
        ({"run_as_user": 1000}, {}, 1000, 100, {100, 7, 9}),
        ({"run_as_user": 1000}, {"supplemental_groups_policy": "Strict"}, 1000, 100, {100}),
        (
            {"run_as_user": 1000, "run_as_group": 5},
            {"supplemental_groups": [6], "fs_group": 4},
            1000,
            5,
            {4, 5, 6, 7, 9},
        ),
        ({}, {"run_as_user": 1000, "run_as_group": 3}, 1000, 3, {3, 7, 9}),
        ({"run_as_user": 4}, {"run_as_user": 1000}, 4, 0, {0}),  # a user without a name
    ],
)
def test_identity(
    own: dict[str, Any], shared: dict[str, Any], uid: int, gid: int, groups: set[int], accounts: Accounts
) -> None:
    pod, container = pod_of(SecurityContext(**own), **shared)
    found = identity(pod, container, accounts)
    assert (found.uid, found.gid, set(found.groups)) == (uid, gid, groups)


LOADED = "web (enforce)\nsbin (complain)\na b (enforce)\n"


@pytest.mark.parametrize(
    ("kind", "name", "loaded", "expected"),
    [
        ("Localhost", "web", LOADED, "web"),
        ("Localhost", "a b", LOADED, "a b"),
        ("Localhost", "web", None, "web"),
        ("Unconfined", None, LOADED, ""),
        ("RuntimeDefault", None, LOADED, ""),
    ],
)
def test_apparmor(kind: str, name: str | None, loaded: str | None, expected: str) -> None:
    profile = AppArmorProfile(type=kind, localhost_profile=name)
    pod, container = pod_of(SecurityContext(app_armor_profile=profile))
    assert apparmor_profile(pod, container, lambda: loaded) == expected
    pod, container = pod_of(None, app_armor_profile=profile)
    assert apparmor_profile(pod, container, lambda: loaded) == expected
    pod, container = pod_of(SecurityContext(privileged=True, app_armor_profile=profile))
    assert apparmor_profile(pod, container, lambda: loaded) == ""


def test_apparmor_profile_that_is_not_loaded() -> None:
    profile = AppArmorProfile(type="Localhost", localhost_profile="we")
    pod, container = pod_of(SecurityContext(app_armor_profile=profile))
    with pytest.raises(ContainerFailure, match="apparmor profile not found we"):
        apparmor_profile(pod, container, lambda: LOADED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, 'cannot load seccomp profile "{path}": open {path}: no such file or directory'),
        ("{", 'decoding seccomp profile "{path}" failed: Expecting property name'),
        ("[]", 'decoding seccomp profile "{path}" failed: '),
        ("{}", "unknown seccomp action ''"),
    ],
)
def test_seccomp_profile_that_cannot_be_used(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    pod, container = pod_of(
        SecurityContext(seccomp_profile=SeccompProfile(type="Localhost", localhost_profile="p.json"))
    )
    with pytest.raises(ContainerFailure) as raised:
        seccomp_filter(pod, container, (), str(tmp_path))
    assert str(raised.value).startswith("failed to generate seccomp spec opts: " + message.format(path=path))
