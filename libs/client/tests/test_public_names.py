from __future__ import annotations

import inspect

import pytest

import danube_client
import danube_client.sync


def test_every_public_name_is_exported_on_purpose() -> None:
    visible = {
        name
        for name, value in vars(danube_client).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert danube_client.__all__ == sorted(visible)


def test_every_error_can_be_caught_by_the_base() -> None:
    errors = [
        value
        for value in vars(danube_client).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert len(errors) == 20
    assert all(issubclass(error, danube_client.ClientError) for error in errors)


@pytest.mark.parametrize("name", ["Client", "Producer", "Consumer", "Reader"])
def test_the_library_without_asyncio_has_the_same_names(name: str) -> None:
    missing = public(getattr(danube_client, name)) - public(getattr(danube_client.sync, name))
    # It opens what it makes, and its `ack` needs no other that does not wait.
    assert missing <= {"open", "post_ack"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}
