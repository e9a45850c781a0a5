"""Registers commands: each takes ``--endpoint`` and ``--output``, and related options as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer

from danube_admin_cli.admin import Call, Endpoint, Form, Output, Stream, admin, form_of
from danube_admin_cli.topic_options import Namespace, topic_name
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


class Commands:
    """A group of commands, e.g. all of ``danube-admin topics``; those of ``app`` itself, if it is given."""

    def __init__(self, app: typer.Typer | None = None) -> None:
        self.app = app or typer.Typer(no_args_is_help=True, rich_markup_mode=None)

    def command(self, name: str, *, help_text: str | None = None) -> Callable[[Command], Command]:
        """Register a function, whose first parameter is a Session, as the command ``name``.

        The other parameters are the command's arguments and options. A parameter whose type is a dataclass
        stands for the options that its fields declare. A command with a ``topic`` also takes its
        namespace as an option. The help is ``help_text`` or the docstring.
        """

        def register(function: Command) -> Command:
            hints = get_type_hints(function, include_extras=True)
            accepted = [_parameter("context", typer.Context)]
            groups: dict[str, type] = {}
            for given in list(signature(function).parameters.values())[1:]:
                kind = hints[given.name]
                if isinstance(kind, type) and is_dataclass(kind):
                    groups[given.name] = kind
                    options = get_type_hints(kind, include_extras=True)
                    accepted += [
                        _parameter(field.name, options[field.name], field.default) for field in fields(kind)
                    ]
                else:
                    accepted.append(_parameter(given.name, kind, given.default))
            names_topic = "topic" in hints
            if names_topic:
                accepted.append(_parameter("namespace", Namespace, None))
            accepted += [_parameter("endpoint", Endpoint, None), _parameter("output", Output, None)]

            def run(context: typer.Context, endpoint: str | None, output: Form | None, **given: Any) -> None:
                if names_topic:
                    given["topic"] = topic_name(given["topic"], given.pop("namespace"))
                for group, kind in groups.items():
                    given[group] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
                with admin(context, endpoint) as (call, stream):
                    function(Session(call, form_of(context, output), tls(context), stream), **given)

            # Typer reads what a command takes from its signature.
            run.__signature__ = Signature(accepted)  # type: ignore[attr-defined]
            run.__annotations__ = {each.name: each.annotation for each in accepted}
            run.__doc__ = function.__doc__
            self.app.command(name, help=help_text)(run)
            return function

        return register


def _parameter(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
