"""Roles, bindings and API keys as they are stored, and a process's live view of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from danube_common.cluster import keys
from danube_common.cluster.records import decode_record
from danube_common.metadata.mirror import Mirror
from danube_common.metadata.port import Change, MetadataStore
from danube_common.security.api_keys import ApiKey
from danube_common.security.authorizer import Authorizer
from danube_common.security.identity import Identity
from danube_common.security.roles import Binding, Role


class SecurityPolicies:
    """A mirror of what is stored under ``/security/``.

    Attributes:
        version: changes with each change.
    """

    def __init__(self, super_admins: Collection[Identity]) -> None:
        self.version = 0
        self._super_admins = super_admins
        self._mirror: Mirror | None = None
        self._authorizer = Authorizer((), (), super_admins)
        self._built = 0
        self._api_keys: dict[str, ApiKey] = {}
        self._policy: dict[str, Role | Binding] = {}

    @classmethod
    async def open(cls, store: MetadataStore, super_admins: Collection[Identity]) -> Self:
        """Return once everything stored so far was read. Raises MetadataUnavailable."""
        self = cls(super_admins)
        self._mirror = await Mirror.open(store, keys.SECURITY, self._changed)
        return self

    async def close(self) -> None:
        """Stop following the store."""
        if self._mirror is not None:
            await self._mirror.close()

    @property
    def authorizer(self) -> Authorizer:
        """The present state, made anew once after changes."""
        if self._built != self.version:
            roles = [each for each in self._policy.values() if isinstance(each, Role)]
            bindings = [each for each in self._policy.values() if isinstance(each, Binding)]
            self._authorizer = Authorizer(roles, bindings, self._super_admins)
            self._built = self.version
        return self._authorizer

    def api_key(self, key_id: str, now_s: float) -> ApiKey | None:
        """Return a key that is neither revoked nor expired, or None."""
        key = self._api_keys.get(key_id)
        if key is None or (key.expires_ms and now_s * 1000 >= key.expires_ms):
            return None
        return key

    def _changed(self, change: Change) -> None:
        self.version += 1
        # What cannot be read must not leave the state before in force.
        self._policy.pop(change.key, None)
        if change.key.startswith(keys.API_KEYS):
            key_id = change.key.removeprefix(keys.API_KEYS)
            self._api_keys.pop(key_id, None)
            if change.value is not None:
                self._api_keys[key_id] = decode_record(ApiKey, change.value)
        elif change.value is not None and change.key.startswith(keys.ROLES):
            self._policy[change.key] = decode_record(Role, change.value)
        elif change.value is not None and change.key.startswith(keys.BINDINGS):
            self._policy[change.key] = decode_record(Binding, change.value)
