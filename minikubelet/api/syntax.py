"""The shapes of names: each function returns what is wrong with a text, nothing when it is well formed.

Source: k8s.io/apimachinery/pkg/util/validation/validation.go (v1.36).
"""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_SEARCH_LABEL: Final = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SEARCH: Final = rf"{_SEARCH_LABEL}(\.{_SEARCH_LABEL})*"
_NAME: Final = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY: Final = r"[-._a-zA-Z0-9]+"
_HEADER: Final = r"[-A-Za-z0-9]+"


def _regex(message: str, pattern: str, *examples: str) -> str:
    """Return a rule with its examples and expression, spaced as Kubernetes spaces it."""
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{one}', " for one in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_RULE: Final = _regex(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_RULE: Final = _regex(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character",
    _SUBDOMAIN,
    "example.com",
)
_SEARCH_RULE: Final = _regex(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character",
    _SEARCH,
    "example.com",
)
_QUALIFIED_RULE: Final = _regex(
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character",
    _NAME,
    "MyName",
    "my.name",
    "123-abc",
)
_VALUE_RULE: Final = _regex(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    rf"({_NAME})?",
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_RULE: Final = _regex(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_HEADER_RULE: Final = _regex(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name"
)


def max_length(limit: int) -> str:
    """Return the complaint about a text of too many characters."""
    return f"must be no more than {limit} characters"


def between(low: int, high: int) -> str:
    """Return the complaint about a number out of range."""
    return f"must be between {low} and {high}, inclusive"


def _full(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _size(text: str) -> int:
    """Return a text's length as Go counts it, in bytes."""
    return len(text.encode())


def dns_label(text: str) -> list[str]:
    """Check an RFC 1123 label."""
    errors = [max_length(63)] if _size(text) > 63 else []
    if not _full(_LABEL, text):
        # What would be a subdomain has dots and nothing else wrong with it.
        errors.append("must not contain dots" if _full(_SUBDOMAIN, text) else _LABEL_RULE)
    return errors


def dns_subdomain(text: str) -> list[str]:
    """Check an RFC 1123 subdomain."""
    errors = [max_length(253)] if _size(text) > 253 else []
    if not _full(_SUBDOMAIN, text):
        errors.append(_SUBDOMAIN_RULE)
    return errors


def name_prefix(text: str) -> list[str]:
    """Check what a name may be made from by appending: a subdomain that may end in a dash."""
    return dns_subdomain(text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text)


def search_domain(text: str) -> list[str]:
    """Check a DNS search domain: a subdomain whose labels may hold underscores."""
    errors = [max_length(253)] if _size(text) > 253 else []
    if not _full(_SEARCH, text):
        errors.append(_SEARCH_RULE)
    return errors


def domain_prefixed_key(text: str) -> list[str]:
    """Check a label key that must have a domain, `example.com/name`; "" is not seen here."""
    errors = qualified_name(text)
    if not errors and "/" not in text:
        errors.append('must be a domain-prefixed key (such as "acme.io/foo")')
    return errors


def qualified_name(text: str) -> list[str]:
    """Check a label or annotation key: `[prefix/]name`."""
    errors: list[str] = []
    parts = text.split("/")
    if len(parts) == 2:
        prefix, name = parts
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors.extend(
                f"prefix part {one.replace('characters', 'bytes') if one.startswith('must be no') else one}"
                for one in dns_subdomain(prefix)
            )
    elif len(parts) == 1:
        name = parts[0]
    else:
        rule = _QUALIFIED_RULE.removeprefix("name part ")
        return [f"a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    if not name:
        errors.append("name part must be non-empty")
    elif _size(name) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _full(_NAME, name):
        errors.append(_QUALIFIED_RULE)
    return errors


def label_value(text: str) -> list[str]:
    """Check a label's value."""
    errors = [max_length(63)] if _size(text) > 63 else []
    if not _full(rf"({_NAME})?", text):
        errors.append(_VALUE_RULE)
    return errors


def port_name(text: str) -> list[str]:
    """Check an IANA service name."""
    errors: list[str] = []
    if _size(text) > 15:
        errors.append("must be no more than 15 characters")
    if not _full(r"[-a-z0-9]+", text):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", text):
        errors.append("must contain at least one letter (a-z)")
    if "--" in text:
        errors.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def port_number(port: int) -> list[str]:
    """Check a port."""
    return [] if 1 <= port <= 65535 else [between(1, 65535)]


def env_name(text: str) -> list[str]:
    """Check an environment variable's name: printable ASCII without `=`."""
    if text and all(" " <= one <= "~" and one != "=" for one in text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def config_key(text: str) -> list[str]:
    """Check a key of a ConfigMap or Secret."""
    errors = [max_length(253)] if _size(text) > 253 else []
    if not _full(_CONFIG_KEY, text):
        errors.append(_CONFIG_KEY_RULE)
    if text == ".":
        errors.append("must not be '.'")
    elif text == "..":
        errors.append("must not be '..'")
    elif text.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def header_name(text: str) -> list[str]:
    """Check an HTTP header's name."""
    return [] if _full(_HEADER, text) else [_HEADER_RULE]
