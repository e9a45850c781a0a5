"""``danube-admin security``: roles, bindings, API keys and tokens."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from danube_admin_cli import tokens
from danube_admin_cli.commands import Commands, Session
from danube_admin_cli.outcome import USAGE, Yes, confirm, give_up
from danube_admin_cli.printing import show_json, show_success, show_table, show_text
from danube_proto import danube_admin_pb2 as wire
from danube_proto import danube_platform_pb2 as platform
from danube_terminal.choices import Form
from danube_terminal.option_groups import agreed, spelling
from danube_terminal.plain import moment, plain

SERVICE = "/danube_admin.SecurityAdmin"
API_KEYS = "/danube_platform.ApiKeys"
DAY_S = 86_400
BINDING_COLUMNS = {
    "id": "ID",
    "principal": "PRINCIPAL",
    "roles": "ROLES",
    "scope": "SCOPE",
    "resource_name": "RESOURCE",
}

roles, bindings, keys = Commands(), Commands(), Commands()

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(roles.app, name="roles", help="Roles: sets of permissions.")
app.add_typer(bindings.app, name="bindings", help="Bindings: the roles of a principal on a resource.")
app.add_typer(keys.app, name="keys", help="API keys, for those who have no issuer of tokens.")
app.add_typer(tokens.app, name="tokens", help="Tokens of HS256, without a server.")

Name = Annotated[str, typer.Argument(metavar="NAME")]
Permissions = Annotated[
    list[str] | None,
    typer.Option(
        "--permission",
        "-p",
        metavar="PERMISSION",
        help="Lookup, Produce, Consume, Replicate, ManageNamespace, ManageTopic, ManageSchema, ManageBroker, "
        "ManageCluster; may be repeated.",
    ),
]
Scope = Annotated[str, typer.Option("--scope", help="cluster, namespace or topic.")]
Resource = Annotated[
    str,
    typer.Option(
        "--resource", help="A namespace, /namespace/topic, or /namespace/beginning*; none for cluster."
    ),
]
PRINCIPAL_OPTION = typer.Option(
    "--principal", metavar="TYPE:NAME", help="user:NAME, service_account:NAME, certificate:NAME."
)
Principal = Annotated[str, PRINCIPAL_OPTION]


@roles.command("create")
def create_role(
    session: Session,
    name: Name,
    permission: Permissions = None,
    permissions: Annotated[str | None, spelling("--permissions")] = None,
) -> None:
    """Create a role."""
    allowed = agreed("--permission", permission or None, _split(permissions))
    request = wire.CreateRoleRequest(role=wire.RoleDefinition(name=name, permissions=allowed))
    answer = session.call(f"{SERVICE}/CreateRole", request, wire.SecurityResponse)
    show_success(session.form, "Role Created", success=answer.success)


@roles.command("get")
def get_role(session: Session, name: Name) -> None:
    """Show a role."""
    answer = session.call(f"{SERVICE}/GetRole", wire.RoleRequest(name=name), wire.RoleResponse)
    if session.form is Form.json:
        show_json(plain(answer.role))
    else:
        _show_roles(session.form, [answer.role])


@roles.command("list")
def list_roles(session: Session) -> None:
    """List all roles; those of the system cannot be changed."""
    answer = session.call(f"{SERVICE}/ListRoles", wire.Empty(), wire.RoleListResponse)
    _show_roles(session.form, list(answer.roles))


@roles.command("delete")
def delete_role(session: Session, name: Name, yes: Yes = False) -> None:
    """Delete a role that no binding uses."""
    confirm(f"Delete role {name}?", yes=yes)
    answer = session.call(f"{SERVICE}/DeleteRole", wire.RoleRequest(name=name), wire.SecurityResponse)
    show_success(session.form, "Role Deleted", success=answer.success)


@bindings.command("create")
def create_binding(
    session: Session,
    scope: Scope,
    principal: Annotated[str | None, PRINCIPAL_OPTION] = None,
    role: Annotated[list[str] | None, typer.Option("--role", "-r", help="May be repeated.")] = None,
    resource: Resource = "",
    identifier: Annotated[str, typer.Option("--id", help="Its name; a random one if absent.")] = "",
    named: Annotated[str | None, typer.Argument(metavar="ID", hidden=True)] = None,
    principal_type: Annotated[str | None, spelling("--principal-type")] = None,
    principal_name: Annotated[str | None, spelling("--principal-name")] = None,
    roles: Annotated[str | None, spelling("--roles")] = None,
) -> None:
    """Give a principal roles on the cluster, a namespace, a topic, or all topics that begin alike."""
    if (principal_type is None) != (principal_name is None):
        give_up("--principal-type and --principal-name go together; or give --principal TYPE:NAME", USAGE)
    parts = None if principal_type is None else (principal_type, principal_name)
    kind, name = agreed("--principal", principal and _principal(principal), parts)
    binding = wire.BindingDefinition(
        id=agreed("--id", named, identifier or None) if named or identifier else secrets.token_hex(4),
        principal_type=kind,
        principal_name=name,
        role_names=agreed("--role", role or None, _split(roles)),
        scope=scope,
        resource_name=resource,
    )
    request = wire.CreateBindingRequest(binding=binding)
    answer = session.call(f"{SERVICE}/CreateBinding", request, wire.SecurityResponse)
    if session.form is Form.json:
        show_json({"success": answer.success, "id": binding.id})
    else:
        show_success(session.form, f"Binding {binding.id} Created", success=answer.success)


@bindings.command("get")
def get_binding(session: Session, identifier: Name, scope: Scope, resource: Resource = "") -> None:
    """Show a binding."""
    request = wire.BindingRequest(scope=scope, resource_name=resource, binding_id=identifier)
    answer = session.call(f"{SERVICE}/GetBinding", request, wire.BindingResponse)
    if session.form is Form.json:
        show_json(plain(answer.binding))
    else:
        _show_bindings(session.form, [answer.binding])


@bindings.command("list")
def list_bindings(session: Session, scope: Scope = "", resource: Resource = "") -> None:
    """List the bindings on a resource; without one, all."""
    if scope:
        request = wire.ListBindingsRequest(scope=scope, resource_name=resource)
        answer = session.call(f"{SERVICE}/ListBindings", request, wire.BindingListResponse)
    elif resource:
        give_up("--resource needs --scope", USAGE)
    else:
        answer = session.call(f"{SERVICE}/ListAllBindings", wire.Empty(), wire.BindingListResponse)
    _show_bindings(session.form, list(answer.bindings))


@bindings.command("delete")
def delete_binding(
    session: Session, identifier: Name, scope: Scope, resource: Resource = "", yes: Yes = False
) -> None:
    """Delete a binding: within 5 s nothing that it allowed is allowed any more."""
    confirm(f"Delete binding {identifier}?", yes=yes)
    request = wire.BindingRequest(scope=scope, resource_name=resource, binding_id=identifier)
    answer = session.call(f"{SERVICE}/DeleteBinding", request, wire.SecurityResponse)
    show_success(session.form, "Binding Deleted", success=answer.success)


@keys.command("create")
def create_key(
    session: Session,
    principal: Principal,
    ttl_days: Annotated[int, typer.Option("--ttl-days", min=0, help="0: it does not expire.")] = 0,
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
) -> None:
    """Create an API key, and print it. It is not told again."""
    kind, name = _principal(principal)
    request = platform.CreateKeyRequest(
        principal_type=kind, principal_name=name, description=description, ttl_s=ttl_days * DAY_S
    )
    answer = session.call(f"{API_KEYS}/CreateKey", request, platform.CreateKeyResponse)
    if session.form is Form.json:
        show_json({"key": answer.key, **plain(answer.info)})
    else:
        show_text(answer.key)


@keys.command("list")
def list_keys(session: Session) -> None:
    """List all keys, without their secrets."""
    answer = session.call(f"{API_KEYS}/ListKeys", platform.ListKeysRequest(), platform.ListKeysResponse)
    if session.form is Form.json:
        show_json([plain(key) for key in answer.keys])
        return
    rows = [
        {
            "id": key.key_id,
            "principal": f"{key.principal_type}:{key.principal_name}",
            "created": moment(key.created_ms),
            "expires": moment(key.expires_ms) if key.expires_ms else "never",
            "description": key.description,
        }
        for key in answer.keys
    ]
    columns = ("id", "principal", "created", "expires", "description")
    show_table(session.form, {name: name.upper() for name in columns}, rows)


@keys.command("revoke")
def revoke_key(session: Session, identifier: Name, yes: Yes = False) -> None:
    """Revoke a key by its id: within 5 s it is refused everywhere, and its open streams have ended."""
    confirm(f"Revoke key {identifier}?", yes=yes)
    request = platform.RevokeKeyRequest(key_id=identifier)
    session.call(f"{API_KEYS}/RevokeKey", request, platform.RevokeKeyResponse)
    show_success(session.form, "Key Revoked", success=True)


def _split(text: str | None) -> list[str] | None:
    """Return the names of a list with commas; None if there is none."""
    return [name.strip() for name in (text or "").split(",") if name.strip()] or None


def _principal(text: str) -> tuple[str, str]:
    kind, found, name = text.partition(":")
    if not found or not name:
        give_up(f"{text!r}: a principal is TYPE:NAME, such as user:alice", USAGE)
    return kind, name


def _show_roles(form: Form, found: list[wire.RoleDefinition]) -> None:
    if form is Form.json:
        show_json([plain(role) for role in found])
        return
    rows = [
        {
            "name": role.name,
            "system": "yes" if role.system else "no",
            "permissions": ", ".join(role.permissions),
        }
        for role in found
    ]
    show_table(form, {"name": "NAME", "system": "SYSTEM", "permissions": "PERMISSIONS"}, rows)


def _show_bindings(form: Form, found: list[wire.BindingDefinition]) -> None:
    if form is Form.json:
        show_json([plain(binding) for binding in found])
        return
    rows = [
        {
            "id": each.id,
            "principal": f"{each.principal_type}:{each.principal_name}",
            "roles": ", ".join(each.role_names),
            "scope": each.scope,
            "resource_name": each.resource_name,
        }
        for each in found
    ]
    show_table(form, BINDING_COLUMNS, rows)
