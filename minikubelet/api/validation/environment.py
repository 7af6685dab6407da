"""The rules for the environment of containers.

Source: kubernetes pkg/apis/core/validation/validation.go `ValidateEnv`, `validateEnvFrom` (v1.36).
"""

from __future__ import annotations

from minikubelet.api import syntax
from minikubelet.api.field_errors import (
    FieldError,
    invalid,
    required,
)
from minikubelet.api.types import (
    ConfigMapKeySelector,
    Container,
    EnvVar,
    FileKeySelector,
    SecretKeySelector,
)
from minikubelet.api.validation.fields import validate_env_field, validate_env_resource
from minikubelet.api.validation.paths import no_backsteps


def validate_env(container: Container, path: str) -> list[FieldError]:
    """Check `env` and `envFrom`."""
    errors: list[FieldError] = []
    for index, variable in enumerate(container.env or ()):
        here = f"{path}.env[{index}]"
        if not variable.name:
            errors.append(required(f"{here}.name"))
        else:
            errors += [invalid(f"{here}.name", variable.name, one) for one in syntax.env_name(variable.name)]
        errors += _validate_value_from(variable, f"{here}.valueFrom")
    for index, source in enumerate(container.env_from or ()):
        here = f"{path}.envFrom[{index}]"
        if source.prefix:
            errors += [invalid(f"{here}.prefix", source.prefix, one) for one in syntax.env_name(source.prefix)]
        for name, reference in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
            if reference is not None and not reference.name:
                errors.append(required(f"{here}.{name}.name"))
            elif reference is not None:
                wrong = syntax.name_prefix(reference.name)
                errors += [invalid(f"{here}.{name}.name", reference.name, one) for one in wrong]
        if source.config_map_ref is None and source.secret_ref is None:
            errors.append(invalid(f"{path}.envFrom", "", "must specify one of: `configMapRef` or `secretRef`"))
        elif source.config_map_ref is not None and source.secret_ref is not None:
            detail = "may not have more than one field specified at a time"
            errors.append(invalid(f"{path}.envFrom", "", detail))
    return errors


def _validate_value_from(variable: EnvVar, path: str) -> list[FieldError]:
    source = variable.value_from
    if source is None:
        return []
    found = [name for name in source.__struct_fields__ if getattr(source, name) is not None]
    if not found:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        return [invalid(path, "", detail)]
    errors: list[FieldError] = []
    if source.field_ref is not None:
        errors += validate_env_field(source.field_ref, f"{path}.fieldRef")
    if source.resource_field_ref is not None:
        errors += validate_env_resource(source.resource_field_ref, f"{path}.resourceFieldRef")
    if source.config_map_key_ref is not None:
        errors += _validate_key(source.config_map_key_ref, f"{path}.configMapKeyRef")
    if source.secret_key_ref is not None:
        errors += _validate_key(source.secret_key_ref, f"{path}.secretKeyRef")
    if source.file_key_ref is not None:
        errors += _validate_file_key(source.file_key_ref, f"{path}.fileKeyRef")
    if variable.value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(found) > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _validate_key(reference: ConfigMapKeySelector | SecretKeySelector, path: str) -> list[FieldError]:
    errors = [invalid(f"{path}.name", reference.name, one) for one in syntax.dns_subdomain(reference.name)]
    if not reference.key:
        return [*errors, required(f"{path}.key")]
    return [*errors, *(invalid(f"{path}.key", reference.key, one) for one in syntax.config_key(reference.key))]


def _validate_file_key(reference: FileKeySelector, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not reference.key:
        errors.append(required(f"{path}.key"))
    else:
        errors += [invalid(f"{path}.key", reference.key, one) for one in syntax.env_name(reference.key)]
    if not reference.volume_name:
        errors.append(required(f"{path}.volumeName"))
    else:
        wrong = syntax.dns_label(reference.volume_name)
        errors += [invalid(f"{path}.volumeName", reference.volume_name, one) for one in wrong]
    if not reference.path:
        errors.append(required(f"{path}.path"))
    else:
        errors += no_backsteps(reference.path, f"{path}.path")
    return errors
