"""Reads what the processes of the cluster tell at their HTTP ports."""

from __future__ import annotations

import ssl

import aiohttp

CHUNK_BYTES = 1 << 16


def open_session(timeout_s: float) -> aiohttp.ClientSession:
    """Return a session whose calls take ``timeout_s`` at most.

    Certificates are not checked: what is read is no secret, and the authorities of these ports are not known
    here.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=timeout_s)
    )


async def body_of(session: aiohttp.ClientSession, url: str, bytes_max: int) -> bytes:
    """Return the body of any answer. Raises ClientError, TimeoutError; ValueError if it is too long."""
    async with session.get(url) as answer:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > bytes_max:
                raise ValueError(f"more than {bytes_max} bytes")
        return bytes(body)
