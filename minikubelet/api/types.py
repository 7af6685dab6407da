"""Kubernetes v1 objects as typed values.

Attributes are Kubernetes' names in snake_case; the wire has them in camelCase. What is at its default is left out when
encoded, as `omitempty` does it; the few fields that Kubernetes always prints have no default or are never omitted.
Quantities are kept as their canonical text, times as RFC 3339 text.
Source: k8s.io/api/core/v1/types.go (v1.36).
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

# Numbers that Kubernetes holds in 32 bits: what does not fit is refused when it is read.
Int32 = Annotated[int, msgspec.Meta(extra={"kind": "int32"})]
# RFC 3339 text, as Kubernetes prints it: in UTC, without fractions.
Time = Annotated[str, msgspec.Meta(extra={"kind": "time"})]
# Bytes, in base64.
Base64 = Annotated[str, msgspec.Meta(extra={"kind": "base64"})]
StringMap = dict[str, str]
IntOrString = Int32 | str
# Canonical text of a quantity; `api.quantity` has the number.
QuantityText = Annotated[str, msgspec.Meta(extra={"kind": "quantity"})]
ResourceList = dict[str, QuantityText]

_WIRE_NAMES: Final = {
    "api_version": "apiVersion",
    "pod_ip": "podIP",
    "pod_ips": "podIPs",
    "host_ip": "hostIP",
    "host_ips": "hostIPs",
    "host_ipc": "hostIPC",
    "host_pid": "hostPID",
    "fields_v1": "fieldsV1",
    "ip": "ip",
    "ips": "ips",
    "container_id": "containerID",
    "image_id": "imageID",
    "cluster_ip": "clusterIP",
    "set_hostname_as_fqdn": "setHostnameAsFQDN",
    "fs_type": "fsType",
    "downward_api": "downwardAPI",
    "disk_uri": "diskURI",
    "volume_id": "volumeID",
    "pd_id": "pdID",
    "dataset_uuid": "datasetUUID",
    "target_ww_ns": "targetWWNs",
    "chap_auth_discovery": "chapAuthDiscovery",
    "provider_id": "providerID",
    "machine_id": "machineID",
    "system_uuid": "systemUUID",
    "boot_id": "bootID",
    "scale_io": "scaleIO",
    "storage_policy_id": "storagePolicyID",
}


def wire_name(attribute: str) -> str:
    """Return the JSON name of an attribute: camelCase, with Kubernetes' own capitals."""
    known = _WIRE_NAMES.get(attribute)
    if known is not None:
        return known
    first, *rest = attribute.rstrip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)


