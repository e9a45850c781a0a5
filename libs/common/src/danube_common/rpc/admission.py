"""Opens the guard of a port, and tells what is exposed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from danube_common.metadata.port import MetadataStore
from danube_common.rpc.guard import Guard
from danube_common.runtime.auth_config import GuardedPortConfig, is_loopback
from danube_common.runtime.service import Runtime
from danube_common.security.audit import AuditLog
from danube_common.security.authenticator import Authenticator
from danube_common.security.identity import Identity
from danube_common.security.policies import SecurityPolicies


@asynccontextmanager
async def open_guard(
    runtime: Runtime, port: GuardedPortConfig, store: MetadataStore
) -> AsyncIterator[Guard | None]:
    """Yield what admits the calls of a port; None if authentication is off.

    Raises:
        InvalidInput: keys or names of the configuration that cannot be used.
        MetadataUnavailable: the roles cannot be read.
        OSError: the audit file cannot be opened.
    """
    config = port.auth
    if not is_loopback(port.grpc_addr):
        if not config.enabled:
            problem = "whoever reaches this address may do everything"
            runtime.log.warning("insecure", addr=port.grpc_addr, problem=problem)
        elif not port.tls.enabled:
            problem = "tls.cert_file is not set"
            runtime.log.warning("tokens_in_plaintext", addr=port.grpc_addr, problem=problem)
    if not config.enabled:
        yield None
        return
    async with AsyncExitStack() as opened:
        admins = [Identity.parse(text) for text in config.super_admins]
        policies = await SecurityPolicies.open(store, admins)
        opened.push_async_callback(policies.close)
        authenticator = Authenticator(config, policies)
        opened.push_async_callback(authenticator.close)
        await authenticator.start()
        audit = AuditLog(config.audit_file) if config.audit_file is not None else None
        if audit is not None:
            audit.start()
            runtime.add_check("audit", lambda: audit.problem, vital=False)
            opened.callback(audit.close)
        guard = Guard(authenticator, policies, runtime.metrics, audit, audit_required=config.audit_required)
        for part, name in ((authenticator, "token keys"), (guard, "guard")):
            opened.callback(runtime.spawn(part.run(), name).cancel)
        yield guard
