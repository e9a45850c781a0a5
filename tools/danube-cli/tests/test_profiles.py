from __future__ import annotations

import json
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from danube_cli import profiles
from danube_cli.__main__ import app
from danube_cli.profiles import Profile, Profiles, ProfilesError
from danube_harness.services.stub_gateway import StubGateway

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
OPTIONAL = st.none() | TEXT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("DANUBE_PROFILE", "DANUBE_SERVICE_ADDR", "DANUBE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def tool(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.stdout, done.stderr


@given(
    st.dictionaries(
        TEXT, st.builds(Profile, TEXT, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL), max_size=3
    ),
    st.data(),
)
def test_profiles_are_read_as_they_were_written(by_name: dict[str, Profile], data: st.DataObject) -> None:
    default = data.draw(st.sampled_from([None, *by_name]))
    known = Profiles(by_name, default)
    assert Profiles.parse(known.text()) == known


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda inner: (
            st.lists(inner) | st.dictionaries(TEXT | st.sampled_from(["default", "profiles", "url"]), inner)
        ),
    ).map(json.dumps)
    | st.text()
)
def test_any_text_is_profiles_or_refused(text: str) -> None:
    with suppress(ProfilesError):
        Profiles.parse(text)


def test_the_file_is_where_the_standard_has_it_and_for_its_owner_only(home: Path) -> None:
    assert profiles.path({"XDG_CONFIG_HOME": "relative"}) == Path.home() / ".config/danube/profiles.json"
    profiles.save(Profiles({"p": Profile("http://h:1")}))
    file = home / "danube" / "profiles.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["profiles.json"]


def test_profiles_are_added_listed_chosen_and_removed(home: Path, tmp_path: Path) -> None:
    token = tmp_path / "prod.token"
    token.write_text("secret")
    add = ("profile", "add", "prod", "--url", "https://danube.example:6650", "--token-file", str(token))
    assert tool(*add) == (0, "Profile prod added\n", "")
    code, _, said = tool(*add)
    assert (code, "add it with --replace" in said) == (1, True)
    assert tool(*add, "--replace")[0] == 0
    assert tool("profile", "default", "prod")[0] == 0
    assert tool("profile", "list") == (0, "* prod  https://danube.example:6650\n", "")
    assert json.loads(tool("profile", "list", "-o", "json")[1]) == {
        "name": "prod",
        "default": True,
        "url": "https://danube.example:6650",
        "token_file": str(token),
    }
    assert "secret" not in (home / "danube" / "profiles.json").read_text()
    assert tool("profile", "remove", "prod")[0] == 0
    code, _, said = tool("profile", "remove", "prod")
    assert (code, said) == (
        1,
        "Error: there is no profile 'prod'; there are: none. `danube-cli profile add` makes one\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("profile", "add", "p", "--url", "ftp://h:1"), "only http:// and https://"),
        (("profile", "add", "", "--url", "http://h:1"), "is empty"),
        (("profile", "add", "p", "--url", "https://h:1", "--cert", "pyproject.toml"), "need each other"),
        (("-p", "none", "topics", "list"), "there is no profile 'none'"),
        (("-p", "gone", "topics", "list"), "there is no file /gone, the token_file of profile 'gone'"),
    ],
)
def test_what_is_wrong_with_a_profile_is_told(home: Path, arguments: tuple[str, ...], said: str) -> None:
    profiles.save(Profiles({"gone": Profile("http://h:1", token_file="/gone")}))
    code, out, err = tool(*arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_file_that_holds_no_profiles_is_told(home: Path) -> None:
    (home / "danube").mkdir()
    (home / "danube" / "profiles.json").write_text("{")
    code, _, said = tool("profile", "list")
    assert code == 1
    assert "profiles.json: not profiles of danube-cli" in said


async def test_an_address_that_is_given_is_stronger_than_the_default_profile_but_not_than_a_named_one(
    home: Path, gateway: StubGateway, cli: Any
) -> None:
    nowhere = "http://127.0.0.1:1"
    profiles.save(
        Profiles({"off": Profile(nowhere, token_file="/gone"), "on": Profile(gateway.address)}, "off")
    )
    # The address in the environment is the gateway's.
    assert (await cli("produce", "-m", "x")).code == 0
    assert (await cli("-p", "on", "produce", "-m", "x")).code == 0
    assert (await cli("-p", "off", "produce", "-m", "x")).code == 2
