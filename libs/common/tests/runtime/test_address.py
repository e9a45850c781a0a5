from __future__ import annotations

import socket
from typing import Any

import pytest

from danube_common.runtime.address import WILDCARDS, check_url, reachable_host, reachable_url, split_address


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets this machine be called ``box`` and that name lead somewhere."""

    def set_up(address: str | None) -> None:
        def resolve(host: str, port: int, **_options: Any) -> list[Any]:
            assert host == "box"
            if address is None:
                raise socket.gaierror(socket.EAI_NONAME, "unknown")
            return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, port))]

        monkeypatch.setattr(socket, "gethostname", lambda: "box")
        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    return set_up


def own_address() -> str:
    """An address of this machine that is not the loopback's; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "gateway.example"])
def test_a_listener_is_called_by_the_host_it_was_given(host: str) -> None:
    assert reachable_host(host) == host


@pytest.mark.parametrize("wildcard", sorted(WILDCARDS))
def test_a_listener_on_all_addresses_is_called_by_the_machines_name(leads_to: Any, wildcard: str) -> None:
    leads_to(own_address())
    assert reachable_host(wildcard) == "box"
    assert reachable_url(f"[{wildcard}]:6650") == "http://box:6650"


@pytest.mark.parametrize("wildcard", sorted(WILDCARDS))
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "203.0.113.7", None])
def test_a_name_that_leads_nowhere_or_back_is_not_given_to_others(
    leads_to: Any, address: str | None, wildcard: str
) -> None:
    leads_to(address)
    assert reachable_host(wildcard) == "127.0.0.1"


@pytest.mark.parametrize("text", ["http://h:1", "https://h:1/", "http://[::1]:6650"])
def test_a_url_has_a_scheme_a_host_and_a_port(text: str) -> None:
    assert check_url(text) == text


@pytest.mark.parametrize("text", ["", "h", "h:1", "http://h", "http://h:x", "ftp://h:1", "http://h:1/path"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a URL of the form http://host:port"):
        check_url(text)


def test_a_url_in_the_place_of_an_address_is_told() -> None:
    with pytest.raises(ValueError, match="without a scheme"):
        split_address("http://127.0.0.1:6650")
