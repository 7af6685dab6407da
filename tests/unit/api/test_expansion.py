"""U-EXP: `$(NAME)`, the rows of Kubernetes' own test restated; U-CMD: the same in command and args."""

from __future__ import annotations

import pytest

from minikubelet.api.expansion import expand
from minikubelet.api.types import Container
from minikubelet.runtime.launch import command_line

KNOWN = {"A": "A", "B": "B", "C": "C", "REF": "$(A)", "E": ""}

ROWS = [
    (1, "$(A)", "A"),
    (2, "$(A)-$(A)", "A-A"),
    (3, "$(A)-1", "A-1"),
    (4, "___$(B)___", "___B___"),
    (5, "___$(C)", "___C"),
    (6, "$(A)_$(B)_$(C)", "A_B_C"),
    (7, "$$(B)_$(A)", "$(B)_A"),
    (8, "$$(A)_$$(B)", "$(A)_$(B)"),
    (9, "f000-$$A", "f000-$A"),
    (10, r"foo\$(C)bar", r"foo\Cbar"),
    (11, r"foo\\$(C)bar", r"foo\\Cbar"),
    (11, r"foo\\\\$(A)bar", r"foo\\\\Abar"),
    (12, "$(A$(B))", "$(A$(B))"),
    (13, "$(A$(B)", "$(A$(B)"),
    (14, "$(REF)", "$(A)"),
    (15, "%%$(REF)--$(REF)%%", "%%$(A)--$(A)%%"),
    (16, "foo$(E)bar", "foobar"),
    (17, "foo$(Awhoops!", "foo$(Awhoops!"),
    (18, "f00__(A)__", "f00__(A)__"),
    (19, "$?_boo_$!", "$?_boo_$!"),
    (20, "$A", "$A"),
    (21, "$(UNSET)", "$(UNSET)"),
    (22, "$" * 6 + "(UNSET)", "$$$(UNSET)"),
    (23, "$" * 6 + "(A)", "$$$(A)"),
    (24, "$" * 7 + "(UNSET)", "$$$$(UNSET)"),
    (25, "$" * 7 + "(A)", "$$$A"),
    (26, "$A)", "$A)"),
    (27, "${A}", "${A}"),
    (28, "$(B)___$(A", "B___$(A"),
    (29, "$(C)___$(", "C___$("),
    (30, "$(A)zab$", "Azab$"),
    (31, r"foo-\$(A", r"foo-\$(A"),
    (32, "--$($($($($--", "--$($($($($--"),
    (33, "$($($($($--foo$(", "$($($($($--foo$("),
    (34, "foo0--$($($($(", "foo0--$($($($("),
    (35, "$(foo$$var)", "$(foo$$var)"),
    (36, "\n", "\n"),
]


@pytest.mark.conformance("U-EXP")
@pytest.mark.conformance("U-EXP-37")
@pytest.mark.parametrize(("number", "text", "expected"), ROWS, ids=[f"U-EXP-{row[0]}" for row in ROWS])
def test_expansion(number: int, text: str, expected: str) -> None:
    assert expand(text, KNOWN) == expected
    # Row 37: of two mappings the first that has the name counts.
    assert expand(text, {"A": "A", "B": "B"}, {**KNOWN, "A": "not this"}) == expected


@pytest.mark.conformance("U-EXP-38")
def test_each_variable_sees_the_ones_before_it() -> None:
    known = {"FOO": "bar"}
    for name, text in (("ZOO", "$(FOO)-1"), ("BLU", "$(ZOO)-2")):
        known[name] = expand(text, known)
    assert known == {"FOO": "bar", "ZOO": "bar-1", "BLU": "bar-1-2"}


@pytest.mark.conformance("U-CMD")
@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        (["foo"], ["bar"], ["foo", "bar"]),
        (["foo", "$(A)", "$(UNSET)"], None, ["foo", "A", "$(UNSET)"]),
        (None, ["$(A)", "$$(B)"], ["A", "$(B)"]),
        (["$(A)-$(B)"], ["$(C)$(E)"], ["A-B", "C"]),
    ],
    ids=["U-CMD-1", "U-CMD-2", "U-CMD-3", "U-CMD-4"],
)
def test_command_and_args(command: list[str] | None, args: list[str] | None, expected: list[str]) -> None:
    assert command_line(Container(name="c", image="i", command=command, args=args), KNOWN) == expected
