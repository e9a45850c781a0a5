"""The page of namespaces."""

from __future__ import annotations

import msgspec

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.sources import Query, Sources
from danube_admin_service.console.topics.listing import namespaces_of
from danube_admin_service.console.topics.policy_rows import policy_rows
from danube_proto import danube_platform_pb2 as platform


async def namespaces(visitor: Visitor, sources: Sources, _query: Query) -> dict[str, object]:
    """The namespaces, how many topics each has, and its policies."""
    rows = []
    for name in await namespaces_of(visitor, sources):
        plain, partitioned = await sources.topics.listed(name)
        request = platform.GetNamespacePoliciesRequest(namespace=name)
        answer = await visitor.ask(calls.NAMESPACE_POLICIES, request, platform.PoliciesResponse)
        topics = len([one for one in plain if not one.partitioned_id]) + len(partitioned)
        own = msgspec.structs.asdict((await sources.namespaces.get(name)).policies)
        rows.append((name, topics, policy_rows(answer.policies, (("this namespace", own),))))
    return {"rows": rows}
