"""Rules that the cases of Kubernetes do not reach, each with the words that Kubernetes has for it."""

# ruff: noqa: E501  (messages are as long as Kubernetes makes them)

from __future__ import annotations

import msgspec
import pytest

from minikubelet.api.manifest import parse_manifest
from minikubelet.api.validation.handlers import STOP_SIGNALS


def errors(meta: str = "", spec: str = "", container: str = "") -> list[str]:
    """Return the errors of a Pod with something added."""
    text = (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a{meta}}}\n"
        f"spec: {{containers: [{{name: c, image: x{container}}}]{spec}}}\n"
    )
    return [one.message for one in parse_manifest(text.encode(), file="f", node_name="n").errors]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (
            ", lifecycle: {stopSignal: SIGTERM}",
            [
                "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"
            ],
        ),
        (
            ", restartPolicy: Never, restartPolicyRules: ["
            + ", ".join(["{action: Restart, exitCodes: {operator: In, values: [1]}}"] * 21)
            + "]",
            ["spec.containers[0].restartPolicyRules: Too many: 21: must have at most 20 items"],
        ),
        (
            ", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Ki}}}]",
            [
                "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "
                '"limits.cpu": only divisor\'s values 1m and 1 are supported with the cpu resource'
            ],
        ),
        (
            ", env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: k}}}]",
            ['spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: "v"'],
        ),
        (
            ", securityContext: {appArmorProfile: {type: Localhost, localhostProfile: ' a'}}",
            [
                "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: "
                '" a": must not be padded with whitespace'
            ],
        ),
        (
            ", resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: cpu, restartPolicy: x}]",
            [
                'spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"',
                'spec.containers[0].resizePolicy: Unsupported value: "x": supported values: "NotRequired", '
                '"RestartContainer"',
            ],
        ),
        (", envFrom: [{configMapRef: {name: a-}}]", []),  # what a name may begin with is enough here
        (
            ", livenessProbe: {exec: {command: [a]}, httpGet: {port: 1}, tcpSocket: {port: 1}}",
            [
                "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ],
        ),
    ],
)
def test_containers(container: str, expected: list[str]) -> None:
    assert errors(container=container) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (", volumes: [{name: v, nfs: {server: s, path: p}}]", ["spec.volumes[0].nfs.path: Invalid value: \"p\": must be an absolute path"]),
        (", volumes: [{name: v, storageos: {volumeName: A}}]", 1),
        (", volumes: [{name: v, cinder: {volumeID: i, secretRef: {}}}]", ["spec.volumes[0].cinder.secretRef.name: Required value"]),
        (", volumes: [{name: v, azureDisk: {diskName: d, diskURI: u, kind: Managed}}]", 1),
        (
            ", volumes: [{name: v, iscsi: {targetPortal: p, iqn: x, lun: 0}}]",
            ['spec.volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa'],
        ),
        (", volumes: [{name: v, iscsi: {targetPortal: p, iqn: 'iqn.2001-04.com.example:s', lun: 0}}]", []),
        (
            ", volumes: [{name: e, ephemeral: {volumeClaimTemplate: {metadata: {name: q}, spec: {accessModes: "
            "[ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}, "
            "{name: p, persistentVolumeClaim: {claimName: a-n-e}}]",
            [
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                'spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "a-n-e": must not reference a PVC '
                "that gets created for an ephemeral volume",
            ],
        ),
        (
            ", volumes: [{name: p, projected: {sources: [{podCertificate: {signerName: x, keyType: RSA}}]}}]",
            [
                "spec.volumes[0].projected.sources[0].podCertificate.signerName: Invalid value: \"x\": must be a fully "
                "qualified domain and path of the form 'example.com/signer-name'",
                'spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value: "RSA": supported '
                'values: "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"',
                "spec.volumes[0].projected.sources[0].podCertificate: Required value: specify at least one of "
                "credentialBundlePath, keyPath, and certificateChainPath",
            ],
        ),
        (
            ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}, "
            "{maxSkew: 2, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]",
            [
                "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "
                '"{z, DoNotSchedule}"'
            ],
        ),
        (
            ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, "
            "matchLabelKeys: [a]}]",
            [
                "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when "
                "labelSelector is not set"
            ],
        ),
        (", dnsConfig: {searches: [_srv.example.com, ., a.]}", []),
        (
            ", schedulingGates: [{name: a}]",
            ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (", os: {name: windows}, securityContext: {windowsOptions: {runAsUserName: 'a\\b\\c'}}", 1),
        (", os: {name: windows}, resources: {limits: {cpu: 1}}", ["spec.resources: Forbidden: may not be set for a windows pod"]),
        (", affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: "
         "{matchExpressions: [{key: k, operator: In, values: ['a b']}]}}]}}", []),
        (", overhead: {foo.example.com/x: 500m}", ['spec.overhead.limits[foo.example.com/x]: Invalid value: "500m": must be an integer']),
    ],
)  # fmt: skip
def test_pods(spec: str, expected: list[str] | int) -> None:
    found = errors(spec=spec)
    assert found == expected if isinstance(expected, list) else len(found) == expected, found


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        (", generateName: A-", []),
        (", generateName: A", 1),
        (", annotations: {controller.kubernetes.io/pod-deletion-cost: '1e3'}", 1),
        (", annotations: {controller.kubernetes.io/pod-deletion-cost: '-5'}", []),
        (', annotations: {scheduler.alpha.kubernetes.io/tolerations: \'[{"operator": "Foo", "key": "a"}]\'}', 1),
        (", annotations: {seccomp.security.alpha.kubernetes.io/pod: foo}", 1),
        (", annotations: {container.apparmor.security.beta.kubernetes.io/c: foo}", 1),
        (", ownerReferences: [{}]", 4),
        (", deletionTimestamp: 2020-13-01T00:00:00Z", 1),
        (", creationTimestamp: '2020-01-01T00:00:00.5+02:00'", []),
    ],
)
def test_metadata(meta: str, expected: list[str] | int) -> None:
    found = errors(meta=meta)
    assert len(found) == (expected if isinstance(expected, int) else 0), found


