"""What is done to topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from danube_admin_service.console.access import calls
from danube_admin_service.console.access.gateways import Publisher
from danube_admin_service.console.access.visitor import Visitor
from danube_admin_service.console.action import Action, page, topic_page
from danube_admin_service.console.forms import Form, attributes_of, number, policy_of
from danube_admin_service.console.sources import Sources
from danube_proto import danube_admin_pb2 as admin
from danube_proto import danube_api_pb2 as api
from danube_proto import danube_platform_pb2 as platform
from danube_proto import danube_schema_pb2 as schema


def _new_partitions(form: Form) -> Message:
    return platform.CreatePartitionsRequest(
        topic=form["topic"].strip(),
        partitions=number(form["partitions"].strip(), "the number of partitions"),
        schema_type="bytes",
        dispatch_strategy=form["strategy"],
    )


def _grown(form: Form) -> Message:
    partitions = number(form["partitions"].strip(), "the number of partitions")
    return platform.GrowTopicRequest(topic=form["topic"], partitions=partitions)


async def _publish(visitor: Visitor, sources: Sources, form: Form) -> str:
    message = api.StreamMessage(
        payload=form["payload"].encode(), attributes=attributes_of(form["attributes"])
    )
    if form.get("key", ""):
        message.routing_key = form["key"]
    async with sources.gateways.open(visitor.credential) as gateway:
        await Publisher(gateway).publish(form["topic"], message)
    return f"A message was published to {form['topic']}."


TOPIC_ACTIONS: Final[Mapping[str, Action]] = {
    "create-topic": Action(
        f"{calls.TOPIC}/CreateTopic",
        lambda form: admin.NewTopicRequest(
            name=form["topic"].strip(), schema_type="bytes", dispatch_strategy=form["strategy"]
        ),
        lambda form: f"Topic {form['topic'].strip()} was created.",
        lambda form: ("/topic", {"name": form["topic"].strip()}),
    ),
    "create-partitions": Action(
        calls.CREATE_PARTITIONS,
        _new_partitions,
        lambda form: f"Topic {form['topic'].strip()} was created with {form['partitions']} partitions.",
        lambda form: ("/topic", {"name": form["topic"].strip()}),
    ),
    "grow-topic": Action(
        calls.GROW,
        _grown,
        lambda form: f"The topic has {form['partitions'].strip()} partitions.",
        topic_page,
    ),
    "publish": Action(
        calls.CREATE_PRODUCER,
        lambda form: api.ProducerRequest(topic_name=form["topic"]),
        lambda _form: "",
        lambda form: ("/topic", {"name": form.get("page", "") or form["topic"]}),
        work=_publish,
    ),
    "unload-topic": Action(
        f"{calls.TOPIC}/UnloadTopic",
        lambda form: admin.TopicRequest(name=form["topic"]),
        lambda _form: "The topic's bundle has moved to another topic owner.",
        topic_page,
    ),
    "delete-topic": Action(
        f"{calls.TOPIC}/DeleteTopic",
        lambda form: admin.TopicRequest(name=form["topic"]),
        lambda form: f"Topic {form['topic']} was deleted.",
        page("/topics"),
        confirm="topic",
    ),
    "set-topic-policy": Action(
        calls.SET_TOPIC_POLICIES,
        lambda form: platform.SetTopicPoliciesRequest(topic=form["topic"], policies=policy_of(form)),
        lambda form: f"{form['policy']} is now {form['value'].strip()}.",
        topic_page,
    ),
    "clear-topic-policies": Action(
        calls.SET_TOPIC_POLICIES,
        lambda form: platform.SetTopicPoliciesRequest(topic=form["topic"], clear=True),
        lambda _form: "The topic has no policies of its own any more.",
        topic_page,
    ),
    "set-topic-schema": Action(
        f"{calls.REGISTRY}/ConfigureTopicSchema",
        lambda form: schema.ConfigureTopicSchemaRequest(
            topic_name=form["topic"],
            schema_subject=form["subject"].strip(),
            validation_policy=form["validation"],
            enable_payload_validation=form["validation"] != "none",
        ),
        lambda form: f"The topic's subject is {form['subject'].strip()}.",
        topic_page,
    ),
}
