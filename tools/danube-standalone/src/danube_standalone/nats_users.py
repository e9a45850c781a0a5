"""The identities of the services at NATS, and the subjects that each may use.

A service listens only for what is meant for it, and answers come to a prefix of its own. It reads and writes
only its streams: gateways append to the logs and read nothing of them, and only owners write the journal.
Admin instances copy whole streams for backups. Nobody deletes a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from danube_common.cluster.key_writers import withheld, written

OPERATOR: Final = "operator"
"""May do everything: for people and their tools."""

_API = "$JS.API"
_METADATA = (
    f"{_API}.STREAM.*.KV_danube",
    f"{_API}.STREAM.MSG.GET.KV_danube",
    f"{_API}.DIRECT.GET.KV_danube",
    f"{_API}.DIRECT.GET.KV_danube.>",
    f"{_API}.CONSUMER.CREATE.KV_danube.>",
    f"{_API}.CONSUMER.DELETE.KV_danube.>",
    "$JS.FC.KV_danube.>",
)
_LOGS_OPENED = tuple(f"{_API}.STREAM.{verb}.*" for verb in ("INFO", "CREATE", "UPDATE"))
_LOGS_READ = (f"{_API}.DIRECT.GET.*", f"{_API}.STREAM.MSG.GET.*")
_JOURNAL = "DANUBE_JOURNAL"
_JOURNAL_WRITTEN = (f"{_API}.STREAM.*.{_JOURNAL}", "danube.journal.*")
_KEYS = "$KV.danube"

PUBLISHED: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": ("danube.log.*", "danube.fast.*", "danube.owner.>", "danube.storage.*", "danube.producers"),
    "topic-owner": (
        *("danube.log.*", "danube.gateway.*", "danube.owner.>", "danube.storage.*"),
        *_LOGS_READ,
        *_JOURNAL_WRITTEN,
    ),
    "storage": ("danube.storage.>", "danube.owner.>", *_LOGS_READ, f"{_API}.STREAM.PURGE.*"),
    "admin": (
        *("danube.owner.>", "danube.storage.*", "danube.storage.*.repair"),
        *(f"{_API}.STREAM.SNAPSHOT.*", "$JS.SNAPSHOT.ACK.>"),
    ),
}
"""Beyond what all services publish: answers, and requests about metadata and logs."""
SUBSCRIBED: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": ("danube.gateway.*", "danube.producers"),
    "topic-owner": ("danube.owner.>", "danube.fast.*", "danube.live.*"),
    "storage": ("danube.storage.>", "danube.live.*"),
    "admin": (),
}
_NOT_PUBLISHED: Final[Mapping[str, tuple[str, ...]]] = {
    "gateway": (f"{_API}.STREAM.*.{_JOURNAL}",),
    "topic-owner": (),
    "storage": tuple(f"{_API}.STREAM.{verb}.{_JOURNAL}" for verb in ("PURGE", "UPDATE", "DELETE")),
    "admin": tuple(f"{_API}.STREAM.{verb}.{_JOURNAL}" for verb in ("CREATE", "UPDATE")),
}
"""Of what is allowed, streams that are another's."""
_METADATA_KEPT = tuple(f"{_API}.STREAM.{verb}.KV_danube" for verb in ("PURGE", "DELETE"))


def render_users(passwords: Mapping[str, str]) -> str:
    """Return the block of the server's configuration that names the users.

    Args:
        passwords: by user, one of KINDS or OPERATOR; a text that begins with ``$`` is a variable of the
            server's environment.
    """
    users = "\n".join(_user(name, password) for name, password in passwords.items())
    return f"authorization {{\n  users: [\n{users}\n  ]\n}}\n"


def _user(name: str, password: str) -> str:
    secret = password if password.startswith("$") else f'"{password}"'
    head = f'    {{ user: "{name}", password: {secret}'
    if name == OPERATOR:
        return f"{head} }}"
    publish = _listed((*PUBLISHED[name], *_LOGS_OPENED, *_METADATA, *_keys(written(name)), "_INBOX.>"))
    deny = _listed((*_keys(withheld(name)), *_NOT_PUBLISHED[name], *_METADATA_KEPT))
    subscribe = _listed((*SUBSCRIBED[name], f"_INBOX.{name}.>"))
    return (
        f"{head}, permissions: {{\n"
        f"      publish: {{ allow: {publish}, deny: {deny} }}\n"
        f"      subscribe: {{ allow: {subscribe} }}\n"
        "    } }"
    )


def _keys(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return the subjects of the metadata keys that begin so."""
    return tuple(f"{_KEYS}{prefix.replace('/', '.')}>" for prefix in prefixes)


def _listed(subjects: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"
