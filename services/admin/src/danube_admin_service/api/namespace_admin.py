"""``danube_admin.NamespaceAdmin``: namespaces, their topics and policies."""

from __future__ import annotations

from danube_admin_service.api.effective_policies import EffectivePolicies, json_text
from danube_admin_service.api.unary import unary
from danube_common.cluster.namespaces import DEFAULT_NAMESPACES, Namespaces
from danube_common.cluster.topics import Topics
from danube_common.errors import Refused
from danube_common.model.names import check_namespace
from danube_common.model.policies import V0_2_POLICIES
from danube_common.rpc.port import UnaryHandler
from danube_proto.danube_admin_pb2 import (
    NamespaceRequest,
    NamespaceResponse,
    PolicyResponse,
    TopicListResponse,
)


class NamespaceAdmin:
    """Creates, lists and deletes namespaces."""

    def __init__(self, namespaces: Namespaces, topics: Topics, effective_policies: EffectivePolicies) -> None:
        self._namespaces = namespaces
        self._topics = topics
        self._effective_policies = effective_policies

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_admin.NamespaceAdmin"
        return {
            f"{prefix}/GetNamespaceTopics": unary(NamespaceRequest, self.list_topics),
            f"{prefix}/GetNamespacePolicies": unary(NamespaceRequest, self.get_policies),
            f"{prefix}/CreateNamespace": unary(NamespaceRequest, self.create),
            f"{prefix}/DeleteNamespace": unary(NamespaceRequest, self.delete),
            "/danube_admin.TopicAdmin/ListTopics": unary(NamespaceRequest, self.list_topics),
        }

    async def list_topics(self, request: NamespaceRequest) -> TopicListResponse:
        """List full topic names with their leading slash."""
        namespace = check_namespace(request.name)
        await self._namespaces.get(namespace)
        return TopicListResponse(topics=[t.name for t in await self._topics.in_namespace(namespace)])

    async def get_policies(self, request: NamespaceRequest) -> PolicyResponse:
        """Return the policies in force in a namespace as JSON."""
        namespace = check_namespace(request.name)
        policies = await self._effective_policies.in_namespace(namespace)
        return PolicyResponse(policies=json_text(policies, V0_2_POLICIES))

    async def create(self, request: NamespaceRequest) -> NamespaceResponse:
        """Create a namespace; refuse one that exists."""
        await self._namespaces.create(request.name)
        return NamespaceResponse(success=True)

    async def delete(self, request: NamespaceRequest) -> NamespaceResponse:
        """Delete an empty namespace."""
        namespace = check_namespace(request.name)
        if namespace in DEFAULT_NAMESPACES:
            raise Refused(f"namespace {namespace!r} is part of the platform and cannot be deleted")
        await self._namespaces.delete(namespace)
        return NamespaceResponse(success=True)