class Object(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """Base of all API values."""


# Metadata


class OwnerReference(Object, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ManagedFieldsEntry(Object, frozen=True, kw_only=True):
    manager: str = ""
    operation: str = ""
    api_version: str = ""
    time: Time | None = None
    fields_type: str = ""
    fields_v1: Any = None
    subresource: str = ""


class ObjectMeta(Object, frozen=True, kw_only=True):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    self_link: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    labels: StringMap | None = None
    annotations: StringMap | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None
    managed_fields: list[ManagedFieldsEntry] | None = None


class LabelSelectorRequirement(Object, frozen=True, kw_only=True):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class LabelSelector(Object, frozen=True, kw_only=True):
    match_labels: StringMap | None = None
    match_expressions: list[LabelSelectorRequirement] | None = None


class LocalObjectReference(Object, frozen=True, kw_only=True):
    name: str = ""


class TypedLocalObjectReference(Object, frozen=True, kw_only=True):
    api_group: str | None
    kind: str = ""
    name: str = ""


class ObjectReference(Object, frozen=True, kw_only=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


# Handlers and probes


class ExecAction(Object, frozen=True, kw_only=True):
    command: list[str] | None = None


class HTTPHeader(Object, frozen=True, kw_only=True):
    name: str
    value: str


class HTTPGetAction(Object, frozen=True, kw_only=True):
    path: str = ""
    port: IntOrString
    host: str = ""
    scheme: str = ""
    http_headers: list[HTTPHeader] | None = None


class TCPSocketAction(Object, frozen=True, kw_only=True):
    port: IntOrString
    host: str = ""


class GRPCAction(Object, frozen=True, kw_only=True):
    port: Int32
    service: str | None = None


class SleepAction(Object, frozen=True, kw_only=True):
    seconds: int


class Probe(Object, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Object, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Object, frozen=True, kw_only=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


# Environment


class ObjectFieldSelector(Object, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: str


class ResourceFieldSelector(Object, frozen=True, kw_only=True):
    container_name: str = ""
    resource: str
    divisor: QuantityText


class ConfigMapKeySelector(Object, frozen=True, kw_only=True):
    name: str = ""
    key: str
    optional: bool | None = None


class SecretKeySelector(Object, frozen=True, kw_only=True):
    name: str = ""
    key: str
    optional: bool | None = None


class FileKeySelector(Object, frozen=True, kw_only=True):
    volume_name: str
    path: str
    key: str
    optional: bool | None = None


class EnvVarSource(Object, frozen=True, kw_only=True):
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: ConfigMapKeySelector | None = None
    secret_key_ref: SecretKeySelector | None = None
    file_key_ref: FileKeySelector | None = None


class EnvVar(Object, frozen=True, kw_only=True):
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class ConfigMapEnvSource(Object, frozen=True, kw_only=True):
    name: str = ""
    optional: bool | None = None


class SecretEnvSource(Object, frozen=True, kw_only=True):
    name: str = ""
    optional: bool | None = None


class EnvFromSource(Object, frozen=True, kw_only=True):
    prefix: str = ""
    config_map_ref: ConfigMapEnvSource | None = None
    secret_ref: SecretEnvSource | None = None


# Security


class SELinuxOptions(Object, frozen=True, kw_only=True):
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class SeccompProfile(Object, frozen=True, kw_only=True):
    type: str
    localhost_profile: str | None = None


class AppArmorProfile(Object, frozen=True, kw_only=True):
    type: str
    localhost_profile: str | None = None


class WindowsSecurityContextOptions(Object, frozen=True, kw_only=True):
    gmsa_credential_spec_name: str | None = None
    gmsa_credential_spec: str | None = None
    run_as_user_name: str | None = None
    host_process: bool | None = None


class Sysctl(Object, frozen=True, kw_only=True):
    name: str
    value: str


class Capabilities(Object, frozen=True, kw_only=True):
    add: list[str] | None = None
    drop: list[str] | None = None


class SecurityContext(Object, frozen=True, kw_only=True):
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    se_linux_options: SELinuxOptions | None = None
    windows_options: WindowsSecurityContextOptions | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    proc_mount: str | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None


class PodSecurityContext(Object, frozen=True, kw_only=True):
    se_linux_options: SELinuxOptions | None = None
    windows_options: WindowsSecurityContextOptions | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] | None = None
    supplemental_groups_policy: str | None = None
    fs_group: int | None = None
    sysctls: list[Sysctl] | None = None
    fs_group_change_policy: str | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_change_policy: str | None = None


# Containers


class ContainerPort(Object, frozen=True, kw_only=True):
    name: str = ""
    host_port: Int32 = 0
    container_port: Int32
    protocol: str = ""
    host_ip: str = ""


class VolumeMount(Object, frozen=True, kw_only=True):
    name: str
    read_only: bool = False
    recursive_read_only: str | None = None
    mount_path: str
    sub_path: str = ""
    mount_propagation: str | None = None
    sub_path_expr: str = ""


class VolumeDevice(Object, frozen=True, kw_only=True):
    name: str
    device_path: str


class ResourceClaim(Object, frozen=True, kw_only=True):
    name: str
    request: str = ""


class ResourceRequirements(Object, frozen=True, kw_only=True):
    limits: ResourceList | None = None
    requests: ResourceList | None = None
    claims: list[ResourceClaim] | None = None


class ContainerResizePolicy(Object, frozen=True, kw_only=True):
    resource_name: str
    restart_policy: str


class ContainerRestartRuleOnExitCodes(Object, frozen=True, kw_only=True):
    operator: str
    values: list[Int32] | None = None


class ContainerRestartRule(Object, frozen=True, kw_only=True):
    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class Container(Object, frozen=True, kw_only=True):
    name: str
    image: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str = ""
    ports: list[ContainerPort] | None = None
    env_from: list[EnvFromSource] | None = None
    env: list[EnvVar] | None = None
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    resize_policy: list[ContainerResizePolicy] | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] | None = None
    volume_mounts: list[VolumeMount] | None = None
    volume_devices: list[VolumeDevice] | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    image_pull_policy: str = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container, frozen=True, kw_only=True):
    target_container_name: str = ""


# Volumes


class KeyToPath(Object, frozen=True, kw_only=True):
    key: str
    path: str
    mode: Int32 | None = None


class HostPathVolumeSource(Object, frozen=True, kw_only=True):
    path: str
    type: str | None = None


class EmptyDirVolumeSource(Object, frozen=True, kw_only=True):
    medium: str = ""
    size_limit: QuantityText | None = None


class ConfigMapVolumeSource(Object, frozen=True, kw_only=True):
    name: str = ""
    items: list[KeyToPath] | None = None
    default_mode: Int32 | None = None
    optional: bool | None = None


class SecretVolumeSource(Object, frozen=True, kw_only=True):
    secret_name: str = ""
    items: list[KeyToPath] | None = None
    default_mode: Int32 | None = None
    optional: bool | None = None


class DownwardAPIVolumeFile(Object, frozen=True, kw_only=True):
    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Int32 | None = None


class DownwardAPIVolumeSource(Object, frozen=True, kw_only=True):
    items: list[DownwardAPIVolumeFile] | None = None
    default_mode: Int32 | None = None


class ConfigMapProjection(Object, frozen=True, kw_only=True):
    name: str = ""
    items: list[KeyToPath] | None = None
    optional: bool | None = None


class SecretProjection(Object, frozen=True, kw_only=True):
    name: str = ""
    items: list[KeyToPath] | None = None
    optional: bool | None = None


class DownwardAPIProjection(Object, frozen=True, kw_only=True):
    items: list[DownwardAPIVolumeFile] | None = None


class ServiceAccountTokenProjection(Object, frozen=True, kw_only=True):
    audience: str = ""
    expiration_seconds: int | None = None
    path: str


class ClusterTrustBundleProjection(Object, frozen=True, kw_only=True):
    name: str | None = None
    signer_name: str | None = None
    label_selector: LabelSelector | None = None
    optional: bool | None = None
    path: str


class PodCertificateProjection(Object, frozen=True, kw_only=True):
    signer_name: str = ""
    key_type: str = ""
    max_expiration_seconds: Int32 | None = None
    credential_bundle_path: str = ""
    key_path: str = ""
    certificate_chain_path: str = ""
    user_annotations: StringMap | None = None


class VolumeProjection(Object, frozen=True, kw_only=True):
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = None
    config_map: ConfigMapProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    pod_certificate: PodCertificateProjection | None = None


class ProjectedVolumeSource(Object, frozen=True, kw_only=True):
    sources: list[VolumeProjection] | None
    default_mode: Int32 | None = None


class ImageVolumeSource(Object, frozen=True, kw_only=True):
    reference: str = ""
    pull_policy: str = ""


class AWSElasticBlockStoreVolumeSource(Object, frozen=True, kw_only=True):
    volume_id: str
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False


class AzureDiskVolumeSource(Object, frozen=True, kw_only=True):
    disk_name: str
    disk_uri: str
    caching_mode: str | None = None
    fs_type: str | None = None
    read_only: bool | None = None
    kind: str | None = None


class AzureFileVolumeSource(Object, frozen=True, kw_only=True):
    secret_name: str
    share_name: str
    read_only: bool = False


class CephFSVolumeSource(Object, frozen=True, kw_only=True):
    monitors: list[str] | None = None
    path: str = ""
    user: str = ""
    secret_file: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False


class CinderVolumeSource(Object, frozen=True, kw_only=True):
    volume_id: str
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class CSIVolumeSource(Object, frozen=True, kw_only=True):
    driver: str
    read_only: bool | None = None
    fs_type: str | None = None
    volume_attributes: StringMap | None = None
    node_publish_secret_ref: LocalObjectReference | None = None


class TypedObjectReference(Object, frozen=True, kw_only=True):
    api_group: str | None
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class VolumeResourceRequirements(Object, frozen=True, kw_only=True):
    limits: ResourceList | None = None
    requests: ResourceList | None = None


class PersistentVolumeClaimSpec(Object, frozen=True, kw_only=True):
    access_modes: list[str] | None = None
    selector: LabelSelector | None = None
    resources: VolumeResourceRequirements = msgspec.field(default_factory=VolumeResourceRequirements)
    volume_name: str = ""
    storage_class_name: str | None = None
    volume_mode: str | None = None
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    volume_attributes_class_name: str | None = None


class PersistentVolumeClaimTemplate(Object, frozen=True, kw_only=True):
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec


class EphemeralVolumeSource(Object, frozen=True, kw_only=True):
    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class FCVolumeSource(Object, frozen=True, kw_only=True):
    target_ww_ns: list[str] | None = None
    lun: Int32 | None = None
    fs_type: str = ""
    read_only: bool = False
    wwids: list[str] | None = None


class FlexVolumeSource(Object, frozen=True, kw_only=True):
    driver: str
    fs_type: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False
    options: StringMap | None = None


class FlockerVolumeSource(Object, frozen=True, kw_only=True):
    dataset_name: str = ""
    dataset_uuid: str = ""


class GCEPersistentDiskVolumeSource(Object, frozen=True, kw_only=True):
    pd_name: str
    fs_type: str = ""
    partition: Int32 = 0
    read_only: bool = False


class GitRepoVolumeSource(Object, frozen=True, kw_only=True):
    repository: str
    revision: str = ""
    directory: str = ""


class GlusterfsVolumeSource(Object, frozen=True, kw_only=True):
    endpoints: str
    path: str
    read_only: bool = False


class ISCSIVolumeSource(Object, frozen=True, kw_only=True):
    target_portal: str
    iqn: str
    lun: Int32
    iscsi_interface: str = ""
    fs_type: str = ""
    read_only: bool = False
    portals: list[str] | None = None
    chap_auth_discovery: bool = False
    chap_auth_session: bool = False
    secret_ref: LocalObjectReference | None = None
    initiator_name: str | None = None


class NFSVolumeSource(Object, frozen=True, kw_only=True):
    server: str
    path: str
    read_only: bool = False


class PersistentVolumeClaimVolumeSource(Object, frozen=True, kw_only=True):
    claim_name: str
    read_only: bool = False


class PhotonPersistentDiskVolumeSource(Object, frozen=True, kw_only=True):
    pd_id: str
    fs_type: str = ""


class PortworxVolumeSource(Object, frozen=True, kw_only=True):
    volume_id: str
    fs_type: str = ""
    read_only: bool = False


class QuobyteVolumeSource(Object, frozen=True, kw_only=True):
    registry: str
    volume: str
    read_only: bool = False
    user: str = ""
    group: str = ""
    tenant: str = ""


class RBDVolumeSource(Object, frozen=True, kw_only=True):
    monitors: list[str] | None = None
    image: str
    fs_type: str = ""
    pool: str = ""
    user: str = ""
    keyring: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False


class ScaleIOVolumeSource(Object, frozen=True, kw_only=True):
    gateway: str
    system: str
    secret_ref: LocalObjectReference | None
    ssl_enabled: bool = False
    protection_domain: str = ""
    storage_pool: str = ""
    storage_mode: str = ""
    volume_name: str = ""
    fs_type: str = ""
    read_only: bool = False


class StorageOSVolumeSource(Object, frozen=True, kw_only=True):
    volume_name: str = ""
    volume_namespace: str = ""
    fs_type: str = ""
    read_only: bool = False
    secret_ref: LocalObjectReference | None = None


class VsphereVirtualDiskVolumeSource(Object, frozen=True, kw_only=True):
    volume_path: str
    fs_type: str = ""
    storage_policy_name: str = ""
    storage_policy_id: str = ""


class Volume(Object, frozen=True, kw_only=True):
    name: str
    host_path: HostPathVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    gce_persistent_disk: GCEPersistentDiskVolumeSource | None = None
    aws_elastic_block_store: AWSElasticBlockStoreVolumeSource | None = None
    git_repo: GitRepoVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    glusterfs: GlusterfsVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    rbd: RBDVolumeSource | None = None
    flex_volume: FlexVolumeSource | None = None
    cinder: CinderVolumeSource | None = None
    cephfs: CephFSVolumeSource | None = None
    flocker: FlockerVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = None
    fc: FCVolumeSource | None = None
    azure_file: AzureFileVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    vsphere_volume: VsphereVirtualDiskVolumeSource | None = None
    quobyte: QuobyteVolumeSource | None = None
    azure_disk: AzureDiskVolumeSource | None = None
    photon_persistent_disk: PhotonPersistentDiskVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    portworx_volume: PortworxVolumeSource | None = None
    scale_io: ScaleIOVolumeSource | None = None
    storageos: StorageOSVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    image: ImageVolumeSource | None = None


# Pod


class NodeSelectorRequirement(Object, frozen=True, kw_only=True):
    key: str
    operator: str
    values: list[str] | None = None


class NodeSelectorTerm(Object, frozen=True, kw_only=True):
    match_expressions: list[NodeSelectorRequirement] | None = None
    match_fields: list[NodeSelectorRequirement] | None = None


class NodeSelector(Object, frozen=True, kw_only=True):
    node_selector_terms: list[NodeSelectorTerm]


class PreferredSchedulingTerm(Object, frozen=True, kw_only=True):
    weight: Int32
    preference: NodeSelectorTerm


class NodeAffinity(Object, frozen=True, kw_only=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredSchedulingTerm] | None = None


class PodAffinityTerm(Object, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    namespaces: list[str] | None = None
    topology_key: str
    namespace_selector: LabelSelector | None = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class WeightedPodAffinityTerm(Object, frozen=True, kw_only=True):
    weight: Int32
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Object, frozen=True, kw_only=True):
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = None
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] | None = None


class Affinity(Object, frozen=True, kw_only=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Toleration(Object, frozen=True, kw_only=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class HostAlias(Object, frozen=True, kw_only=True):
    ip: str
    hostnames: list[str] | None = None


class PodDNSConfigOption(Object, frozen=True, kw_only=True):
    name: str = ""
    value: str | None = None


class PodDNSConfig(Object, frozen=True, kw_only=True):
    nameservers: list[str] | None = None
    searches: list[str] | None = None
    options: list[PodDNSConfigOption] | None = None


class PodReadinessGate(Object, frozen=True, kw_only=True):
    condition_type: str


class TopologySpreadConstraint(Object, frozen=True, kw_only=True):
    max_skew: Int32
    topology_key: str
    when_unsatisfiable: str
    label_selector: LabelSelector | None = None
    min_domains: Int32 | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: list[str] | None = None


class PodOS(Object, frozen=True, kw_only=True):
    name: str


class PodSchedulingGate(Object, frozen=True, kw_only=True):
    name: str


class PodResourceClaim(Object, frozen=True, kw_only=True):
    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSchedulingGroup(Object, frozen=True, kw_only=True):
    pod_group_name: str | None = None


class PodSpec(Object, frozen=True, kw_only=True):
    volumes: list[Volume] | None = None
    init_containers: list[Container] | None = None
    containers: list[Container]
    ephemeral_containers: list[EphemeralContainer] | None = None
    restart_policy: str = ""
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    dns_policy: str = ""
    node_selector: StringMap | None = None
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    node_name: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool | None = None
    security_context: PodSecurityContext | None = None
    image_pull_secrets: list[LocalObjectReference] | None = None
    hostname: str = ""
    subdomain: str = ""
    affinity: Affinity | None = None
    scheduler_name: str = ""
    tolerations: list[Toleration] | None = None
    host_aliases: list[HostAlias] | None = None
    priority_class_name: str = ""
    priority: Int32 | None = None
    dns_config: PodDNSConfig | None = None
    readiness_gates: list[PodReadinessGate] | None = None
    runtime_class_name: str | None = None
    enable_service_links: bool | None = None
    preemption_policy: str | None = None
    overhead: ResourceList | None = None
    topology_spread_constraints: list[TopologySpreadConstraint] | None = None
    set_hostname_as_fqdn: bool | None = None
    os: PodOS | None = None
    host_users: bool | None = None
    scheduling_gates: list[PodSchedulingGate] | None = None
    resource_claims: list[PodResourceClaim] | None = None
    resources: ResourceRequirements | None = None
    hostname_override: str | None = None
    scheduling_group: PodSchedulingGroup | None = None


# Status


class PodIP(Object, frozen=True, kw_only=True):
    ip: str


class HostIP(Object, frozen=True, kw_only=True):
    ip: str


class PodCondition(Object, frozen=True, kw_only=True):
    type: str
    observed_generation: int = 0
    status: str
    last_probe_time: Time | None
    last_transition_time: Time | None
    reason: str = ""
    message: str = ""


class ContainerStateWaiting(Object, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(Object, frozen=True, kw_only=True):
    started_at: Time | None = None


class ContainerStateTerminated(Object, frozen=True, kw_only=True):
    exit_code: Int32
    signal: Int32 = 0
    reason: str = ""
    message: str = ""
    started_at: Time | None
    finished_at: Time | None
    container_id: str = ""


class ContainerState(Object, frozen=True, kw_only=True):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class VolumeMountStatus(Object, frozen=True, kw_only=True):
    name: str
    mount_path: str
    read_only: bool = False
    recursive_read_only: str | None = None


class LinuxContainerUser(Object, frozen=True, kw_only=True):
    uid: int
    gid: int
    supplemental_groups: list[int] | None = None


class ContainerUser(Object, frozen=True, kw_only=True):
    linux: LinuxContainerUser | None = None


class ContainerStatus(Object, frozen=True, kw_only=True):
    name: str
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    ready: bool
    restart_count: Int32
    image: str
    image_id: str
    container_id: str = ""
    started: bool | None = None
    allocated_resources: ResourceList | None = None
    resources: ResourceRequirements | None = None
    volume_mounts: list[VolumeMountStatus] | None = None
    user: ContainerUser | None = None
    stop_signal: str | None = None


class PodStatus(Object, frozen=True, kw_only=True):
    observed_generation: int = 0
    phase: str = ""
    conditions: list[PodCondition] | None = None
    message: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    host_ip: str = ""
    host_ips: list[HostIP] | None = None
    pod_ip: str = ""
    pod_ips: list[PodIP] | None = None
    start_time: Time | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    qos_class: str = ""
    ephemeral_container_statuses: list[ContainerStatus] | None = None
    resize: str = ""
    allocated_resources: ResourceList | None = None
    resources: ResourceRequirements | None = None


class Pod(Object, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)


# Objects beside pods


class ConfigMap(Object, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    immutable: bool | None = None
    data: StringMap | None = None
    binary_data: dict[str, Base64] | None = None


class Secret(Object, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    immutable: bool | None = None
    data: dict[str, Base64] | None = None
    string_data: StringMap | None = None
    type: str = ""
