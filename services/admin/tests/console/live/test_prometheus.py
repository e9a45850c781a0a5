from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from danube_admin_service.console.live.prometheus import SAMPLES_MAX, Prometheus, range_query, samples
from danube_admin_service.console.live.scrape import Flow

NOW_S = 1_700_000_000.0


class FakePrometheus:
    """Answers ranges with 7 at the end of the window."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = "success"
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        form = request.query
        self.asked.append(form["query"])
        assert float(form["end"]) - float(form["start"]) == 3600
        series = {"metric": {}, "values": [[NOW_S, "7"], [NOW_S - 30, "NaN"]]}
        return web.json_response({"status": self.status, "error": "no", "data": {"result": [series]}})


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    found = FakePrometheus()
    app = web.Application()
    app.router.add_get("/api/v1/query_range", found.answer)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/"))
        yield found


async def test_the_last_hour_comes_from_prometheus(fake: FakePrometheus) -> None:
    history = await Prometheus(fake.url).history(["/default/a", "/default/b.c"], NOW_S)
    assert history is not None
    assert len(history) == SAMPLES_MAX
    assert history[-1] == Flow(7, 7, 7, 7)
    assert history[-2] == Flow()
    assert len(fake.asked) == 4
    assert '{topic=~"/default/a|/default/b\\\\.c"}[1m]' in fake.asked[0]


async def test_a_prometheus_that_fails_is_none(fake: FakePrometheus) -> None:
    fake.status = "error"
    assert await Prometheus(fake.url).history(None, NOW_S) is None
    assert await Prometheus("http://127.0.0.1:1").history(None, NOW_S) is None


def test_all_topics_are_asked_for_without_a_name() -> None:
    assert range_query("m", None) == "sum(rate(m[1m]))"


def test_answers_that_are_none_are_refused_and_values_beyond_the_hour_passed_over() -> None:
    with pytest.raises(KeyError):
        samples({}, NOW_S)
    answer = {
        "status": "success",
        "data": {"result": [{"values": [[NOW_S + 999, "1"], [NOW_S - 9999, "1"]]}]},
    }
    assert math.fsum(samples(answer, NOW_S)) == 0
