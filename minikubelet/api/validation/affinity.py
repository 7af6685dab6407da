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
            errors += _node_term(term, f"{here}[{index}]")
    for index, one in enumerate(affinity.preferred_during_scheduling_ignored_during_execution or ()):
        here = f"{path}.{_PREFERRED}[{index}]"
        if not 1 <= one.weight <= 100:
            errors.append(invalid(f"{here}.weight", one.weight, _RANGE))
        errors += _node_term(one.preference, f"{here}.preference")
    return errors


def _node_term(term: NodeSelectorTerm, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, one in enumerate(term.match_expressions or ()):
        errors += _node_requirement(one, f"{path}.matchExpressions[{index}]")
    for index, one in enumerate(term.match_fields or ()):
        errors += _node_field(one, f"{path}.matchFields[{index}]")
    return errors


def _node_requirement(one: NodeSelectorRequirement, path: str) -> list[FieldError]:
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
    for index, value in enumerate(values):
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
    if not term.topology_key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    wrong = syntax.qualified_name(term.topology_key)
    return errors + [invalid(f"{path}.topologyKey", term.topology_key, detail) for detail in wrong]


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
            errors.append(
                invalid(
                    f"{here}.operator",
                    one.operator,
                    'operator must be Exists when `key` is empty, which means "match all values and all keys"',
                )
            )
        if one.toleration_seconds is not None and one.effect != "NoExecute":
            errors.append(
                invalid(f"{here}.effect", one.effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
            )
        if one.operator in ("", "Equal"):
            wrong = syntax.label_value(one.value)
            if wrong:
                errors.append(invalid(f"{here}.operator", one.value, ";".join(wrong)))
        elif one.operator == "Exists":
            if one.value:
                errors.append(
                    invalid(f"{here}.operator", _shown(one), "value must be empty when `operator` is 'Exists'")
                )
        else:
            errors.append(unsupported(f"{here}.operator", one.operator, ("Equal", "Exists", "Lt", "Gt")))
        allowed = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if one.effect and one.effect not in allowed:
            errors.append(unsupported(f"{here}.effect", one.effect, allowed))
    return errors


def _shown(one: Toleration) -> str:
    return one.value
