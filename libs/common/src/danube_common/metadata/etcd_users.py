"""Users of etcd that are known by their certificates, and the ranges of keys that each may use.

A user has no password: etcd takes the common name of a client's certificate for its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from aetcd import rpc  # type: ignore[import-untyped]

from danube_common.errors import MetadataUnavailable
from danube_common.metadata.etcd_link import EtcdTls, Stubs, open_stubs
from danube_common.metadata.grant import Grant

ROOT: Final = "root"
"""May do everything; its certificate is needed to change users."""
CALL_S_MAX: Final = 10.0
_THERE_ALREADY: Final = ("etcdserver: user name already exists", "etcdserver: role name already exists")


async def set_users(endpoint: str, tls: EtcdTls, users: Mapping[str, Sequence[Grant]]) -> None:
    """Make the users and their roles, take from them what they no longer may, and ask for certificates.

    May be repeated, and is then done as `ROOT`.

    Args:
        endpoint: ``host:port`` of a member.
        tls: with the certificate of `ROOT`.
        users: by name, which is that of their role, too.

    Raises:
        MetadataUnavailable: etcd does not answer, or refuses.
    """
    stubs = open_stubs(endpoint, tls)
    try:
        await _make(stubs, ROOT)
        for name, grants in users.items():
            await _make(stubs, name)
            await _give(stubs, name, grants)
        await _call(stubs.auth.AuthEnable, rpc.AuthEnableRequest())
    except grpc.aio.AioRpcError as error:
        text = f"etcd at {endpoint}: {error.code().name} {error.details()}"
        raise MetadataUnavailable(text) from error
    finally:
        await stubs.channel.close()


async def _make(stubs: Stubs, name: str) -> None:
    """Make a user without a password and a role of the same name."""
    auth, options = stubs.auth, rpc.UserAddOptions(no_password=True)
    await _done(_call(auth.UserAdd, rpc.AuthUserAddRequest(name=name, options=options)))
    await _done(_call(auth.RoleAdd, rpc.AuthRoleAddRequest(name=name)))
    await _done(_call(auth.UserGrantRole, rpc.AuthUserGrantRoleRequest(user=name, role=name)))


async def _give(stubs: Stubs, name: str, grants: Sequence[Grant]) -> None:
    """Let a role have these ranges and no others."""
    auth = stubs.auth
    kinds = {False: rpc.Permission.READ, True: rpc.Permission.READWRITE}
    wanted = {(grant.start, grant.end): kinds[grant.writes] for grant in sorted(grants)}
    held = (await _call(auth.RoleGet, rpc.AuthRoleGetRequest(role=name))).perm
    found = {(one.key, one.range_end): one.permType for one in held}
    for start, end in found.keys() - wanted:
        request = rpc.AuthRoleRevokePermissionRequest(role=name, key=start, range_end=end)
        await _call(auth.RoleRevokePermission, request)
    for (start, end), kind in wanted.items():
        if found.get((start, end)) != kind:
            perm = rpc.Permission(key=start, range_end=end, permType=kind)
            request = rpc.AuthRoleGrantPermissionRequest(name=name, perm=perm)
            await _call(auth.RoleGrantPermission, request)


def _call(method: Any, request: Any) -> Any:
    return method(request, timeout=CALL_S_MAX, wait_for_ready=True)


async def _done(call: Awaitable[object]) -> None:
    """Wait for a call; that something is there already is no error."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.details() not in _THERE_ALREADY:
            raise
