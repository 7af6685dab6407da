"""The rules for a Pod's names, DNS, scheduling and claims: fields of the Pod as a whole.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidatePodSpec` and what it calls (v1.36).
"""

from __future__ import annotations

import ipaddress
from typing import Final

from minikubelet.api import syntax
from minikubelet.api.field_errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
)
from minikubelet.api.types import PodSpec, TopologySpreadConstraint
from minikubelet.api.validation.affinity import validate_label_keys, validate_label_selector

_NO_ADDRESS: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_MAX_SEARCH: Final = 2048


def validate_ip(text: str, path: str) -> list[FieldError]:
    """Check an address: no leading zeros, no IPv4 written as IPv6."""
    if not _parses(text):
        detail = "must not have leading 0s" if _parses(_without_noughts(text)) else _NO_ADDRESS
        return [invalid(path, text, detail)]
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return [invalid(path, text, "must not be an IPv4-mapped IPv6 address")]
    return []


def _parses(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _without_noughts(text: str) -> str:
    """Return an address without the leading noughts that Kubernetes' first reader of addresses passes over."""
    *groups, last = text.split(":")
    if "." in last:
        last = ".".join(one.lstrip("0") or one[:1] for one in last.split("."))
    return ":".join(one if len(one) <= 4 or "." in one else one.lstrip("0") or "0" for one in (*groups, last))


def validate_dns(spec: PodSpec, path: str) -> list[FieldError]:
    """Check dnsConfig."""
    config = spec.dns_config
    errors: list[FieldError] = []
    if spec.dns_policy == "None":
        if config is None:
            detail = f"must provide `dnsConfig` when `dnsPolicy` is {spec.dns_policy}"
            return [required(path, detail)]
        if not config.nameservers:
            detail = f"must provide at least one DNS nameserver when `dnsPolicy` is {spec.dns_policy}"
            return [required(f"{path}.nameservers", detail)]
    if config is None:
        return errors
    servers, searches = config.nameservers or [], config.searches or []
    if len(servers) > 3:
        errors.append(invalid(f"{path}.nameservers", servers, "must not have more than 3 nameservers"))
    for index, one in enumerate(servers):
        errors += validate_ip(one, f"{path}.nameservers[{index}]")
    if len(searches) > 32:
        errors.append(invalid(f"{path}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches).encode()) > _MAX_SEARCH:
        detail = f"must not have more than {_MAX_SEARCH} characters (including spaces) in the search list"
        errors.append(invalid(f"{path}.searches", searches, detail))
    for index, one in enumerate(searches):
        name = one.removesuffix(".")
        if one != ".":
            errors += [invalid(f"{path}.searches[{index}]", name, detail) for detail in syntax.search_domain(name)]
    for index, option in enumerate(config.options or ()):
        if not option.name:
            errors.append(required(f"{path}.options[{index}]", "must not be empty"))
    return errors


def validate_host_aliases(spec: PodSpec, path: str) -> list[FieldError]:
    """Check hostAliases."""
    errors: list[FieldError] = []
    for index, alias in enumerate(spec.host_aliases or ()):
        here = f"{path}[{index}]"
        errors += validate_ip(alias.ip, f"{here}.ip")
        for number, name in enumerate(alias.hostnames or ()):
            wrong = syntax.dns_subdomain(name)
            errors += [invalid(f"{here}.hostnames[{number}]", name, one) for one in wrong]
    return errors


def validate_node_selector(spec: PodSpec, path: str) -> list[FieldError]:
    """Check nodeSelector."""
    errors: list[FieldError] = []
    for key, value in (spec.node_selector or {}).items():
        errors += [invalid(path, key, one) for one in syntax.qualified_name(key)]
        errors += [invalid(path, value, one) for one in syntax.label_value(value)]
    return errors


def validate_gates(spec: PodSpec, path: str) -> list[FieldError]:
    """Check readiness and scheduling gates."""
    errors: list[FieldError] = []
    for index, gate in enumerate(spec.readiness_gates or ()):
        where = f"{path}.readinessGates[{index}].conditionType"
        wrong = syntax.qualified_name(gate.condition_type)
        errors += [invalid(where, gate.condition_type, one) for one in wrong]
    names: set[str] = set()
    for index, one in enumerate(spec.scheduling_gates or ()):
        where = f"{path}.schedulingGates[{index}]"
        errors += [invalid(where, one.name, detail) for detail in syntax.qualified_name(one.name)]
        if one.name in names:
            errors.append(duplicate(where, one.name))
        names.add(one.name)
    return errors


def validate_spread(spec: PodSpec, path: str) -> list[FieldError]:
    """Check topologySpreadConstraints."""
    errors: list[FieldError] = []
    for index, one in enumerate(spec.topology_spread_constraints or ()):
        others = (spec.topology_spread_constraints or [])[index + 1 :]
        errors += _spread(one, others, f"{path}[{index}]")
    return errors


def _spread(one: TopologySpreadConstraint, others: list[TopologySpreadConstraint], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if one.max_skew <= 0:
        errors.append(invalid(f"{path}.maxSkew", one.max_skew, "must be greater than zero"))
    if not one.topology_key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    actions = ("DoNotSchedule", "ScheduleAnyway")
    if one.when_unsatisfiable not in actions:
        errors.append(unsupported(f"{path}.whenUnsatisfiable", one.when_unsatisfiable, actions))
    pair = (one.topology_key, one.when_unsatisfiable)
    if any((other.topology_key, other.when_unsatisfiable) == pair for other in others):
        errors.append(duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}"))
    if one.min_domains is not None:
        if one.min_domains <= 0:
            errors.append(invalid(f"{path}.minDomains", one.min_domains, "must be greater than zero"))
        if one.when_unsatisfiable != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {one.when_unsatisfiable}"
            errors.append(invalid(f"{path}.minDomains", one.min_domains, detail))
    for name, value in (
        ("nodeAffinityPolicy", one.node_affinity_policy),
        ("nodeTaintsPolicy", one.node_taints_policy),
    ):
        if value is not None and value not in ("Honor", "Ignore"):
            errors.append(unsupported(f"{path}.{name}", value, ("Honor", "Ignore")))
    errors += validate_label_keys(one.label_selector, one.match_label_keys, None, path)
    return errors + validate_label_selector(one.label_selector, f"{path}.labelSelector")


def validate_host_name_override(spec: PodSpec, path: str) -> list[FieldError]:
    """Check hostnameOverride."""
    name = spec.hostname_override
    if name is None:
        return []
    errors: list[FieldError] = []
    if spec.set_hostname_as_fqdn:
        errors.append(forbidden(path, "may not be specified when setHostnameAsFQDN is true"))
    if spec.host_network:
        errors.append(forbidden(path, "may not be specified when hostNetwork is true"))
    if len(name.encode()) > 64:
        errors.append(too_long(path, 64))
    return errors + [invalid(path, name, one) for one in syntax.dns_subdomain(name)]


def validate_scheduling_group(spec: PodSpec, path: str) -> list[FieldError]:
    """Check schedulingGroup."""
    if spec.scheduling_group is None:
        return []
    name, where = spec.scheduling_group.pod_group_name, f"{path}.podGroupName"
    if name is None:
        return [invalid(where, None, "must specify one of: `podGroupName`")]
    return [invalid(where, name, one) for one in syntax.dns_subdomain(name)]


def validate_claims(spec: PodSpec, path: str) -> list[FieldError]:
    """Check resourceClaims of the Pod."""
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, one in enumerate(spec.resource_claims or ()):
        here = f"{path}[{index}]"
        if not one.name:
            errors.append(required(f"{here}.name"))
        elif one.name in names:
            errors.append(duplicate(f"{here}.name", one.name))
        else:
            errors += [invalid(f"{here}.name", one.name, detail) for detail in syntax.dns_label(one.name)]
            names.add(one.name)
        given = [one.resource_claim_name, one.resource_claim_template_name]
        shown = {
            "Name": one.name,
            "ResourceClaimName": one.resource_claim_name,
            "ResourceClaimTemplateName": one.resource_claim_template_name,
        }
        if all(value is not None for value in given):
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(here, shown, detail))
        if all(value is None for value in given):
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(here, shown, detail))
        for name, value in zip(("resourceClaimName", "resourceClaimTemplateName"), given, strict=True):
            if value is not None:
                errors += [invalid(f"{here}.{name}", value, detail) for detail in syntax.dns_subdomain(value)]
    return errors
