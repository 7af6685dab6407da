"""The order of a timeline, whose sources are exact to the second or finer."""

from __future__ import annotations

from minikubelet.cli.timeline import Entry, in_order

POD = {"spec": {"initContainers": [{"name": "zeta"}], "containers": [{"name": "app"}, {"name": "beside"}]}}


def test_what_is_behind_an_init_container_comes_after_its_end_in_the_same_second():
    entries = [
        Entry(10.0, 2, "event", "zeta", "Pulled"),
        Entry(10.0, 2, "event", "zeta", "Created"),
        Entry(10.0, 2, "event", "app", "Pulled"),
        Entry(10.0, 2, "Warning", "", "MissingClusterDNS"),
        Entry(10.0, 1, "start", "app", "container started"),
        Entry(10.0, 1, "start", "zeta", "container started"),
        Entry(10.999999, 4, "end", "zeta", "container ended"),
        Entry(10.9, 3, "out", "app", "hello"),
        Entry(10.2, 3, "out", "zeta", "prepared"),
        Entry(9.5, 3, "out", "app", "before"),
        Entry(11.1, 3, "out", "app", "after"),
    ]
    expected = (
        "before MissingClusterDNS container_started Pulled Created prepared container_ended container_started Pulled "
        "hello after"
    )
    assert [one.text.replace(" ", "_") for one in in_order([*entries, *entries], POD)] == expected.split()
