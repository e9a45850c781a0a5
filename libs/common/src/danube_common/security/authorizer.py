"""Decides what a principal may do. Pure: a snapshot of roles and bindings, without I/O and time.

Everything is denied that no binding allows. Super administrators may do everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from danube_common.errors import InvalidName
from danube_common.model.names import TopicName
from danube_common.security.identity import Identity, PrincipalType
from danube_common.security.roles import SYSTEM_ROLES, Binding, Permission, Role, Scope

_SEEING: Final = frozenset(Permission) - {Permission.REPLICATE}
"""Who may do one of these with a resource may also look it up."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What a call is about; without namespace and topic the cluster. ``anywhere``: any resource will do."""

    namespace: str = ""
    topic: str = ""
    anywhere: bool = False

    def __str__(self) -> str:
        if self.topic:
            return f"topic {self.topic}"
        return f"namespace {self.namespace}" if self.namespace else "the cluster"


CLUSTER: Final = Resource()
ANYWHERE: Final = Resource(anywhere=True)


@dataclass(slots=True)
class _Grants:
    """The permissions of one principal by what they are bound to."""

    cluster: set[Permission] = field(default_factory=set)
    namespaces: dict[str, set[Permission]] = field(default_factory=lambda: defaultdict(set))
    topics: dict[str, set[Permission]] = field(default_factory=lambda: defaultdict(set))
    beginnings: dict[str, set[Permission]] = field(default_factory=lambda: defaultdict(set))

    def add(self, binding: Binding, permissions: set[Permission]) -> None:
        if binding.scope is Scope.CLUSTER:
            self.cluster |= permissions
        elif binding.scope is Scope.NAMESPACE:
            self.namespaces[binding.resource] |= permissions
        elif binding.resource.endswith("*"):
            self.beginnings[binding.resource[:-1]] |= permissions
        else:
            self.topics[binding.resource] |= permissions

    def allows(self, permission: Permission, resource: Resource) -> bool:
        if permission in self.cluster:
            return True
        if resource.anywhere:
            held = (*self.namespaces.values(), *self.topics.values(), *self.beginnings.values())
            return any(permission in each for each in held)
        if resource.topic:
            return self._allows_topic(permission, resource.topic)
        return permission in self.namespaces.get(resource.namespace, ())

    def _allows_topic(self, permission: Permission, topic: str) -> bool:
        try:
            name = TopicName.parse(topic)
        except InvalidName:
            return False  # only the cluster's own roles cover what is no topic
        if permission in self.namespaces.get(name.namespace, ()) or permission in self.topics.get(topic, ()):
            return True
        whole = name.partition_of
        if whole is not None and permission in self.topics.get(str(whole), ()):
            return True
        return any(
            permission in held and topic.startswith(beginning) for beginning, held in self.beginnings.items()
        )


class Authorizer:
    """One state of roles and bindings.

    Args:
        roles: beside those of every cluster.
        bindings: a role that does not exist gives nothing.
        super_admins: who may do everything.
    """

    def __init__(
        self,
        roles: Iterable[Role] = (),
        bindings: Iterable[Binding] = (),
        super_admins: Collection[Identity] = (),
    ) -> None:
        known = {role.name: role for role in roles} | SYSTEM_ROLES
        self._super_admins = frozenset(super_admins)
        self._grants: dict[Identity, _Grants] = defaultdict(_Grants)
        for binding in bindings:
            held = {
                permission
                for name in binding.role_names
                if name in known
                for permission in known[name].permissions
            }
            if held & _SEEING:
                held.add(Permission.LOOKUP)
            identity = Identity(PrincipalType(binding.principal_type), binding.principal_name)
            self._grants[identity].add(binding, held)

    def allows(self, identity: Identity, permission: Permission, resource: Resource) -> bool:
        """Return whether a principal may do something with a resource."""
        if identity in self._super_admins:
            return True
        grants = self._grants.get(identity)
        return grants is not None and grants.allows(permission, resource)
