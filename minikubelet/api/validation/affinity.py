"""The rules for affinity, selectors and tolerations, which this node checks but mostly does not act on.

Source: kubernetes pkg/apis/core/validation/validation.go `validateAffinity`, `validateTolerations` (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence

from minikubelet.api import syntax
from minikubelet.api.field_errors import FieldError, forbidden, invalid, required, unsupported
from minikubelet.api.types import (
    Affinity,
    LabelSelector,
    NodeAffinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    Toleration,
)

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NO_OPERATOR = "not a valid selector operator"
_RANGE = "must be in the range 1-100"


def validate_affinity(affinity: Affinity | None, path: str) -> list[FieldError]:
    """Return what is wrong with a Pod's affinity."""
    if affinity is None:
        return []
    errors: list[FieldError] = []
    if affinity.node_affinity is not None:
        errors += _node_affinity(affinity.node_affinity, f"{path}.nodeAffinity")
    if affinity.pod_affinity is not None:
        errors += _pod_affinity(affinity.pod_affinity, f"{path}.podAffinity")
    if affinity.pod_anti_affinity is not None:
        errors += _pod_affinity(affinity.pod_anti_affinity, f"{path}.podAntiAffinity")
    return errors


def _node_affinity(affinity: NodeAffinity, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    needed = affinity.required_during_scheduling_ignored_during_execution
    if needed is not None:
        here = f"{path}.{_REQUIRED}.nodeSelectorTerms"
        if not needed.node_selector_terms:
            errors.append(required(here, "must have at least one node selector term"))
        for index, term in enumerate(needed.node_selector_terms):
            errors += _node_term(term, f"{here}[{index}]", values=True)
    for index, one in enumerate(affinity.preferred_during_scheduling_ignored_during_execution or ()):
        here = f"{path}.{_PREFERRED}[{index}]"
        if not 1 <= one.weight <= 100:
            errors.append(invalid(f"{here}.weight", one.weight, _RANGE))
        errors += _node_term(one.preference, f"{here}.preference", values=False)
    return errors


def _node_term(term: NodeSelectorTerm, path: str, *, values: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(term.match_expressions or ()):
        errors += _node_requirement(one, f"{path}.matchExpressions[{index}]", check_values=values)
    for index, one in enumerate(term.match_fields or ()):
        errors += _node_field(one, f"{path}.matchFields[{index}]")
    return errors


def _node_requirement(one: NodeSelectorRequirement, path: str, *, check_values: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    values = one.values or []
    match one.operator:
        case "In" | "NotIn":
            if not values:
                errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        case "Exists" | "DoesNotExist":
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(f"{path}.values", detail))
        case "Gt" | "Lt":
            if len(values) != 1:
                detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                errors.append(required(f"{path}.values", detail))
        case _:
            errors.append(invalid(f"{path}.operator", one.operator, _NO_OPERATOR))
    errors += [invalid(f"{path}.key", one.key, detail) for detail in syntax.qualified_name(one.key)]
    for index, value in enumerate(values if check_values else ()):
        errors += [invalid(f"{path}.values[{index}]", value, detail) for detail in syntax.label_value(value)]
    return errors


def _node_field(one: NodeSelectorRequirement, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if one.operator in ("In", "NotIn"):
        if len(one.values or ()) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{path}.values", detail))
    else:
        errors.append(invalid(f"{path}.operator", one.operator, _NO_OPERATOR))
    if one.key != "metadata.name":
        return [*errors, invalid(f"{path}.key", one.key, "not a valid field selector key")]
    for index, value in enumerate(one.values or ()):
        errors += [invalid(f"{path}.values[{index}]", value, detail) for detail in syntax.dns_subdomain(value)]
    return errors


def _pod_affinity(affinity: PodAffinity, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, term in enumerate(affinity.required_during_scheduling_ignored_during_execution or ()):
        errors += _pod_term(term, f"{path}.{_REQUIRED}[{index}]")
    for index, one in enumerate(affinity.preferred_during_scheduling_ignored_during_execution or ()):
        here = f"{path}.{_PREFERRED}[{index}]"
        if not 1 <= one.weight <= 100:
            errors.append(invalid(f"{here}.weight", one.weight, _RANGE))
        errors += _pod_term(one.pod_affinity_term, f"{here}.podAffinityTerm")
    return errors


def _pod_term(term: PodAffinityTerm, path: str) -> list[FieldError]:
    errors = validate_label_selector(term.label_selector, f"{path}.labelSelector")
    errors += validate_label_selector(term.namespace_selector, f"{path}.namespaceSelector")
    for name in term.namespaces or ():
        errors += [invalid(f"{path}.namespace", name, detail) for detail in syntax.dns_label(name)]
    errors += validate_label_keys(term.label_selector, term.match_label_keys, term.mismatch_label_keys, path)
    if not term.topology_key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    wrong = syntax.qualified_name(term.topology_key)
    return errors + [invalid(f"{path}.topologyKey", term.topology_key, detail) for detail in wrong]


def validate_label_keys(
    selector: LabelSelector | None, match: list[str] | None, mismatch: list[str] | None, path: str
) -> list[FieldError]:
    """Check matchLabelKeys and mismatchLabelKeys, which add to a selector."""
    errors: list[FieldError] = []
    for name, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            errors.append(forbidden(f"{path}.{name}", "must not be specified when labelSelector is not set"))
        elif keys:
            for index, key in enumerate(keys):
                wrong = syntax.qualified_name(key)
                errors += [invalid(f"{path}.{name}[{index}]", key, detail) for detail in wrong]
    if selector is not None:
        places = {key: index for index, key in enumerate(match or ())}
        seen = set(selector.match_labels or ())
        for one in selector.match_expressions or ():
            if one.key in places and one.key in seen:
                detail = "exists in both matchLabelKeys and labelSelector"
                errors.append(invalid(f"{path}[{places[one.key]}]", one.key, detail))
            seen.add(one.key)
    for index, key in enumerate(match or ()):
        if key in (mismatch or ()):
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(f"{path}.matchLabelKeys[{index}]", key, detail))
    return errors


def validate_label_selector(selector: LabelSelector | None, path: str) -> list[FieldError]:
    """Return what is wrong with a label selector."""
    if selector is None:
        return []
    errors: list[FieldError] = []
    for key, value in (selector.match_labels or {}).items():
        errors += [invalid(f"{path}.matchLabels", key, one) for one in syntax.qualified_name(key)]
        errors += [invalid(f"{path}.matchLabels", value, one) for one in syntax.label_value(value)]
    for index, one in enumerate(selector.match_expressions or ()):
        here = f"{path}.matchExpressions[{index}]"
        if one.operator in ("In", "NotIn"):
            if not one.values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(required(f"{here}.values", detail))
        elif one.operator in ("Exists", "DoesNotExist"):
            if one.values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(f"{here}.values", detail))
        else:
            errors.append(invalid(f"{here}.operator", one.operator, _NO_OPERATOR))
        errors += [invalid(f"{here}.key", one.key, detail) for detail in syntax.qualified_name(one.key)]
        for number, value in enumerate(one.values or ()):
            wrong = syntax.label_value(value)
            errors += [invalid(f"{here}.values[{number}]", value, detail) for detail in wrong]
    return errors


def validate_tolerations(tolerations: Sequence[Toleration], path: str) -> list[FieldError]:
    """Return what is wrong with a Pod's tolerations."""
    errors: list[FieldError] = []
    for index, one in enumerate(tolerations):
        here = f"{path}[{index}]"
        if one.key:
            errors += [invalid(f"{here}.key", one.key, detail) for detail in syntax.qualified_name(one.key)]
        elif one.operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid(f"{here}.operator", one.operator, detail))
        if one.toleration_seconds is not None and one.effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid(f"{here}.effect", one.effect, detail))
        errors += _toleration_operator(one, f"{here}.operator")
        allowed = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if one.effect and one.effect not in allowed:
            errors.append(unsupported(f"{here}.effect", one.effect, allowed))
    return errors


def _toleration_operator(one: Toleration, path: str) -> list[FieldError]:
    match one.operator:
        case "" | "Equal":
            wrong = syntax.label_value(one.value)
            return [invalid(path, one.value, ";".join(wrong))] if wrong else []
        case "Exists":
            detail = "value must be empty when `operator` is 'Exists'"
            return [invalid(path, one.value, detail)] if one.value else []
        case "Lt" | "Gt":  # known, but behind a gate that is off
            return [unsupported(path, one.operator, ("Equal", "Exists", "Lt", "Gt"))]
        case _:
            return [unsupported(path, one.operator, ("Equal", "Exists"))]
