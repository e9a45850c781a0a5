from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danube_common.errors import InvalidInput
from danube_common.security.authorizer import ANYWHERE, CLUSTER, Authorizer, Resource
from danube_common.security.identity import Identity, PrincipalType
from danube_common.security.roles import Permission, Role, new_binding, new_role, resource_of

ALICE = Identity(PrincipalType.USER, "alice")
P = Permission


def bound(
    scope: str, resource: str, *roles: str, who: Identity = ALICE, known: tuple[Role, ...] = ()
) -> Authorizer:
    return Authorizer(known, [new_binding("b", who.kind, who.name, list(roles), scope, resource)])


def topic(name: str) -> Resource:
    return Resource(topic=name)


def test_nothing_is_allowed_that_no_binding_allows() -> None:
    empty = Authorizer()
    for permission in Permission:
        for resource in (CLUSTER, ANYWHERE, Resource("default"), topic("/default/news")):
            assert not empty.allows(ALICE, permission, resource)


def test_super_administrators_may_do_everything() -> None:
    authorizer = Authorizer(super_admins=[ALICE])
    assert all(authorizer.allows(ALICE, each, topic("/a/b")) for each in Permission)
    assert not authorizer.allows(Identity(PrincipalType.SERVICE_ACCOUNT, "alice"), P.LOOKUP, topic("/a/b"))


@pytest.mark.parametrize(
    ("scope", "resource", "allowed", "denied"),
    [
        ("cluster", "", ["/a/b", "/c/d"], []),
        ("namespace", "/a", ["/a/b", "/a/c"], ["/aa/b", "/b/a"]),
        (
            "topic",
            "/a/b",
            ["/a/b", "/a/b-part-0", "/a/b-part-17"],
            ["/a/bb", "/a/b-part-", "/a/b-part-x", "/c/b"],
        ),
        ("topic", "/a/b*", ["/a/b", "/a/bc", "/a/b-part-1"], ["/a/a", "/a/B", "/aa/b", "/c/b"]),
        ("topic", "/a/*", ["/a/b", "/a/c"], ["/b/b", "/aa/b"]),
    ],
)
def test_a_binding_covers_its_resource_and_no_other(
    scope: str, resource: str, allowed: list[str], denied: list[str]
) -> None:
    authorizer = bound(scope, resource, "producer")
    assert [name for name in allowed if not authorizer.allows(ALICE, P.PRODUCE, topic(name))] == []
    assert [name for name in denied if authorizer.allows(ALICE, P.PRODUCE, topic(name))] == []
    assert not authorizer.allows(ALICE, P.CONSUME, topic((allowed or ["/a/b"])[0]))


@pytest.mark.parametrize("resource", ["/a/b*", "/a/b", "/a/*"])
@pytest.mark.parametrize(
    "escape",
    [
        *("/a/b/../../c/d", "/a/b/c", "/a//b", "a/b", "//a/b", "/a/b/", "/a/b*", "/a/b%2f..%2fc", "/a%2fb"),
        *("/a/b\0", "/a/b\n", "/a/b ", " /a/b", "/a/\u202eb", "/\u0430/b", "/a\u200b/b", "", "/", "/a", "*"),
    ],
)
def test_names_that_try_to_escape_are_covered_by_nothing(resource: str, escape: str) -> None:
    authorizer = bound("topic", resource, "admin")
    assert not any(authorizer.allows(ALICE, each, topic(escape)) for each in Permission if escape != "/a/b")


def test_letters_that_look_alike_are_different_names() -> None:
    authorizer = bound("topic", "/default/news*", "producer")
    assert authorizer.allows(ALICE, P.PRODUCE, topic("/default/news"))
    for name in ("/default/n\u0435ws", "/d\u0435fault/news", "/default/\uff4eews", "/default/NEWS"):
        assert not authorizer.allows(ALICE, P.PRODUCE, topic(name))


def test_who_may_produce_consume_or_manage_may_look_up() -> None:
    for role in ("producer", "consumer", "admin", "viewer"):
        assert bound("topic", "/a/b", role).allows(ALICE, P.LOOKUP, topic("/a/b"))
    replica = new_role("replica", ["Replicate"])
    assert not bound("topic", "/a/b", "replica", known=(replica,)).allows(ALICE, P.LOOKUP, topic("/a/b"))


def test_a_topics_role_gives_nothing_on_its_namespace_or_the_cluster() -> None:
    authorizer = bound("topic", "/a/b", "admin")
    assert not any(
        authorizer.allows(ALICE, each, place) for each in Permission for place in (CLUSTER, Resource("a"))
    )
    assert authorizer.allows(ALICE, P.LOOKUP, ANYWHERE)


def test_a_binding_of_a_role_that_is_gone_gives_nothing() -> None:
    assert not bound("cluster", "", "gone").allows(ALICE, P.LOOKUP, CLUSTER)


def test_a_role_of_every_cluster_cannot_be_replaced() -> None:
    fake = Role("viewer", tuple(Permission))
    assert not bound("cluster", "", "viewer", known=(fake,)).allows(ALICE, P.PRODUCE, CLUSTER)


@pytest.mark.parametrize(
    ("scope", "resource"),
    [
        *(("topic", "/a"), ("topic", "/a*"), ("topic", "*"), ("topic", "/*/b"), ("topic", "/a/b**")),
        *(("topic", "/a/*b"), ("topic", "a/b"), ("topic", ""), ("namespace", ""), ("namespace", "*")),
        *(("namespace", "a/b"), ("cluster", "/a/b"), ("world", ""), ("", "")),
    ],
)
def test_a_resource_that_nothing_can_match_is_refused(scope: str, resource: str) -> None:
    with pytest.raises(InvalidInput):
        resource_of(scope, resource)


@pytest.mark.parametrize(
    ("kind", "name", "roles"),
    [
        ("broker_internal", "x", ["admin"]),
        ("user", "", ["admin"]),
        ("user", "x", []),
        ("user", "x", ["a"] * 33),
    ],
)
def test_a_binding_names_somebody_and_some_roles(kind: str, name: str, roles: list[str]) -> None:
    with pytest.raises(InvalidInput):
        new_binding("b", kind, name, roles, "cluster", "")


@given(st.text(max_size=30), st.text(alphabet="ab-_*/", max_size=8))
def test_a_binding_on_topics_never_reaches_another_namespace(name: str, local: str) -> None:
    authorizer = bound("topic", "/mine/a*", "admin")
    for tried in (name, f"/{local}", f"/other/{local}", f"/mine{local}/a"):
        if not tried.startswith("/mine/a"):
            assert not authorizer.allows(ALICE, P.PRODUCE, topic(tried))
