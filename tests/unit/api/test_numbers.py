"""Numbers, quantities and keys that the cases of Kubernetes do not reach.

What is expected follows apimachinery's `ParseQuantity` and `RoundUp`, go-yaml's `resolve` and the map keys of
sigs.k8s.io/yaml (v1.36); tables of them were compared with that code.
"""

from __future__ import annotations

import pytest

from minikubelet.api.manifest import parse_manifest
from minikubelet.api.nodes import SourceError
from minikubelet.api.quantity import QuantityError, parse_quantity
from minikubelet.api.source import read_documents

NUMERIC = "unable to parse numeric part of quantity"
SUFFIX = "unable to parse quantity's suffix"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Without digits a short number is nought, a long one is no number; the large suffixes make it long.
        ("Ei", NUMERIC),
        ("-Pi", NUMERIC),
        (".Ei", NUMERIC),
        ("e-10", NUMERIC),
        ("1e9223372036854775808", SUFFIX),
        ("1e" + "9" * 5000, SUFFIX),
    ],
)
def test_no_quantities(text: str, message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_quantity(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "canonical", "value", "kind"),
    [
        ("Ti", "0", 0, "BinarySI"),
        ("0e400", "0", 0, "DecimalExponent"),
        ("1e-1000", "1e-9", 1, "DecimalExponent"),
        # Short numbers are printed as they were written, if no other suffix fits.
        ("+1Ki", "+1Ki", 1024, "BinarySI"),
        ("007Mi", "007Mi", 7 << 20, "BinarySI"),
        ("1.Gi", "1.Gi", 1 << 30, "BinarySI"),
        ("+8Gi", "8Gi", 8 << 30, "BinarySI"),
        ("1.500", "1.500", 2, "DecimalSI"),
        ("0.0001Ki", "102400u", 1, "DecimalSI"),
        # What is finer than nano is long, and negative long numbers are rounded up, not away from nought.
        ("-1.5n", "-2n", 1, "DecimalSI"),
        ("-007Ti", "-007Ti", -(7 << 40), "BinarySI"),
    ],
)
def test_quantities(text: str, canonical: str, value: int, kind: str) -> None:
    found = parse_quantity(text)
    assert (found.canonical(), found.value(), found.format) == (canonical, value, kind)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("'1.500'", "1.500"),
        ("'+1Gi'", "+1Gi"),
        ("'010'", "010"),
        ("'1000.5m'", "1001m"),
        ("'-1.5n'", None),
        ("1.0", "1"),
    ],
)
def test_resources_keep_what_needs_no_rounding(written: str, kept: str | None) -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
        f"spec: {{containers: [{{name: c, image: x, resources: {{requests: {{cpu: {written}}}}}}}]}}\n"
    )
    manifest = parse_manifest(text.encode(), file="f", node_name="n")
    if kept is None:
        path = "spec.containers[0].resources.requests[cpu]"
        assert [one.message for one in manifest.errors] == [
            f'{path}: Invalid value: "-1m": must be greater than or equal to 0'
        ]
    else:
        assert manifest.pods[0].pod.spec.containers[0].resources.requests == {"cpu": kept}


@pytest.mark.parametrize("blank", ["\\t", "\\n", "\\u2028"])
def test_escaped_blanks_are_no_part_of_a_quantity(blank: str) -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
        f'spec: {{containers: [{{name: c, image: x, resources: {{limits: {{cpu: "1{blank}"}}}}}}]}}\n'
    )
    assert parse_manifest(text.encode(), file="f", node_name="n").errors


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("1e3", "1000"),
        ("1e6", "1e+06"),
        ("1000000", "1000000"),
        ("16777217.0", "1.6777216e+07"),
        ("0.00001", "1e-05"),
        ("-0.0", "-0"),
        (".inf", ".inf"),
        ("-.inf", "-.inf"),
        (".nan", ".nan"),
        ("4e38", ".inf"),
        ("1.5", "1.5"),
        ("010", "8"),
    ],
)
def test_numbers_as_keys(key: str, name: str) -> None:
    assert read_documents(f"a: {{{key}: x}}")[0][0].plain() == {"a": {name: "x"}}


