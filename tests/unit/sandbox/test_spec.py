import pytest

from minikubelet.sandbox.spec import container_from_json, sandbox_from_json

SANDBOX = {"uid": "u", "id": "s", "attempt": 0, "namespace": "n", "name": "p", "hostname": "h"}
SANDBOX |= {"run_dir": "/r", "pod_dir": "/p"}
CONTAINER = {"id": "c", "name": "main", "restart_count": 0, "spec_hash": "", "argv": ["a"], "env": []}
MOUNT = {"kind": "bind", "target": "/t", "source": "/s"}
NEWER = {"of_a_newer_daemon": 1}


def test_keys_of_a_newer_daemon_are_passed_over():
    sandbox = sandbox_from_json({**SANDBOX, **NEWER, "user_namespace": {"first": 5, "length": 6}})
    container = container_from_json({**CONTAINER, **NEWER, "mounts": [MOUNT, {**MOUNT, **NEWER, "target": "/u"}]})
    assert (sandbox.uid, sandbox.user_namespace.first) == ("u", 5)
    assert (container.name, [one.target for one in container.mounts]) == ("main", ["/t", "/u"])


def test_what_was_asked_for_is_not_changed():
    asked = {**CONTAINER, "mounts": [MOUNT]}
    container_from_json(asked)
    assert asked == {**CONTAINER, "mounts": [MOUNT]}


def test_a_missing_key_is_an_error():
    with pytest.raises(TypeError):
        container_from_json({**CONTAINER, "argv": None, "mounts": [{"kind": "bind"}]})
