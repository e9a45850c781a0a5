from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from danube_client import Reliable, connect
from danube_harness.chromium import open_chromium, open_page
from danube_harness.platforms.standalone import Platform

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.timeout(400)]

TOPIC = "/default/orders"
NOTICED_S = 60
"""What is registered is asked for its metrics every 10 s; the lease of what is dead ends soon."""
GATEWAYS = "[...document.querySelectorAll('tr')].filter((row) => row.cells[0].innerText === 'gateway').length"
ALERTS = "document.querySelectorAll('[role=alert]').length"


async def until(page: Page, condition: str) -> None:
    """Wait until a page is so. Its policy lets no code wait within it, so it is asked again."""
    async with asyncio.timeout(NOTICED_S):
        while not await page.evaluate(condition):
            await page.wait_for_timeout(200)


async def test_a_gateway_is_lost_while_one_looks_and_messages_are_published_through_the_other(
    tmp_path: Path,
) -> None:
    with Platform.run(tmp_path, arguments=["--gateways", "2", "--gateway-ports", "each"]) as platform:
        async with open_chromium() as chromium, open_page(chromium, platform.http_urls("admin")[0]) as page:
            page.set_default_timeout(1000 * NOTICED_S)
            await page.goto("/")
            await until(page, f"{GATEWAYS} === 2 && {ALERTS} === 0")
            gateway = platform.pids("gateway")[0]
            os.kill(gateway, signal.SIGSTOP)
            await until(page, f"{GATEWAYS} < 2 || {ALERTS} > 0")
            os.kill(gateway, signal.SIGCONT)
            await until(page, f"{GATEWAYS} === 2 && {ALERTS} === 0")
            assert await page.locator("#state").inner_text() == "Live"

            async with connect(platform.gateway_addrs[1], platform.gateway_addrs[0]) as client:
                async with client.producer(TOPIC, strategy=Reliable()) as producer:
                    await producer.send("tea")
                await page.goto(f"/topic?name={TOPIC}")
                await page.get_by_text("Publish a test message").click()
                await page.get_by_label("Payload").fill("soup")
                await page.get_by_label("Key, if any").fill("table 9")
                await page.get_by_role("button", name="Publish").click()
                await page.get_by_text(f"A message was published to {TOPIC}.").wait_for()
                await page.goto(f"/peek?topic={TOPIC}")
                await page.get_by_text("key table 9").wait_for()
                async with client.consumer(TOPIC, "kitchen") as consumer:
                    messages = [await consumer.receive(timeout=30) for _ in range(2)]
            assert [(one.text, one.key) for one in messages] == [("tea", None), ("soup", "table 9")]