def test_a_key_beyond_64_bits() -> None:
    with pytest.raises(SourceError):
        read_documents("a: {0xffffffffffffffff: x}")


@pytest.mark.parametrize(
    ("text", "value"),
    [(".5_0", 0.5), (".5e1_0", 5e9), ("._5", "._5"), (".5_", ".5_"), ("!!binary /w==", "\ufffd")],
)
def test_scalars(text: str, value: object) -> None:
    assert read_documents(f"a: {text}")[0][0].plain() == {"a": value}


@pytest.mark.parametrize(
    ("text", "is_read"), [(r'"a\/b"', False), (r'"a\\/b"', True), (r"'a\/b'", True), ("a/b", True)]
)
def test_an_escaped_slash_is_of_a_later_yaml(text: str, is_read: bool) -> None:
    if is_read:
        assert str(read_documents(f"é: {text}")[0][0].plain()["é"]).startswith("a")
    else:
        with pytest.raises(SourceError):
            read_documents(f"é: {text}")


@pytest.mark.parametrize("text", ["[a?b]", "[$?]", "{a: b?}", "{a?: b}", "[!!str a?]", "[&x a?]", "{a: [b], d: e?}"])
def test_question_mark_between_brackets(text: str) -> None:
    with pytest.raises(SourceError, match="did not find expected ','"):
        read_documents(f"x: {text}")


@pytest.mark.parametrize("text", ["{x: ['a?', \"b?\"], z: [{a: b}, c]}", "a?b", "[?a ]"])
def test_question_mark_where_it_may_stand(text: str) -> None:
    assert read_documents(f"x: {text}\ny1: c?")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'"b\q"', "invalid character 'q' in string escape code"),
        (r'"\u00g0"', r"invalid character 'g' in \u hexadecimal character escape"),
        ('"\t"', r"invalid character '\t' in string literal"),
        (r'"\u1', "unexpected end of JSON input"),
        ('"b', "unexpected end of JSON input"),
        ("1.}", "invalid character '}' after decimal point in numeric literal"),
        ("1e+}", "invalid character '}' in exponent of numeric literal"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("truE", "invalid character 'E' in literal true (expecting 'e')"),
        ("nan", "invalid character 'a' in literal null (expecting 'u')"),
        ("1e", "unexpected end of JSON input"),
        ("1e5.5", "invalid character '.' after object key:value pair"),
    ],
)
def test_what_no_json_is_told_as_go_tells_it(text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_documents(f'{{"a": {text}')
    assert caught.value.message == f"couldn't get version/kind; json parse error: {message}"


def test_a_second_object_of_a_key_is_read_into_the_first() -> None:
    (node,), ((outer, inner),) = read_documents(
        '{"a": {"x": 1, "l": [{"p": 1, "q": 2}, 3]}, "a": {"l": [{"q": 5, "q": 6}]}}'
    )
    assert node.plain() == {"a": {"x": 1, "l": [{"p": 1, "q": 6}]}}
    assert (outer.key, outer.joined, inner.key, inner.joined) == ("q", False, "a", True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[a:]", ["a:"]),
        ("{a:}", {"a:": None}),
        ("{a: b:, c:, 'd': [1:, é:]}", {"a": "b:", "c:": None, "d": ["1:", "é:"]}),
        ("[a::, \ue000]", ["a::", "\ue000"]),
        (r'[a:, "\uE000\0"]', ["a:", "\ue000\0"]),
        (r'["\0"]', ["\0"]),
    ],
)
def test_a_colon_at_the_end_of_a_text_between_brackets(text: str, value: object) -> None:
    assert read_documents(f"é: {text}")[0][0].plain() == {"é": value}


@pytest.mark.parametrize("text", ["[a:[b]]", "{a:{b}}", "[:]", "[" + "a:," * 1000 + "]"])
def test_no_colon_at_the_end_of_a_text(text: str) -> None:
    with pytest.raises(SourceError):
        read_documents(f"x: {text}")


def test_no_stand_in_for_a_colon_takes_a_character_of_the_text() -> None:
    with pytest.raises(SourceError):
        read_documents(f"x: ['{''.join(map(chr, range(0xE000, 0xF900)))}', a:]")
