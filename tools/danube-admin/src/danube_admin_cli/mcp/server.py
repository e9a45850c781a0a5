"""``danube-admin mcp``: the tools, for one client on standard input and output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danube_admin_cli.mcp.tools import Tool, WrongArguments, tools
from danube_admin_cli.outcome import USAGE, give_up

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

TIMEOUT_S: Final = 120.0
"""What one command may take."""
OUTPUT_BYTES_MAX: Final = 256 * 1024
"""What of a command's output is handed on."""
PASSED_ON: Final = ("endpoint", "ca", "cert", "key", "server_name", "token_file")
INSTRUCTIONS: Final = """Administers a cluster of Danube, a publish/subscribe platform. Topics are
named /namespace/topic. Begin with doctor, top and topics_list; metrics and
events tell of instances; topics_describe tells of a topic's
subscriptions, their backlog and where its messages are. A tool that changes something wants the
name of what it changes once more."""
LAG: Final = """Find out which subscriptions of this Danube cluster lag and why. Call top for
the largest backlogs, then topics_describe of their topics. For each subscription that lags tell: how many
messages and since when, whether consumers are connected, whether it waits for acknowledgements, for
storage, or stands still at a message that failed too often (topics_get_failure_policy), and what to
do. Change nothing."""
HEALTH: Final = """Look over this Danube cluster. Call doctor, cluster_status, brokers_list
and brokers_balance. Tell what is wrong or will be soon, each with what to do, the worst
first; say so if nothing is. Change nothing."""
FAILING: Final = """Find out why messages of this Danube cluster fail. Call metrics with
"redelivery|dlq|terminal_blocked|retry_exhausted" and top; then topics_describe and
topics_get_failure_policy of the topics that they name, and dead_letters_browse of their dead-letter
topics. Tell for each subscription which messages fail, with which reason, what becomes of them, and what
to do. Change nothing."""
DRAIN: Final = """Prepare the maintenance of one topic owner of this Danube cluster: the one that the
operator names, or the most loaded one. Call brokers_list, brokers_balance, doctor, and brokers_unload with
dry_run if it is offered. Tell whether the others can carry its load, what to watch while it is drained
(events), and the commands to drain it and to activate it again. Change nothing."""
SCHEMAS: Final = """Look over the schemas of this Danube cluster. Call schemas_list_subjects,
schemas_get_compatibility and schemas_versions, and topics_get_schema_config of the topics. Tell which
topics check nothing, which subjects take incompatible versions, and what to change, the riskiest first.
Change nothing."""
ACCESS: Final = """Look over who may do what in this Danube cluster. Call security_roles_list,
security_bindings_list and security_keys_list. Tell who has more than they need, which API keys never
expire, and what to change, the riskiest first. Change nothing."""
PROMPTS: Final = {
    "lag": ("Find the subscriptions that lag, and why", LAG),
    "health": ("Look over the cluster", HEALTH),
    "failing": ("Find the messages that fail, and why", FAILING),
    "maintenance": ("Prepare the maintenance of a topic owner", DRAIN),
    "schemas": ("Look over the schemas", SCHEMAS),
    "access": ("Look over roles, bindings and keys", ACCESS),
}

Changes = Annotated[bool, typer.Option("--allow-changes", help="Offer the tools that change something, too.")]
HELP = """Serve the commands as tools of the Model Context Protocol, on standard input and output.

Without --allow-changes only those that change nothing. A tool that changes something wants the name of
what it changes a second time. Commands that make secrets are not offered.

\b
Examples:
  danube-admin mcp
  danube-admin --endpoint http://admin.example:50051 mcp --allow-changes
"""


def mcp(context: typer.Context, allow_changes: Changes = False) -> None:
    """Serve until standard input ends."""
    try:
        import mcp.server.stdio  # noqa: F401, PLC0415 - slow to import, and not everybody's
    except ImportError:
        give_up("danube-admin mcp needs the package mcp: pip install 'mcp>=2'")
    root = context.find_root()
    given = {name: root.params.get(name) for name in PASSED_ON}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    offered = [one for one in tools(root.command) if allow_changes or not one.changes]
    asyncio.run(_serve(offered, options))


def serve() -> None:
    """Tell where what ``danube-admin serve`` of the original serves is."""
    give_up(
        "nothing is served here: the console and /ui/v1 are at the HTTP port of the admin service, and"
        " danube-admin mcp serves the tools of --mode mcp",
        USAGE,
    )


async def _serve(offered: Sequence[Tool], options: Sequence[str]) -> None:
    from mcp.server.stdio import stdio_server  # noqa: PLC0415

    made = server(offered, options)
    async with stdio_server() as (requests, answers):
        await made.run(requests, answers, made.create_initialization_options())


def server(offered: Sequence[Tool], options: Sequence[str]) -> Server[Any]:
    """Return a server of these tools. ``options`` come before each command: where the cluster is, and TLS."""
    import mcp_types as wire  # noqa: PLC0415
    from mcp.server.lowlevel import Server  # noqa: PLC0415

    by_name = {one.name: one for one in offered}

    async def list_tools(*_: Any) -> wire.ListToolsResult:
        return wire.ListToolsResult(
            tools=[
                wire.Tool(
                    name=one.name,
                    description=one.text,
                    input_schema=one.schema(),
                    annotations=wire.ToolAnnotations(read_only_hint=not one.changes),
                )
                for one in offered
            ]
        )

    async def call_tool(_: Any, call: wire.CallToolRequestParams) -> wire.CallToolResult:
        tool = by_name.get(call.name)
        try:
            if tool is None:
                raise WrongArguments(
                    f"{call.name!r} is not offered; danube-admin mcp --allow-changes offers all"
                )
            code, text = await run([*options, *tool.command(call.arguments or {})])
        except WrongArguments as error:
            code, text = 2, str(error)
        return wire.CallToolResult(content=[wire.TextContent(type="text", text=text)], is_error=code != 0)

    async def list_prompts(*_: Any) -> wire.ListPromptsResult:
        return wire.ListPromptsResult(
            prompts=[wire.Prompt(name=name, description=title) for name, (title, _) in PROMPTS.items()]
        )

    async def get_prompt(_: Any, asked: wire.GetPromptRequestParams) -> wire.GetPromptResult:
        title, text = PROMPTS.get(
            asked.name, ("", f"There is no prompt {asked.name!r}: {', '.join(PROMPTS)}.")
        )
        message = wire.PromptMessage(role="user", content=wire.TextContent(type="text", text=text))
        return wire.GetPromptResult(description=title, messages=[message])

    return Server(
        "danube",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )


async def run(words: Sequence[str]) -> tuple[int, str]:
    """Run ``danube-admin`` with these words; returns its exit status and what it said.

    A process of its own: its output cannot mix with the protocol's, and it can be ended. Output over
    `OUTPUT_BYTES_MAX` is cut, and a command over `TIMEOUT_S` ended, both with a sentence.
    """
    command = [sys.executable, "-m", "danube_admin_cli", *words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        return 1, f"The command did not end within {TIMEOUT_S:g} s and was stopped."
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = out if process.returncode == 0 else out + err
    text = said[:OUTPUT_BYTES_MAX].decode(errors="replace")
    if len(said) > OUTPUT_BYTES_MAX:
        text += f"\nCut: the first {OUTPUT_BYTES_MAX} of {len(said)} bytes. Ask for less."
    return process.returncode or 0, text