def test_a_profile_in_field_and_annotation_must_be_one() -> None:
    found = errors(
        meta=", annotations: {container.seccomp.security.alpha.kubernetes.io/c: unconfined}",
        container=", securityContext: {seccompProfile: {type: RuntimeDefault}}",
    )
    assert found == [
        "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must "
        "match"
    ]


def test_stop_signals_are_those_of_linux() -> None:
    assert len(STOP_SIGNALS) == 65
    assert tuple(sorted(STOP_SIGNALS)) == STOP_SIGNALS


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("type: kubernetes.io/tls\ndata: {tls.crt: ''}", ["data[tls.key]: Required value"]),
        ("type: kubernetes.io/basic-auth\nstringData: {username: u}", []),
        ("type: kubernetes.io/basic-auth", ["data[username]: Required value", "data[password]: Required value"]),
        ("type: kubernetes.io/ssh-auth\nstringData: {ssh-privatekey: ''}", ["data[ssh-privatekey]: Required value"]),
        ("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{}'}", []),
        ("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{'}", 1),
        ("type: example.com/own", []),
    ],
)
def test_secrets(secret: str, expected: list[str] | int) -> None:
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{secret}\n"
    found = [one.message for one in parse_manifest(text.encode(), file="f", node_name="n").errors]
    assert found == expected if isinstance(expected, list) else len(found) == expected, found


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        # `GetDeletionCostFromPodAnnotations` takes noughts after a minus, but not alone.
        ("controller.kubernetes.io/pod-deletion-cost: '-007'", []),
        (
            "controller.kubernetes.io/pod-deletion-cost: '007'",
            [
                'metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "007": must be a 32bit integer'
            ],
        ),
        (
            "scheduler.alpha.kubernetes.io/tolerations: x",
            [
                'metadata.annotations: Invalid value: "scheduler.alpha.kubernetes.io/tolerations": '
                "invalid character 'x' looking for beginning of value"
            ],
        ),
        (
            "scheduler.alpha.kubernetes.io/tolerations: '{}'",
            [
                'metadata.annotations: Invalid value: "scheduler.alpha.kubernetes.io/tolerations": '
                "json: cannot unmarshal object into Go value of type []core.Toleration"
            ],
        ),
        (
            """scheduler.alpha.kubernetes.io/tolerations: '[{"Key": 5}]'""",
            [
                'metadata.annotations: Invalid value: "scheduler.alpha.kubernetes.io/tolerations": '
                "json: cannot unmarshal number into Go struct field Toleration.Key of type string"
            ],
        ),
        (
            """scheduler.alpha.kubernetes.io/tolerations: '[{"KEY": "a b", "operator": "Exists"}]'""",
            [
                'metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].key: Invalid value: "a b": name part '
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
                "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
                "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ],
        ),
    ],
)
def test_annotations_that_mean_something(meta: str, expected: list[str]) -> None:
    assert errors(meta=f", annotations: {{{meta}}}") == expected


ENV = "spec.containers[0].env[0].valueFrom.fieldRef"
BUNDLE = "spec.volumes[0].projected.sources[0].clusterTrustBundle"


