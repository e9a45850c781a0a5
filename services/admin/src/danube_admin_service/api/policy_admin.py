"""``danube_platform.PolicyAdmin``: reads and sets policies, which v0.2 cannot.

No v0.2 client knows these methods, so failures have the status that says what they are.
"""

from __future__ import annotations

from danube_admin_service.api.effective_policies import EffectivePolicies, json_text
from danube_admin_service.api.named_topics import topic_name
from danube_admin_service.api.unary import precise
from danube_common.cluster.namespaces import Namespaces
from danube_common.cluster.topics import Topics
from danube_common.model.names import TopicName, check_namespace
from danube_common.model.policies import PolicyOverrides
from danube_common.rpc.port import UnaryHandler
from danube_proto.danube_api_pb2 import TOPIC_NOT_FOUND
from danube_proto.danube_platform_pb2 import (
    GetNamespacePoliciesRequest,
    GetTopicPoliciesRequest,
    Policies,
    PoliciesResponse,
    SetNamespacePoliciesRequest,
    SetTopicPoliciesRequest,
)


class PolicyAdmin:
    """Every method answers with the policies that are in force afterwards."""

    def __init__(self, namespaces: Namespaces, topics: Topics, effective_policies: EffectivePolicies) -> None:
        self._namespaces = namespaces
        self._topics = topics
        self._effective_policies = effective_policies

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the service's methods."""
        prefix = "/danube_platform.PolicyAdmin"
        return {
            f"{prefix}/GetNamespacePolicies": precise(GetNamespacePoliciesRequest, self.get_namespace),
            f"{prefix}/SetNamespacePolicies": precise(SetNamespacePoliciesRequest, self.set_namespace),
            f"{prefix}/GetTopicPolicies": precise(GetTopicPoliciesRequest, self.get_topic, TOPIC_NOT_FOUND),
            f"{prefix}/SetTopicPolicies": precise(SetTopicPoliciesRequest, self.set_topic, TOPIC_NOT_FOUND),
        }

    async def get_namespace(self, request: GetNamespacePoliciesRequest) -> PoliciesResponse:
        """Return the policies of a namespace."""
        return await self._of_namespace(check_namespace(request.namespace))

    async def set_namespace(self, request: SetNamespacePoliciesRequest) -> PoliciesResponse:
        """Set or clear policies of a namespace."""
        name, changes = check_namespace(request.namespace), overrides_of(request.policies)
        await self._namespaces.set_policies(name, changes, clear=request.clear)
        return await self._of_namespace(name)

    async def get_topic(self, request: GetTopicPoliciesRequest) -> PoliciesResponse:
        """Return the policies of a topic."""
        return await self._of_topic(topic_name(request.topic))

    async def set_topic(self, request: SetTopicPoliciesRequest) -> PoliciesResponse:
        """Set or clear policies of a topic."""
        name, changes = topic_name(request.topic), overrides_of(request.policies)
        await self._topics.set_policies(name, changes, clear=request.clear)
        return await self._of_topic(name)

    async def _of_namespace(self, name: str) -> PoliciesResponse:
        return PoliciesResponse(policies=json_text(await self._effective_policies.in_namespace(name)))

    async def _of_topic(self, name: TopicName) -> PoliciesResponse:
        return PoliciesResponse(policies=json_text(await self._effective_policies.of_topic(name)))


def overrides_of(policies: Policies) -> PolicyOverrides:
    """Return the policies that the message sets; one that it does not set is None."""
    return PolicyOverrides(
        **{
            name: getattr(policies, name) if policies.HasField(name) else None
            for name in PolicyOverrides.__struct_fields__
        }
    )
