from __future__ import annotations

from pathlib import Path

from danube_common.runtime.environment import BENCHMARKS, PROGRAMS, VARIABLES_OF_TOOLS, variable

PAGE = Path(__file__).resolve().parents[4] / "docs" / "operations" / "configure.md"


def test_the_variables_that_are_left_alone_are_documented() -> None:
    text = PAGE.read_text()
    for name in (*VARIABLES_OF_TOOLS, f"{BENCHMARKS}*", variable("standalone", "*")):
        assert f"`{name}`" in text


def test_no_program_s_prefix_begins_another_s() -> None:
    prefixes = [variable(program, "") for program in PROGRAMS]
    assert not [(one, two) for one in prefixes for two in prefixes if one != two and two.startswith(one)]
