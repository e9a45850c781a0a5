"""What is done: the answers to POST, in the original's shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from google.protobuf.message import Message

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.ui_v1.reading import Json, plain
from danube_common.errors import InvalidInput
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema

Act = Callable[[Visitor, Json], Awaitable[Json]]
Asked = tuple[str, Message]
"""A method and its request."""

UNLOAD_WAIT_S: Final = 60
PARTITIONED: Final = "/danube_platform.PartitionAdmin/CreatePartitions"


async def cluster(visitor: Visitor, body: Json) -> Json:
    """Drain or activate a topic owner."""
    broker_id = str(body.get("broker_id", "")).strip()
    if not broker_id:
        raise InvalidInput("missing broker_id")
    match _action(body):
        case "unload":
            request = admin.UnloadBrokerRequest(
                broker_id=broker_id,
                max_parallel=body.get("max_parallel") or 1,
                namespaces_include=body.get("namespaces_include") or [],
                namespaces_exclude=body.get("namespaces_exclude") or [],
                dry_run=bool(body.get("dry_run")),
                timeout_seconds=body.get("timeout_seconds") or UNLOAD_WAIT_S,
            )
            done = await visitor.ask(calls.UNLOAD_BROKER, request, admin.UnloadBrokerResponse)
            names = ("started", "total", "succeeded", "failed", "pending")
            message = " ".join(f"{name}={str(getattr(done, name)).lower()}" for name in names)
            return {"success": done.started, "message": message}
        case "activate":
            activation = admin.ActivateBrokerRequest(broker_id=broker_id, reason=body.get("reason") or "")
            activated = await visitor.ask(calls.ACTIVATE_BROKER, activation, admin.ActivateBrokerResponse)
            return {"success": activated.success, "message": f"success={str(activated.success).lower()}"}
    raise InvalidInput("unsupported action")


async def rebalance(visitor: Visitor, body: Json) -> Json:
    """Rebalance, or tell what it would move."""
    request = admin.RebalanceRequest(dry_run=bool(body.get("dry_run")))
    if body.get("max_moves"):
        request.max_moves = body["max_moves"]
    done = await visitor.ask(calls.REBALANCE, request, admin.RebalanceResponse)
    return plain(done)  # the ids of brokers as text: scripts in browsers round long numbers


async def raft(visitor: Visitor, body: Json) -> Json:
    """Answer as the admin port does: there is no consensus among the instances."""
    methods = {"promote_node": calls.PROMOTE_NODE, "remove_node": calls.REMOVE_NODE}
    method = methods.get(_action(body))
    node_id = str(body.get("node_id", ""))
    if method is None:
        raise InvalidInput("unsupported raft action")
    if not (node_id.isascii() and node_id.isdigit()):
        raise InvalidInput("invalid node_id format")
    return plain(await visitor.ask(method, admin.NodeRequest(node_id=int(node_id)), admin.NodeResponse))


async def topics(visitor: Visitor, body: Json) -> Json:
    """Create, delete or unload a topic."""
    name = topic_name(str(body.get("topic", "")), body.get("namespace"))
    match _action(body):
        case "create":
            asked = _creation(name, body)
        case "delete":
            asked = f"{calls.TOPIC}/DeleteTopic", admin.TopicRequest(name=name)
        case "unload":
            asked = f"{calls.TOPIC}/UnloadTopic", admin.TopicRequest(name=name)
        case _:
            raise InvalidInput("unsupported action")
    return await _done(visitor, asked)


def _creation(name: str, body: Json) -> Asked:
    reliable = str(body.get("dispatch_strategy") or "").lower().replace("-", "_").startswith("reliable")
    strategy = "reliable" if reliable else "non_reliable"
    schema_type = str(body.get("schema_type") or "bytes")
    schema_data = str(body.get("schema_data") or "")
    if body.get("partitions"):
        partitioned = platform.CreatePartitionsRequest(
            topic=name,
            partitions=body["partitions"],
            schema_type=schema_type,
            schema_data=schema_data,
            dispatch_strategy=strategy,
        )
        return PARTITIONED, partitioned
    request = admin.NewTopicRequest(
        name=name, schema_type=schema_type, schema_data=schema_data, dispatch_strategy=strategy
    )
    return f"{calls.TOPIC}/CreateTopic", request


def topic_name(text: str, namespace: object) -> str:
    """Return the name that ``/ns/topic``, ``ns/topic`` or ``topic`` stands for. Raises InvalidInput."""
    parts = text.strip().removeprefix("/").split("/")
    match parts:
        case [name] if namespace and name:
            return f"/{namespace}/{name}"
        case [of, name] if of and name:
            return f"/{of}/{name}"
    raise InvalidInput("wrong topic format, should be /namespace/topic")


async def schemas(visitor: Visitor, body: Json) -> Json:
    """Set the compatibility mode of a subject, or delete a version of it."""
    name = str(body.get("subject", ""))
    match _action(body), body:
        case "set_compatibility", {"compatibility_mode": str(mode)}:
            change = schema.SetCompatibilityModeRequest(subject=name, compatibility_mode=mode.lower())
            method = f"{calls.REGISTRY}/SetCompatibilityMode"
            return await _done(visitor, (method, change))
        case "delete_version", {"version": int(version)}:
            deletion = schema.DeleteSchemaVersionRequest(subject=name, version=version)
            method = f"{calls.REGISTRY}/DeleteSchemaVersion"
            return await _done(visitor, (method, deletion))
    raise InvalidInput("set_compatibility needs compatibility_mode, delete_version needs version")


async def roles(visitor: Visitor, body: Json) -> Json:
    """Create or delete a role."""
    name = str(body.get("name", ""))
    match _action(body):
        case "create":
            role = admin.RoleDefinition(name=name, permissions=body.get("permissions") or [])
            request: Message = admin.CreateRoleRequest(role=role)
            method = f"{calls.SECURITY}/CreateRole"
        case "delete":
            request, method = admin.RoleRequest(name=name), f"{calls.SECURITY}/DeleteRole"
        case _:
            raise InvalidInput("invalid action")
    return await _success(visitor, (method, request))


async def bindings(visitor: Visitor, body: Json) -> Json:
    """Create or delete a binding."""
    binding_id, scope = str(body.get("id", "")), str(body.get("scope", ""))
    resource = str(body.get("resource") or "")
    match _action(body):
        case "create":
            binding = admin.BindingDefinition(
                id=binding_id,
                principal_type=body.get("principal_type") or "",
                principal_name=body.get("principal_name") or "",
                role_names=body.get("roles") or [],
                scope=scope,
                resource_name=resource,
            )
            request: Message = admin.CreateBindingRequest(binding=binding)
            method = f"{calls.SECURITY}/CreateBinding"
        case "delete":
            request = admin.BindingRequest(scope=scope, resource_name=resource, binding_id=binding_id)
            method = f"{calls.SECURITY}/DeleteBinding"
        case _:
            raise InvalidInput("invalid action")
    return await _success(visitor, (method, request))


def _action(body: Json) -> str:
    return str(body.get("action", "")).lower()


async def _done(visitor: Visitor, asked: Asked) -> Json:
    await visitor.call(*asked)
    return {"success": True, "message": "ok"}


async def _success(visitor: Visitor, asked: Asked) -> Json:
    await visitor.call(*asked)
    return {"success": True}


ACTS: Final[Mapping[str, Act]] = {
    "/cluster/actions": cluster,
    "/cluster/rebalance": rebalance,
    "/cluster/raft/actions": raft,
    "/topics/actions": topics,
    "/schemas/actions": schemas,
    "/security/roles/actions": roles,
    "/security/bindings/actions": bindings,
}
"""By path below /ui/v1."""
