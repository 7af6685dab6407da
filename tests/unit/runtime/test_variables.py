"""U-ENV: the environment a Pod asks for, the rows of Kubernetes' own test restated; downward API texts."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from minikubelet.api.types import (
    ConfigMap,
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    Container,
    DownwardAPIVolumeFile,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ObjectMeta,
    Pod,
    PodSpec,
    ResourceFieldSelector,
    ResourceRequirements,
    Secret,
    SecretEnvSource,
    SecretKeySelector,
    Volume,
)
from minikubelet.runtime.port import ContainerFailure
from minikubelet.runtime.variables import Variables, format_map, read_env_file
from minikubelet.runtime.volumes.payload import PayloadError


class Objects:
    def __init__(self, config_maps: Mapping[str, Mapping[str, str]], secrets: Mapping[str, Mapping[str, str]]) -> None:
        self._config_maps = config_maps
        self._secrets = secrets

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        data = self._config_maps.get(name) if namespace == "test" else None
        return None if data is None else ConfigMap(api_version="v1", kind="ConfigMap", data=dict(data))

    def secret(self, namespace: str, name: str) -> Secret | None:
        data = self._secrets.get(name) if namespace == "test" else None
        if data is None:
            return None
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        return Secret(api_version="v1", kind="Secret", data=encoded)


OBJECTS = Objects({"c": {"A": "a", "1234": "n", "dash-key": "d"}}, {"s": {"A": "secret", "1234": "hidden"}})


def pod_of(container: Container, volumes: list[Volume] | None = None) -> Pod:
    meta = ObjectMeta(name="p", namespace="test", uid="u", labels={"k": "v"}, annotations={"b": '"q"', "a": "ü"})
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=meta,
        spec=PodSpec(containers=[container], node_name="n1", volumes=volumes),
    )


def variables_of(volume_dir: str = "") -> Variables:
    return Variables(
        OBJECTS,
        pod_ips=lambda _: ("10.0.0.5", "fd00::5"),
        host_ips=lambda: ("192.0.2.1", "2001:db8::1"),
        allocatable={"cpu": "4", "memory": "8Gi"},
        volume_path=lambda _, name: f"{volume_dir}/{name}",
    )


def environment(container: Container) -> dict[str, str]:
    return variables_of().environment(pod_of(container), container)


def plain(**values: str) -> list[EnvVar]:
    return [EnvVar(name=name, value=value) for name, value in values.items()]


def from_map(name: str = "c", prefix: str = "", optional: bool | None = None) -> EnvFromSource:
    return EnvFromSource(prefix=prefix, config_map_ref=ConfigMapEnvSource(name=name, optional=optional))


def from_secret(name: str = "s", prefix: str = "", optional: bool | None = None) -> EnvFromSource:
    return EnvFromSource(prefix=prefix, secret_ref=SecretEnvSource(name=name, optional=optional))


def map_key(name: str, key: str, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name=name, key=key, optional=optional))


def secret_key(name: str, key: str, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(secret_key_ref=SecretKeySelector(name=name, key=key, optional=optional))


MISSING_MAP = 'configmap "none" not found'
MISSING_SECRET = 'secret "none" not found'

# id, env, envFrom, and the variables or the error expected. Rows 1, 2 and 4 are about services of a cluster.
ROWS: list[tuple[str, list[EnvVar], list[EnvFromSource], dict[str, str] | str]] = [
    ("U-ENV-3", plain(FOO="BAR"), [], {"FOO": "BAR"}),
    ("U-ENV-5", plain(KUBERNETES_SERVICE_HOST="own"), [], {"KUBERNETES_SERVICE_HOST": "own"}),
    ("U-ENV-6", plain(A="$(B)", B="b"), [], {"A": "$(B)", "B": "b"}),
    ("U-ENV-7", plain(A="$(B)-$$(C)-$D"), [], {"A": "$(B)-$(C)-$D"}),
    ("U-ENV-8", plain(E="", A="x$(E)y"), [], {"E": "", "A": "xy"}),
    ("U-ENV-9", plain(A="a", B="$(A)b", C="$(B)c"), [], {"A": "a", "B": "ab", "C": "abc"}),
    (
        "U-ENV-10",
        [
            EnvVar(name="X", value_from=map_key("none", "A", True)),
            EnvVar(name="Y", value_from=map_key("c", "B", True)),
        ],
        [],
        {},
    ),
    (
        "U-ENV-11",
        [
            EnvVar(name="X", value_from=secret_key("none", "A", True)),
            EnvVar(name="Y", value_from=secret_key("s", "B", True)),
        ],
        [],
        {},
    ),
    (
        "U-ENV-12",
        plain(A="own", R="$(p_A)"),
        [from_map(), from_map(prefix="p_")],
        {"A": "own", "1234": "n", "dash-key": "d", "p_A": "a", "p_1234": "n", "p_dash-key": "d", "R": "a"},
    ),
    ("U-ENV-13", [], [from_secret(prefix="1_")], {"1_A": "secret", "1_1234": "hidden"}),
    ("U-ENV-14", [], [from_map("none")], MISSING_MAP),
    ("U-ENV-15", [], [from_map("none", optional=True)], {}),
    ("U-ENV-16", [], [from_secret(prefix="p_")], {"p_A": "secret", "p_1234": "hidden"}),
    ("U-ENV-14 secret", [], [from_secret("none")], MISSING_SECRET),
    ("U-ENV-15 secret", [], [from_secret("none", optional=True)], {}),
    ("missing ConfigMap", [EnvVar(name="X", value_from=map_key("none", "A"))], [], MISSING_MAP),
    ("missing Secret", [EnvVar(name="X", value_from=secret_key("none", "A"))], [], MISSING_SECRET),
    (
        "missing key",
        [EnvVar(name="X", value_from=map_key("c", "B"))],
        [],
        "couldn't find key B in ConfigMap test/c",
    ),
    (
        "missing secret key",
        [EnvVar(name="X", value_from=secret_key("s", "B"))],
        [],
        "couldn't find key B in Secret test/s",
    ),
    (
        "references are not expanded",
        [EnvVar(name="X", value_from=secret_key("s", "A")), EnvVar(name="Y", value="$(X)")],
        [],
        {"X": "secret", "Y": "secret"},
    ),
    ("later sources win", [], [from_map(), from_secret()], {"A": "secret", "1234": "hidden", "dash-key": "d"}),
]


@pytest.mark.conformance("U-ENV")
@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in ROWS])
def test_environment(row: tuple[str, list[EnvVar], list[EnvFromSource], dict[str, str] | str]) -> None:
    _, env, env_from, expected = row
    container = Container(name="c", image="i", env=env, env_from=env_from)
    if isinstance(expected, dict):
        assert environment(container) == expected
        return
    with pytest.raises(ContainerFailure) as caught:
        environment(container)
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", expected)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "test"),
        ("metadata.uid", "u"),
        ("metadata.labels['k']", "v"),
        ("metadata.labels['absent']", ""),
        ("metadata.annotations['b']", '"q"'),
        ("metadata.annotations", 'a="ü"\nb="\\"q\\""'),
        ("spec.nodeName", "n1"),
        ("spec.serviceAccountName", ""),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1,2001:db8::1"),
        ("status.podIP", "10.0.0.5"),
        ("status.podIPs", "10.0.0.5,fd00::5"),
    ],
)
def test_field_references(path: str, expected: str) -> None:
    source = EnvVarSource(field_ref=ObjectFieldSelector(api_version="v1", field_path=path))
    container = Container(name="c", image="i", env=[EnvVar(name="X", value_from=source)])
    assert environment(container) == {"X": expected}


RESOURCES = ResourceRequirements(
    limits={"cpu": "1250m", "memory": "64Mi"}, requests={"cpu": "250m", "memory": "32Mi", "hugepages-2Mi": "0"}
)


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1250"),
        ("requests.cpu", "1", "1"),
        ("limits.memory", "1", "67108864"),
        ("requests.memory", "1Mi", "32"),
        ("limits.memory", "1G", "1"),
        ("requests.hugepages-2Mi", "0", "0"),
        ("requests.ephemeral-storage", "0", "0"),
    ],
)
def test_resource_references(resource: str, divisor: str, expected: str) -> None:
    selector = ResourceFieldSelector(resource=resource, divisor=divisor)
    variable = EnvVar(name="X", value_from=EnvVarSource(resource_field_ref=selector))
    assert environment(Container(name="c", image="i", env=[variable], resources=RESOURCES)) == {"X": expected}


@pytest.mark.parametrize(("resource", "expected"), [("limits.cpu", "4"), ("limits.memory", str(8 * 1024**3))])
def test_an_absent_limit_is_what_the_node_can_give(resource: str, expected: str) -> None:
    variable = EnvVar(
        name="X", value_from=EnvVarSource(resource_field_ref=ResourceFieldSelector(resource=resource, divisor="0"))
    )
    assert environment(Container(name="c", image="i", env=[variable])) == {"X": expected}


def test_an_absent_limit_is_the_pods_where_that_has_one() -> None:
    variable = EnvVar(
        name="X",
        value_from=EnvVarSource(resource_field_ref=ResourceFieldSelector(resource="limits.memory", divisor="0")),
    )
    container = Container(name="c", image="i", env=[variable])
    meta = ObjectMeta(name="p", namespace="test", uid="u")
    spec = PodSpec(containers=[container], resources=ResourceRequirements(limits={"memory": "1Gi"}))
    pod = Pod(api_version="v1", kind="Pod", metadata=meta, spec=spec)
    assert variables_of().environment(pod, container) == {"X": str(1024**3)}


def test_file_keys(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "env").write_text("# words\nA='one'\n\nB='two\nlines'\n")

    def of(key: str, optional: bool | None = None) -> dict[str, str]:
        selector = FileKeySelector(volume_name="v", path="env", key=key, optional=optional)
        container = Container(
            name="c", image="i", env=[EnvVar(name="X", value_from=EnvVarSource(file_key_ref=selector))]
        )
        return variables_of(str(tmp_path)).environment(pod_of(container), container)

    assert of("A") == {"X": "one"}
    assert of("B") == {"X": "two\nlines"}
    assert of("C", True) == {}
    with pytest.raises(ContainerFailure):
        of("C")


@pytest.mark.parametrize("text", ["A=plain\n", 'A="double"\n', "A='open\n", "A\n"])
def test_env_files_take_single_quotes_only(tmp_path: Path, text: str) -> None:
    (tmp_path / "env").write_text(text)
    with pytest.raises(ContainerFailure, match='couldn\'t parse env file "env": invalid environment variable format'):
        read_env_file(str(tmp_path), "env")


def test_env_files_cannot_lead_out_of_their_volume_nor_hold_the_node_up(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "secret").write_text("A='stolen'\n")
    (volume / "absolute").symlink_to(tmp_path / "secret")
    (volume / "relative").symlink_to("../secret")
    (volume / "dir").symlink_to("..")
    os.mkfifo(volume / "pipe")
    (volume / "large").write_text("A='" + "x" * 65536 + "'\n")
    (volume / "own").write_text("A='mine'\n")
    (volume / "inside").symlink_to("own")
    for path in ("absolute", "relative", "dir/secret", "pipe", "large", "none"):
        with pytest.raises(ContainerFailure, match=f'couldn\'t parse env file "{path}"'):
            read_env_file(str(volume), path)
    assert read_env_file(str(volume), "inside") == {"A": "mine"}


def test_texts_that_no_variable_can_hold_are_refused_without_showing_them() -> None:
    env = plain(X="a\0b")
    with pytest.raises(ContainerFailure) as caught:
        environment(Container(name="c", image="i", env=env))
    assert (caught.value.reason, caught.value.message) == (
        "CreateContainerConfigError",
        "environment variable 'X' contains a NUL byte",
    )
    binary = Secret(api_version="v1", kind="Secret", data={"k": base64.b64encode(b"\xff\xfe").decode()})
    objects = Objects({}, {})
    objects.secret = lambda namespace, name: binary  # type: ignore[method-assign]
    variables = Variables(
        objects, pod_ips=lambda _: (), host_ips=lambda: (), allocatable={}, volume_path=lambda _, name: name
    )
    container = Container(name="c", image="i", env=[EnvVar(name="X", value_from=secret_key("s", "k"))])
    with pytest.raises(ContainerFailure, match='value of key "k" is not UTF-8'):
        variables.environment(pod_of(container), container)


def test_maps_are_sorted_and_quoted() -> None:
    assert format_map({"b": "x\ny", "a": "1"}) == 'a="1"\nb="x\\ny"'


def test_resources_of_a_container_that_is_not_there() -> None:
    selector = ResourceFieldSelector(container_name="other", resource="limits.cpu", divisor="0")
    source = EnvVarSource(resource_field_ref=selector)
    container = Container(name="c", image="i", env=[EnvVar(name="X", value_from=source)])
    with pytest.raises(ContainerFailure, match="container other not found"):
        environment(container)
    item = DownwardAPIVolumeFile(path="p", resource_field_ref=selector)
    with pytest.raises(PayloadError, match="container other not found"):
        variables_of().downward(pod_of(container), item)


def test_maps_are_quoted_as_go_quotes_them() -> None:
    assert (
        format_map({"a": "bell\a nul\0 hard\u00a0blank \u200b é <&>"})
        == r'a="bell\a nul\x00 hard\u00a0blank \u200b é <&>"'
    )


def test_the_nodes_name_by_its_first_name() -> None:
    assert variables_of().field(pod_of(Container(name="main")), "spec.host") == "n1"


def test_a_limit_of_nought_is_none() -> None:
    container = Container(name="main", resources=ResourceRequirements(limits={"cpu": "0"}))
    selector = ResourceFieldSelector(resource="limits.cpu", divisor="0")
    assert variables_of().resource(pod_of(container), selector, container) == "4"
