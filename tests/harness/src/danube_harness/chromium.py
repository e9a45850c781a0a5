"""Chromium, driven by Playwright; tests that ask for it are skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import Locator, Page

IMAGES: Final = os.environ.get("CONSOLE_IMAGES", "")
"""Where pictures for the documentation go; empty: nowhere."""
IMAGE_BYTES_MAX: Final = 150_000
WIDE: Final = {"width": 1280, "height": 800}
NARROW: Final = {"width": 390, "height": 844}


@asynccontextmanager
async def open_chromium() -> AsyncIterator[Chromium]:
    """Start Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium: make setup-browser installs it")
    api = pytest.importorskip("playwright.async_api", reason="make console-test installs Playwright")
    async with api.async_playwright() as playwright:
        # Root may not have a sandbox; the pages are our own.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(
    chromium: Chromium, url: str, *, scheme: str = "light", narrow: bool = False
) -> AsyncIterator[Page]:
    """Open a page in a fresh profile. What it logs as an error fails the test."""
    context = await chromium.new_context(
        base_url=url, color_scheme=scheme, viewport=NARROW if narrow else WIDE, reduced_motion="reduce"
    )
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(20_000)
    try:
        yield page
    finally:
        await context.close()
    assert errors == []


async def check_accessible(page: Page) -> None:
    """Assert that axe finds nothing."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright")
    results = await axe.Axe().run(page)
    found = {
        one["id"]: [
            node["html"][:200] + " | " + str(node.get("failureSummary", ""))[:200] for node in one["nodes"]
        ]
        for one in results.response["violations"]
    }
    assert found == {}, found


async def picture(page: Page, name: str, part: Locator | None = None) -> None:
    """Keep what is seen, or one part of the page, if pictures are wanted."""
    # By its place, because what is live may be replaced meanwhile.
    clip = None
    while part is not None and clip is None:
        clip = await part.bounding_box()
    data = await page.screenshot(full_page=clip is not None, clip=clip)
    assert len(data) < IMAGE_BYTES_MAX, f"{name}: {len(data)} bytes"
    if IMAGES:
        (Path(IMAGES) / f"console-{name}.png").write_bytes(data)
