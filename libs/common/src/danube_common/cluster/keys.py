"""The keys of the metadata store. They are the original's where the meaning is equal.

====================================  =====================================================
/cluster/layout                       how many bundles each family has
/cluster/policies                     broker-level policies
/cluster/leader                       the leading admin instance (lease)
/cluster/term                         how many elections were won so far
/cluster/register/{instance}          a live instance of any service (lease)
/cluster/assignments/{bundle}         the owner the leader chose
/cluster/owners/{bundle}              the owner's claim; its revision is the epoch
/cluster/load/{instance}              the load report of a topic-owner (ttl)
/cluster/drains/{instance}            a topic-owner that is being drained
/namespaces/{ns}/policy               the namespace's existence and policies
/topics/{ns}/{topic}/definition       the topic: id, bundle, schema, dispatch strategy; or that the name is
                                      that of a partitioned topic, and how many partitions it has
/topics/{ns}/{topic}/policy           the policies of the topic, or of all its partitions
/storage/id                           the name under which this cluster's segments are kept
/storage/archivers/{bundle}           the storage instance that archives the bundle (lease)
/storage/bundles/{bundle}             what was deleted of the bundle, and offsets to count on from
/storage/cuts/{bundle}/{sequence}     a manifest entry: a range of the log that is in segments
/storage/scrubs/{instance}            how far the instance has verified its segments (ttl)
/schemas/last_id                      the highest schema id that was given out
/schemas/ids/{id}                     the name of the subject that has a schema id
/schemas/subjects/{subject}           a subject: its id and its compatibility mode
/schemas/versions/{id}/{version}      the summary of a version of the subject with this id
/schemas/definitions/{id}/{version}   the version with its definition
/schemas/topics/{ns}/{topic}          the subject of a topic, and how its messages are validated
/security/roles/{role}                a named set of permissions
/security/bindings/{scope}/{on}/{id}  the roles of a principal on a resource
/security/keys/{id}                   an API key: the digest of its secret, and whose it is
====================================  =====================================================
"""

from __future__ import annotations

import re

from danube_common.model.bundle import Bundle
from danube_common.model.names import TopicName

CLUSTER = "/cluster/"
LAYOUT = "/cluster/layout"
BROKER_POLICIES = "/cluster/policies"
LEADER = "/cluster/leader"
TERM = "/cluster/term"
REGISTER = "/cluster/register/"
ASSIGNMENTS = "/cluster/assignments/"
OWNERS = "/cluster/owners/"
LOAD = "/cluster/load/"
DRAINS = "/cluster/drains/"
NAMESPACES = "/namespaces/"
TOPICS = "/topics/"
ARCHIVE_ID = "/storage/id"
ARCHIVERS = "/storage/archivers/"
ARCHIVES = "/storage/bundles/"
MANIFESTS = "/storage/cuts/"
SCRUBS = "/storage/scrubs/"
LAST_SCHEMA_ID = "/schemas/last_id"
SUBJECTS = "/schemas/subjects/"
SCHEMA_VERSIONS = "/schemas/versions/"
TOPIC_SCHEMAS = "/schemas/topics/"
SECURITY = "/security/"
ROLES = "/security/roles/"
BINDINGS = "/security/bindings/"
API_KEYS = "/security/keys/"

_PLAIN = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def key_part(name: str) -> str:
    """Encode a name as one part of a key: letters beyond ASCII become ``=`` and their UTF-8 bytes in hex."""
    if _PLAIN.fullmatch(name):
        return name
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"={byte:02x}" for byte in char.encode()) for char in name
    )


def instance_key(instance_id: str) -> str:
    """The registration of a process."""
    return REGISTER + key_part(instance_id)


def assignment_key(bundle: Bundle) -> str:
    """The owner that a bundle is assigned to."""
    return f"{ASSIGNMENTS}{bundle}"


def owner_key(bundle: Bundle) -> str:
    """The claim of a bundle's owner; its revision is the epoch."""
    return f"{OWNERS}{bundle}"


def load_key(instance_id: str) -> str:
    """The load report of an owner."""
    return LOAD + key_part(instance_id)


def drain_key(instance_id: str) -> str:
    """The drain of an owner."""
    return DRAINS + key_part(instance_id)


def namespace_key(namespace: str) -> str:
    """A namespace and its policies."""
    return f"{NAMESPACES}{key_part(namespace)}/policy"


def namespace_topics_prefix(namespace: str) -> str:
    """All topics of a namespace."""
    return f"{TOPICS}{key_part(namespace)}/"


def topic_key(topic: TopicName) -> str:
    """A topic, a partition or a partitioned topic."""
    return f"{namespace_topics_prefix(topic.namespace)}{key_part(topic.local)}/definition"


def topic_policy_key(topic: TopicName) -> str:
    """The policies of a topic."""
    return f"{namespace_topics_prefix(topic.namespace)}{key_part(topic.local)}/policy"


def archiver_key(bundle: Bundle) -> str:
    """The lease of a bundle's archiver."""
    return f"{ARCHIVERS}{bundle}"


def archive_key(bundle: Bundle) -> str:
    """The state of a bundle's archive."""
    return f"{ARCHIVES}{bundle}"


def manifest_prefix(bundle: Bundle) -> str:
    """All manifest entries of a bundle."""
    return f"{MANIFESTS}{bundle}/"


def manifest_key(bundle: Bundle, first_sequence: int) -> str:
    """A manifest entry; keys sort as the sequences do."""
    return f"{manifest_prefix(bundle)}{first_sequence:016x}"


def scrub_key(instance_id: str) -> str:
    """How far a storage instance has verified its segments."""
    return SCRUBS + key_part(instance_id)


def schema_id_key(schema_id: int) -> str:
    """The name of the subject that has this id."""
    return f"/schemas/ids/{schema_id:016x}"


def subject_key(subject: str) -> str:
    """A subject of the schema registry."""
    return SUBJECTS + key_part(subject)


def schema_versions_prefix(schema_id: int) -> str:
    """The summaries of a subject's versions."""
    return f"{SCHEMA_VERSIONS}{schema_id:016x}/"


def schema_version_key(schema_id: int, version: int) -> str:
    """The summary of a version; keys sort as the versions do."""
    return f"{schema_versions_prefix(schema_id)}{version:08x}"


def schema_definitions_prefix(schema_id: int) -> str:
    """A subject's versions with their definitions."""
    return f"/schemas/definitions/{schema_id:016x}/"


def schema_definition_key(schema_id: int, version: int) -> str:
    """A version with its definition."""
    return f"{schema_definitions_prefix(schema_id)}{version:08x}"


def topic_schema_key(topic: TopicName) -> str:
    """The subject of a topic."""
    return f"{TOPIC_SCHEMAS}{key_part(topic.namespace)}/{key_part(topic.local)}"


def role_key(name: str) -> str:
    """A role."""
    return ROLES + key_part(name)


def bindings_prefix(scope: str, resource: str) -> str:
    """All bindings on a resource; the cluster's is empty."""
    return f"{BINDINGS}{scope}/{key_part(resource) or '-'}/"


def binding_key(scope: str, resource: str, binding_id: str) -> str:
    """A binding."""
    return bindings_prefix(scope, resource) + key_part(binding_id)


def api_key_key(key_id: str) -> str:
    """An API key by its id."""
    return API_KEYS + key_part(key_id)
