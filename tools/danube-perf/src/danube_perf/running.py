"""Runs scenarios, prints what they found, and says how it ended by the exit code."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import typer

from danube_perf.channel import CallError, Unreachable
from danube_perf.coordinator import Run, WorkerError
from danube_perf.plot import PlotError, check, draw
from danube_perf.process_usage import Watched
from danube_perf.report import table_of, text_of
from danube_perf.scenario import Scenario
from danube_terminal.program import tool_version

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
LOST = 4
INTERRUPTED = 130

EXIT_CODES = """Exit codes: 0 done; 1 something failed or was refused; 2 wrong usage; 3 the platform cannot be
reached, or the connection was lost; 4 messages were lost; 130 interrupted. With the last three and a lost
connection the results so far are printed."""


def execute(
    scenarios: list[Scenario],
    watch: list[tuple[str, list[int]]],
    *,
    varied: str | None,
    as_json: bool,
    plot: Path | None,
    progress: bool,
) -> int:
    """Run one scenario after the other and return the exit code.

    Args:
        scenarios: what to run.
        watch: names and pids of the processes to measure.
        varied: the figure in which the scenarios differ; None if there is one scenario.
        as_json: print one JSON object.
        plot: gets a picture.
        progress: print lines on stderr while it runs.
    """
    for scenario in scenarios:
        if problem := scenario.problem():
            complain(f"Error: {problem}")
            return USAGE
    try:
        if plot is not None:
            check(plot)
        found, code = asyncio.run(_run(scenarios, watch, varied, progress=progress))
        if found:
            _print(found, varied, as_json=as_json)
            if plot is not None:
                draw(plot, {f"{varied} {run[varied]}" if varied else "": run for run in found})
    except PlotError as error:
        complain(f"Error: {error}")
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


async def _run(
    scenarios: list[Scenario], watch: list[tuple[str, list[int]]], varied: str | None, *, progress: bool
) -> tuple[list[dict[str, Any]], int]:
    found: list[dict[str, Any]] = []
    code = OK
    for scenario in scenarios:
        if varied and progress:
            complain(f"{varied}: {len(scenario.topics) if varied == 'topics' else scenario.subscriptions}")
        run = Run(scenario, [Watched(name, pids) for name, pids in watch], complain if progress else _ignore)
        try:
            outcome = await run.run()
        except Unreachable as error:
            complain(f"Error: {error}")
            return found, UNREACHABLE
        except (CallError, WorkerError) as error:
            complain(f"Error: {error}")
            return found, FAILED
        if outcome.measure_ns:
            found.append(outcome.figures())
        if outcome.interrupted:
            return found, INTERRUPTED
        if outcome.failure is not None:
            complain(f"Error: {outcome.failure.text}")
            return found, UNREACHABLE if outcome.failure.unreachable else FAILED
        if outcome.counts.lost:
            code = LOST
        elif (outcome.refusals or outcome.failed_acks) and code == OK:
            code = FAILED
    return found, code


def _print(found: list[dict[str, Any]], varied: str | None, *, as_json: bool) -> None:
    if as_json:
        document = {"danube_perf": tool_version("danube-perf"), "machine": machine()}
        typer.echo(json.dumps({**document, "runs": found} if varied else {**document, **found[0]}))
    elif varied:
        typer.echo(table_of(varied, found))
    else:
        typer.echo(text_of(found[0]))


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def complain(line: str) -> None:
    """Print one line to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _ignore(_line: str) -> None:
    """Say nothing."""
