"""The schema subject of a topic: ``danube-admin topics configure-schema`` and its neighbours."""

from __future__ import annotations

from typing import Annotated

import typer

from danube_admin_cli.commands import Session
from danube_admin_cli.printing import show_figures, show_success
from danube_admin_cli.schemas import SERVICE
from danube_admin_cli.topic_options import Topic
from danube_proto import danube_schema_pb2 as wire
from danube_terminal.option_groups import agreed, spelling
from danube_terminal.plain import plain

POLICY = "--validation-policy"
POLICY_OPTION = typer.Option(
    POLICY,
    metavar="POLICY",
    help="What happens to messages that do not fit: none, warn (they are counted) or enforce (refused).",
)
PayloadValidation = Annotated[
    bool,
    typer.Option(
        "--enable-payload-validation",
        help="Check payloads too, not only the messages' schema ids, if the policy is warn or enforce.",
    ),
]

CONFIGURE_HELP = """Set the schema subject of a topic, or of all partitions of a topic.

\b
Example:
  danube-admin topics configure-schema /default/orders --subject orders --validation-policy enforce \\
      --enable-payload-validation
"""


def configure(
    session: Session,
    topic: Topic,
    subject: Annotated[str, typer.Option("--subject", metavar="SUBJECT")],
    policy: Annotated[str, POLICY_OPTION] = "none",
    payload_validation: PayloadValidation = False,
) -> None:
    """Set the schema subject of a topic."""
    request = wire.ConfigureTopicSchemaRequest(
        topic_name=topic,
        schema_subject=subject,
        validation_policy=policy,
        enable_payload_validation=payload_validation,
    )
    answer = session.call(f"{SERVICE}/ConfigureTopicSchema", request, wire.ConfigureTopicSchemaResponse)
    show_success(session.form, "Schema Configured", success=answer.success)


def set_policy(
    session: Session,
    topic: Topic,
    validation_policy: Annotated[str | None, POLICY_OPTION] = None,
    policy: Annotated[str | None, spelling("--policy")] = None,
    payload_validation: PayloadValidation = False,
) -> None:
    """Set what happens to messages that do not fit the topic's subject."""
    request = wire.UpdateTopicValidationPolicyRequest(
        topic_name=topic,
        validation_policy=agreed(POLICY, validation_policy, policy),
        enable_payload_validation=payload_validation,
    )
    answer = session.call(
        f"{SERVICE}/UpdateTopicValidationPolicy", request, wire.UpdateTopicValidationPolicyResponse
    )
    show_success(session.form, "Validation Policy Set", success=answer.success)


def show(session: Session, topic: Topic) -> None:
    """Show the schema subject of a topic, and how its messages are validated."""
    request = wire.GetTopicSchemaConfigRequest(topic_name=topic)
    answer = session.call(f"{SERVICE}/GetTopicSchemaConfig", request, wire.GetTopicSchemaConfigResponse)
    answer.validation_policy = answer.validation_policy.upper()
    show_figures(session.form, {"topic": topic, **plain(answer)})
