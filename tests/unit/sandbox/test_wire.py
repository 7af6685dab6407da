"""The small JSON and the small value classes do as the standard library's, which a type checker takes them for."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.linux.lean import asdict, replace
from minikubelet.sandbox.spec import ContainerSpec, MountSpec, container_from_json
from minikubelet.sandbox.wire import dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NEEDED = {"id": "1", "name": "c", "restart_count": 0, "spec_hash": "", "argv": ["a"], "env": []}


@given(VALUES)
def test_text_is_that_of_json_and_is_read_back(value: object) -> None:
    text = dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert loads(text + "\n") == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{} {}", "nope", '"\n"'])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


def test_what_json_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})
    assert math.isnan(loads("NaN"))


def test_specs_have_their_own_defaults_and_travel_whole() -> None:
    first, second = container_from_json(NEEDED), container_from_json(NEEDED)
    assert first == second
    first.groups.append(7)
    assert second.groups == []
    whole = replace(first, mounts=[MountSpec(kind="bind", target="/a", source="/b")])
    assert container_from_json({**asdict(whole), "of_a_newer_daemon": 1}) == whole


def test_a_spec_that_lacks_a_value_or_has_an_unknown_one_is_refused() -> None:
    with pytest.raises((TypeError, AttributeError)):
        ContainerSpec(id="1")  # type: ignore[call-arg]
    with pytest.raises((TypeError, AttributeError)):
        ContainerSpec(**NEEDED, unknown=1)  # type: ignore[call-arg,arg-type]
