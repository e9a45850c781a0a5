"""What only the S3 store has to prove: that faults of network and server cost time, never a segment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from danube_common.errors import AlreadyExists, StoreUnavailable
from danube_harness.faults.s3_faults import S3Fault, S3FaultProxy
from danube_harness.servers.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Kind, S3Server
from danube_storage.segments.port import READ_BYTES_MAX
from danube_storage.segments.s3 import PART_BYTES, S3Store

SMALL = b"small" * 1000
LARGE = b"large" * (2 * PART_BYTES // 5)
ATTEMPTS_MAX = 3


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture(params=list(S3Kind))
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    server: S3Server = request.getfixturevalue(f"shared_{request.param}")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest_asyncio.fixture
async def proxy(server: S3Server) -> AsyncIterator[S3FaultProxy]:
    async with S3FaultProxy.run(server.endpoint) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def store(proxy: S3FaultProxy) -> AsyncIterator[S3Store]:
    store = await S3Store.connect(
        BUCKET, prefix=f"{uuid4()}/", endpoint_url=proxy.endpoint, attempts_max=ATTEMPTS_MAX
    )
    yield store
    await store.close()


async def test_a_put_whose_answer_was_lost_is_recognised_as_done(store: S3Store, proxy: S3FaultProxy) -> None:
    proxy.fail_first(1, S3Fault.LOST_ANSWER, method="PUT")
    await store.put("small", chunks_of(SMALL))
    assert proxy.faults == 1
    assert await store.read("small", 0, READ_BYTES_MAX) == SMALL


async def test_a_completion_whose_answer_was_lost_is_recognised_as_done(
    store: S3Store, proxy: S3FaultProxy
) -> None:
    proxy.fail_first(1, S3Fault.LOST_ANSWER, method="POST", query="uploadId")
    await store.put("large", chunks_of(LARGE))
    assert proxy.faults == 1
    assert await store.read("large", 0, READ_BYTES_MAX) == LARGE


async def test_a_lost_answer_does_not_make_anothers_segment_ours(store: S3Store, proxy: S3FaultProxy) -> None:
    await store.put("small", chunks_of(SMALL))
    proxy.fail_first(1, S3Fault.LOST_ANSWER, method="PUT")
    with pytest.raises(AlreadyExists):
        await store.put("small", chunks_of(SMALL[::-1]))
    assert await store.read("small", 0, READ_BYTES_MAX) == SMALL


async def test_faults_are_outlasted_within_the_attempts(store: S3Store, proxy: S3FaultProxy) -> None:
    for method, query in [("PUT", "partNumber"), ("POST", "uploads"), ("POST", "uploadId")]:
        proxy.fail_first(ATTEMPTS_MAX - 1, S3Fault.SLOW_DOWN, method=method, query=query)
        await store.put(f"large-{method}-{query}", chunks_of(LARGE))
    proxy.fail_first(1, S3Fault.LOST_ANSWER, method="PUT", query="partNumber")
    await store.put("large", chunks_of(LARGE))
    assert proxy.faults == 3 * (ATTEMPTS_MAX - 1) + 1
    proxy.fail_first(ATTEMPTS_MAX - 1, S3Fault.SLOW_DOWN, method="GET")
    assert await store.read("large", 0, READ_BYTES_MAX) == LARGE


async def test_a_body_that_ends_halfway_is_read_again_and_never_given_out(
    store: S3Store, proxy: S3FaultProxy
) -> None:
    await store.put("small", chunks_of(SMALL))
    proxy.fail_first(ATTEMPTS_MAX - 1, S3Fault.CUT_BODY, method="GET")
    assert await store.read("small", 0, READ_BYTES_MAX) == SMALL
    proxy.fail_first(ATTEMPTS_MAX, S3Fault.CUT_BODY, method="GET")
    with pytest.raises(StoreUnavailable):
        await store.read("small", 0, READ_BYTES_MAX)


async def test_a_fault_that_lasts_is_told_without_a_word_of_the_credentials(
    store: S3Store, proxy: S3FaultProxy
) -> None:
    proxy.choose = lambda _: S3Fault.SLOW_DOWN
    for call in (store.put("a", chunks_of(SMALL)), store.put("b", chunks_of(LARGE)), store.size("a")):
        with pytest.raises(StoreUnavailable, match="503") as raised:
            await call
        told = repr(raised.value) + repr(raised.value.__cause__)
        assert SECRET_KEY not in told
        assert f"{ACCESS_KEY}/" not in told
    proxy.choose = lambda _: None
    assert await store.list("") == []


async def test_a_failed_upload_in_parts_is_aborted(store: S3Store, proxy: S3FaultProxy) -> None:
    aborted: list[str] = []

    def choose(request: object) -> S3Fault | None:
        method, query = getattr(request, "method", ""), getattr(request, "query_string", "")
        if method == "DELETE":
            aborted.append(query)
        return S3Fault.SLOW_DOWN if method == "PUT" else None

    proxy.choose = choose
    with pytest.raises(StoreUnavailable):
        await store.put("large", chunks_of(LARGE))
    assert len(aborted) == 1
    assert "uploadId=" in aborted[0]
