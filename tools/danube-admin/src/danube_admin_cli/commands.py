"""Registers commands: each takes ``--endpoint`` and ``--output``, and related options as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from danube_admin_cli.admin import Call, Endpoint, Output, Stream, admin, form_of
from danube_admin_cli.topic_options import Namespace, topic_name
from danube_terminal.choices import Form
from danube_terminal.option_groups import option, spelling, spread, with_options
from danube_terminal.tls_options import tls

if TYPE_CHECKING:
    from danube_client.tls import Tls

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with: calls to the admin service, the form of its output, and TLS to others."""

    call: Call
    form: Form
    security: Tls | None
    stream: Stream


def _between(context: typer.Context, endpoint: Annotated[str | None, spelling("--endpoint")] = None) -> None:
    """Take the endpoint between a group and its command, too, where it wins over one before the group."""
    if endpoint is not None:
        context.find_root().params["endpoint"] = endpoint


class Commands:
    """A group of commands, e.g. all of ``danube-admin topics``; those of ``app`` itself, if it is given."""

    def __init__(self, app: typer.Typer | None = None) -> None:
        self.app = app or typer.Typer(no_args_is_help=True, rich_markup_mode=None, callback=_between)

    def command(self, name: str, *, help_text: str | None = None) -> Callable[[Command], Command]:
        """Register a function, whose first parameter is a Session, as the command ``name``.

        The other parameters are the command's arguments and options. A parameter whose type is a dataclass
        stands for the options that its fields declare. A command with a ``topic`` also takes its
        namespace as an option. The help is ``help_text`` or the docstring.
        """

        def register(function: Command) -> Command:
            spread_out = spread(function, own=1)
            session, *options = signature(spread_out).parameters.values()
            names_topic = any(each.name == "topic" for each in options)
            if names_topic:
                options.append(option("namespace", Namespace, None))

            def run(context: typer.Context, endpoint: str | None, output: Form | None, **given: Any) -> None:
                if names_topic:
                    given["topic"] = topic_name(given["topic"], given.pop("namespace"))
                with admin(context, endpoint) as (call, stream):
                    given[session.name] = Session(call, form_of(context, output), tls(context), stream)
                    spread_out(**given)

            run.__doc__ = function.__doc__
            common = [option("endpoint", Endpoint, None), option("output", Output, None)]
            command = with_options(run, [option("context", typer.Context), *options, *common])
            self.app.command(name, help=help_text)(command)
            return function

        return register