@pytest.mark.parametrize(
    ("spec", "container", "expected"),
    [
        # `validateObjectFieldSelector` shows an annotation's key in the small letters that it checks.
        (
            "",
            ", env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['A/B/C']\"}}}]",
            f'{ENV}: Invalid value: "a/b/c": a valid label key must',
        ),
        # Addresses are read as Go 1.16 read them, and again as it reads them now.
        (
            ", hostAliases: [{ip: '00001::1'}]",
            "",
            'spec.hostAliases[0].ip: Invalid value: "00001::1": must not have leading 0s',
        ),
        (
            ", hostAliases: [{ip: '::ffff:010.0.0.1'}]",
            "",
            'spec.hostAliases[0].ip: Invalid value: "::ffff:010.0.0.1": must not have leading 0s',
        ),
        (
            ", hostAliases: [{ip: '0001::g'}]",
            "",
            'spec.hostAliases[0].ip: Invalid value: "0001::g": must be a valid IP address',
        ),
        (
            ", volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {name: 'a/b:c', path: p}}]}}]",
            "",
            f'{BUNDLE}.name: Invalid value: "a/b:c": not a valid clustertrustbundlename: ClusterTrustBundle for '
            "signerName a/b must be named with prefix a:b:",
        ),
        # What is shown is a field's path, which has no fields of its own to show.
        (
            ", volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], "
            "resources: {requests: {storage: 1}}, dataSource: {kind: PersistentVolumeClaim, name: a}, "
            "dataSourceRef: {kind: PersistentVolumeClaim, name: b}}}}}]",
            "",
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec: Invalid value: {}: must match dataSourceRef",
        ),
        (
            ", volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {name: x, path: p, "
            "labelSelector: {matchLabels: {b: '1', a: '2'}}}}]}}]",
            "",
            f'{BUNDLE}.labelSelector: Invalid value: {{"matchLabels":{{"a":"2","b":"1"}}}}: labelSelector must be unset',
        ),
    ],
)
def test_what_is_shown(spec: str, container: str, expected: str) -> None:
    (found,) = errors(spec=spec, container=container)
    assert found.startswith(expected)


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        (f"x@{DIGEST}", "IfNotPresent"),
        (f"x:latest@{DIGEST}", "Always"),
        ("x@sha256:abc", "IfNotPresent"),
        ("Registry/x", "Always"),
        ("a/B", "IfNotPresent"),
        ("a//b", "IfNotPresent"),
        ("a-", "IfNotPresent"),
        ("a___b", "IfNotPresent"),
        ("a--b", "Always"),
        ("localhost:5000/x", "Always"),
        ("[::1]:5000/x", "Always"),
        ("a" * 64, "IfNotPresent"),
        ("x" * 247, "Always"),
        ("x" * 248, "IfNotPresent"),
    ],
)
def test_the_pull_policy_of_names_that_registries_know(image: str, policy: str) -> None:
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    (found,) = parse_manifest(text.encode(), file="f", node_name="n").pods
    assert found.pod.spec.containers[0].image_pull_policy == policy


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # What the two conversions, to the internal Pod and back, make of a Pod.
        ("terminationGracePeriodSeconds: -5", {"terminationGracePeriodSeconds": 1}),
        ("serviceAccount: a, serviceAccountName: b", {"serviceAccount": "b", "serviceAccountName": "b"}),
        # Fields without `omitempty`.
        (
            "volumes: [{name: v, scaleIO: {gateway: g, system: s, volumeName: w}}]",
            {
                "volumes": [
                    {
                        "name": "v",
                        "scaleIO": {
                            "gateway": "g",
                            "system": "s",
                            "secretRef": None,
                            "storageMode": "ThinProvisioned",
                            "volumeName": "w",
                            "fsType": "xfs",
                        },
                    }
                ]
            },
        ),
        # An Azure disk's fields are pointers: an empty text is one, and no default takes its place.
        (
            "volumes: [{name: v, azureDisk: {diskName: d, diskURI: /subscriptions/d, kind: Managed, fsType: ''}}]",
            {
                "volumes": [
                    {
                        "name": "v",
                        "azureDisk": {
                            "diskName": "d",
                            "diskURI": "/subscriptions/d",
                            "cachingMode": "ReadWrite",
                            "fsType": "",
                            "readOnly": False,
                            "kind": "Managed",
                        },
                    }
                ]
            },
        ),
        # A sum has the first one's suffixes, and an init container comes before the sidecars beside it.
        (
            "resources: {limits: {memory: 4Gi}}, initContainers: [{name: s, image: x, restartPolicy: Always, resources:"
            " {requests: {memory: 2Ki}}}, {name: i, image: x, resources: {requests: {memory: '2048'}}}]",
            {"resources": {"limits": {"memory": "4Gi"}, "requests": {"memory": "4096"}}},
        ),
    ],
)
def test_what_a_pod_becomes(spec: str, expected: dict[str, object]) -> None:
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: c, image: x}}], {spec}}}\n"
    (found,) = parse_manifest(text.encode(), file="f", node_name="n").pods
    assert expected.items() <= msgspec.to_builtins(found.pod.spec).items()
