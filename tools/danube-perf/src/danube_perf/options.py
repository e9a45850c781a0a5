"""Options of the commands, and the checks that typer cannot make."""

from __future__ import annotations

import re
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from danube_perf.payload import SIZE_BYTES_MIN
from danube_perf.process_usage import Watched, cpu_s_of

SIZE_BYTES_MAX: Final = 32 << 20
IN_FLIGHT_MAX: Final = 100_000
RATE_MAX: Final = 1e7
SECONDS_MAX: Final = 30 * 86_400.0
PROCESSES_MAX: Final = 64
SIZES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20}


class StorageChoice(StrEnum):
    """Where a new topic keeps its messages, as words of the command line."""

    none = "none"
    memory = "memory"
    disk = "disk"
    s3 = "s3"


class OutputChoice(StrEnum):
    """Forms of output."""

    text = "text"
    json = "json"


Service = Annotated[
    str,
    typer.Option(
        "--service-addr",
        "-s",
        envvar="DANUBE_SERVICE_ADDR",
        metavar="URL",
        help="The gateway, e.g. http://127.0.0.1:6650.",
    ),
]
Topic = Annotated[
    str | None,
    typer.Option(
        "--topic",
        "-t",
        metavar="TOPIC",
        help="/namespace/topic; a new topic if absent. One that exists must be of --storage.",
    ),
]
Storage = Annotated[
    StorageChoice,
    typer.Option(
        "--storage", help="Of a new topic: none is non-reliable; memory, disk and s3 are reliable topics."
    ),
]
Size = Annotated[
    str,
    typer.Option(
        "--size", metavar="BYTES", help=f"Of each payload, at least {SIZE_BYTES_MIN}; 4k is 4096, 1m a MiB."
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        "-r",
        metavar="PER_S",
        min=0.001,
        max=RATE_MAX,
        help="Messages per second of all producers together, sent on time whatever the answers do; latency"
        " counts from when a message was due. If absent, flat out.",
    ),
]
Producers = Annotated[
    int, typer.Option("--producers", "-p", metavar="N", min=1, help="Of all topics together.")
]
Consumers = Annotated[
    int,
    typer.Option("--consumers", "-c", metavar="N", min=1, help="Of each subscription; several share it."),
]
Subscriptions = Annotated[
    int,
    typer.Option("--subscriptions", metavar="N", min=1, help="Of each topic; each gets every message."),
]
InFlight = Annotated[
    int,
    typer.Option(
        "--in-flight", metavar="N", min=1, max=IN_FLIGHT_MAX, help="Unanswered publishes of each producer."
    ),
]
AcksInFlight = Annotated[
    int,
    typer.Option(
        "--acks-in-flight",
        metavar="N",
        min=1,
        max=IN_FLIGHT_MAX,
        help="Unanswered acknowledgements of each consumer; 1 awaits each before it takes the next message.",
    ),
]
Connections = Annotated[
    int,
    typer.Option(
        "--connections", metavar="N", min=1, help="Of the producers of a process; a consumer has its own."
    ),
]
Duration = Annotated[
    float | None,
    typer.Option(
        "--duration",
        "-d",
        metavar="SECS",
        min=0.1,
        max=SECONDS_MAX,
        help="How long it is measured; 10 s if --messages is absent too.",
    ),
]
Messages = Annotated[
    int | None,
    typer.Option("--messages", "-n", metavar="N", min=1, help="End after so many measured messages."),
]
Warmup = Annotated[
    float,
    typer.Option(
        "--warmup", metavar="SECS", min=0.0, max=3600.0, help="Run so long before anything is measured."
    ),
]
Quiet = Annotated[
    float,
    typer.Option(
        "--drain",
        metavar="SECS",
        min=0.1,
        max=3600.0,
        help="After the last publish, wait for missing messages until none has come for so long.",
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        "--processes",
        metavar="N",
        min=1,
        max=PROCESSES_MAX,
        help="Processes that share producers and consumers, where one would be the limit.",
    ),
]
Watch = Annotated[
    list[str] | None,
    typer.Option(
        "--watch",
        metavar="NAME=PID",
        help="Measure CPU a message and memory of a process of this machine; repeat it for more. Processes"
        " of one name are added up.",
    ),
]
Output = Annotated[
    OutputChoice, typer.Option("--output", "-o", help="json prints one object with everything.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.png", help="Draw rates and latencies; needs danubepy-perf[plot]."),
]
Lockstep = Annotated[
    bool,
    typer.Option(
        "--lockstep",
        help="Send a message only after the last one was answered, received and acknowledged: latency"
        " without load.",
    ),
]
Streaming = Annotated[
    bool,
    typer.Option(
        "--streaming",
        help="Use native streaming, by the client library: messages travel in batches, and acknowledgements"
        " count when they are handed over.",
    ),
]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No lines on stderr while it runs.")]


def address_of(url: str) -> str:
    """Return ``host:port`` of a service URL."""
    match = re.fullmatch(r"(?:http://)?(\[[0-9A-Fa-f:.]+\]|[^/:\[\]\s]+):(\d{1,5})/?", url)
    if match is None or not 0 < int(match[2]) < 65_536:
        raise typer.BadParameter(f"{url!r} is not like http://127.0.0.1:6650", param_hint="'--service-addr'")
    return f"{match[1]}:{match[2]}"


def size_of(text: str) -> int:
    """Return the bytes of a size like 1024, 4k or 1m."""
    match = re.fullmatch(r"(\d{1,9})([km]?)", text.lower())
    size = int(match[1]) * SIZES[match[2]] if match else 0
    if not SIZE_BYTES_MIN <= size <= SIZE_BYTES_MAX:
        raise typer.BadParameter(
            f"{text!r} is not a size from {SIZE_BYTES_MIN} (what a message needs to say what it is) to"
            f" {SIZE_BYTES_MAX} bytes",
            param_hint="'--size'",
        )
    return size


def counts_of(text: str, what: str, most: int) -> list[int]:
    """Return the numbers of a list like 1,10,100."""
    words = text.split(",")
    if not all(word.isdigit() and 1 <= int(word) <= most for word in words):
        raise typer.BadParameter(
            f"{text!r} is not a list of numbers from 1 to {most}, by commas", param_hint=f"'{what}'"
        )
    return [int(word) for word in words]


def watched_of(words: list[str] | None) -> list[Watched]:
    """Return the processes of ``NAME=PID`` words."""
    found: dict[str, Watched] = {}
    for word in words or ():
        name, _, pid = word.partition("=")
        if not name or not pid.isdigit():
            raise typer.BadParameter(f"{word!r} is not NAME=PID", param_hint="'--watch'")
        try:
            cpu_s_of(int(pid))
        except OSError:
            raise typer.BadParameter(f"no process {pid} runs here", param_hint="'--watch'") from None
        found.setdefault(name, Watched(name, [])).pids.append(int(pid))
    return list(found.values())


def topic_of(topic: str | None, run: int) -> str:
    """Return the topic asked for, or a new name."""
    if topic is None:
        return f"/default/perf-{run:08x}"
    if not re.fullmatch(r"/[^/\s]+/[^/\s]+", topic):
        raise typer.BadParameter(f"{topic!r} is not like /default/news", param_hint="'--topic'")
    return topic


def new_run() -> int:
    """Return a number that no other run has."""
    return secrets.randbits(31)


def duration_of(duration: float | None, messages: int | None) -> float | None:
    """Return how long to measure; None if the number of messages ends the run."""
    return 10.0 if duration is None and messages is None else duration
