"""The platform with authentication on: what each caller may do with its topics, ids and streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

import danube_client
from danube_client import Tls
from danube_harness.platforms.standalone import Platform
from danube_harness.rpc.calls import status_of
from danube_harness.rpc.credentials import ADMIN, SECRET, bearer, secret_file, token
from danube_proto import danube_admin_pb2 as admin_pb
from danube_proto import danube_api_pb2 as v0_2
from danube_proto import danube_current_pb2 as current
from danube_proto import danube_platform_pb2 as platform_pb
from danube_proto import danube_stream_pb2 as stream_pb

pytestmark = pytest.mark.server

DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
TOPIC, OTHERS, NEW = "/default/mine", "/default/others", "/default/new"
SUBSCRIPTION = "jobs"
HOLDS_S = 5.0
"""Within it a change holds for what is open."""
SHORT_S = 3.0
"""Of a token that expires while its streams are open."""
LATE_S = 30.0
"""For what no time is promised, on a machine that has much else to do."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("secured")
    settings = {
        "AUTH_ENABLED": "true",
        "AUTH_SECRET_KEY_FILE": str(secret_file(folder)),
        "AUTH_SUPER_ADMINS": ADMIN,
    }
    environment = {
        f"DANUBE_{service}_{name}": value
        for service in ("GATEWAY", "ADMIN")
        for name, value in settings.items()
    }
    with Platform.run(folder, environment=environment) as running:
        yield running


class Administrator:
    """Calls the admin port with a token."""

    def __init__(self, platform: Platform, channel: grpc.Channel) -> None:
        self._platform = platform
        self._channel = channel

    def done(self, method: str, request: Any, answer: Any, who: str = ADMIN) -> Any:
        call: Any = self._channel.unary_unary(f"/{method}")
        metadata = bearer(token(who)) if who else ()
        return answer.FromString(call(request.SerializeToString(), metadata=metadata, timeout=30))

    def bind(self, name: str, role: str, resource: str) -> str:
        binding = admin_pb.BindingDefinition(
            id=f"{name}-{role}-{resource}",
            principal_type="user",
            principal_name=name,
            role_names=[role],
            scope="topic",
            resource_name=resource,
        )
        request = admin_pb.CreateBindingRequest(binding=binding)
        self.done("danube_admin.SecurityAdmin/CreateBinding", request, admin_pb.SecurityResponse)
        return binding.id

    def tool(self, *arguments: str, who: str = ADMIN) -> subprocess.CompletedProcess[str]:
        """Run `danube-admin`."""
        return subprocess.run(
            [Path(sysconfig.get_path("scripts")) / "danube-admin", *arguments],
            env={
                **os.environ,
                "DANUBE_ADMIN_ENDPOINT": f"http://{self._platform.admin_addr}",
                "DANUBE_ADMIN_TOKEN": token(who) if who else "",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="module")
def admin(platform: Platform) -> Iterator[Administrator]:
    with grpc.insecure_channel(platform.admin_addr) as opened:
        made = Administrator(platform, opened)
        for topic in (TOPIC, OTHERS):
            request = admin_pb.NewTopicRequest(
                name=topic, schema_type="Bytes", schema_data="{}", dispatch_strategy="non_reliable"
            )
            made.done("danube_admin.TopicAdmin/CreateTopic", request, admin_pb.TopicResponse)
        for name, topic in (("owner", OTHERS), ("owner", NEW), ("mallory", TOPIC)):
            for role in ("producer", "consumer"):
                made.bind(name, role, topic)
        yield made


def channel(platform: Platform) -> Any:
    return grpc.aio.insecure_channel(platform.gateway_addr)


async def allowed(channel: Any, method: str, request: Any, answer: Any, who: str) -> Any:
    """Call until the platform knows the newest binding."""
    async with asyncio.timeout(LATE_S):
        while True:
            try:
                data = await channel.unary_unary(method)(
                    request.SerializeToString(), metadata=bearer(token(who))
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not DENIED:
                    raise
                await asyncio.sleep(0.05)
            else:
                return answer.FromString(data)


@pytest.fixture
async def gateway(platform: Platform, admin: Administrator) -> AsyncIterator[Any]:
    async with channel(platform) as opened:
        yield opened


async def consumer(gateway: Any, topic: str, who: str) -> int:
    request = v0_2.ConsumerRequest(
        topic_name=topic,
        consumer_name=who,
        subscription=SUBSCRIPTION,
        subscription_type=v0_2.ConsumerRequest.Shared,
    )
    found = await allowed(gateway, "/danube.ConsumerService/Subscribe", request, v0_2.ConsumerResponse, who)
    return int(found.consumer_id)


async def producer(gateway: Any, topic: str, who: str) -> int:
    request = v0_2.ProducerRequest(
        topic_name=topic,
        producer_name=who,
        dispatch_strategy=v0_2.TopicDispatchStrategy(strategy="NonReliable"),
        schema=v0_2.Schema(name="bytes"),
    )
    found = await allowed(
        gateway, "/danube.ProducerService/CreateProducer", request, v0_2.ProducerResponse, who
    )
    return int(found.producer_id)


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "calls"])
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "constant"])
async def test_our_client_publishes_and_consumes_with_its_token(
    platform: Platform, admin: Administrator, *, asked: bool, streaming: bool
) -> None:
    address = f"http://{platform.gateway_addr}"
    tls = Tls(token=(lambda: token("owner")) if asked else token("owner"))
    async with (
        danube_client.connect(address, tls=tls, streaming=streaming) as client,
        client.producer(NEW, strategy=danube_client.Reliable()) as sending,
        client.consumer(NEW, "own", initial_position=danube_client.Start.earliest()) as receiving,
    ):
        await sending.send("hello")
        message = await asyncio.wait_for(anext(receiving), 20)
        assert message.text == "hello"
        await message.ack()


async def test_ids_of_others_are_of_no_use(gateway: Any) -> None:
    """Each call names what is the owner's, in both generations' layouts."""
    mine, theirs = await producer(gateway, TOPIC, "mallory"), await producer(gateway, OTHERS, "owner")
    reader = await consumer(gateway, OTHERS, "owner")
    assert mine != theirs
    send, ack, nack = (
        f"/danube.{name}"
        for name in ("ProducerService/SendMessage", "ConsumerService/Ack", "ConsumerService/Nack")
    )
    old = v0_2.MsgID(producer_id=theirs, topic_name=TOPIC, broker_addr="x")
    new = current.MsgID(producer_id=theirs, topic_name=TOPIC, broker_addr="x")
    old_theirs = v0_2.MsgID(sequence_id=1, producer_id=mine, topic_name=OTHERS, broker_addr="x")
    new_theirs = current.MsgID(producer_id=mine, topic_name=OTHERS, broker_addr="x", topic_offset=1)
    attacks: list[tuple[str, Any]] = [
        (send, v0_2.StreamMessage(msg_id=old, payload=b"forged")),
        (send, current.StreamMessage(msg_id=new, payload=b"forged")),
        (ack, v0_2.AckRequest(request_id=1, msg_id=old_theirs, subscription_name=SUBSCRIPTION)),
        (ack, current.AckRequest(request_id=1, msg_id=new_theirs, subscription_name=SUBSCRIPTION)),
        (nack, current.NackRequest(request_id=1, msg_id=new_theirs, subscription_name=SUBSCRIPTION)),
    ]
    metadata = bearer(token("mallory"))
    for method, request in attacks:
        call = gateway.unary_unary(method)(request.SerializeToString(), metadata=metadata)
        assert (await status_of(call))[0] is DENIED, (method, request)
    for extra in ((), (("x-danube-broker-url", "http://x"),)):
        stream = gateway.unary_stream("/danube.ConsumerService/ReceiveMessages")(
            v0_2.ReceiveRequest(consumer_id=reader).SerializeToString(), metadata=(*metadata, *extra)
        )
        assert (await status_of(stream.read()))[0] is DENIED


async def test_a_native_stream_is_opened_for_what_is_allowed_only(gateway: Any) -> None:
    """The topic is in the first message, which the table of methods does not see."""

    async def opened(topic: str) -> Any:
        publish = gateway.stream_stream("/danube.stream.v1.Streaming/Publish")
        stream = publish(metadata=bearer(token("mallory")))
        request = stream_pb.PublishRequest(open=stream_pb.OpenProducer(topic=topic, producer_name="native"))
        await stream.write(request.SerializeToString())
        return stream

    assert (await status_of((await opened(OTHERS)).read()))[0] is DENIED
    own = await opened(TOPIC)
    assert stream_pb.PublishResponse.FromString(await own.read()).HasField("opened")
    own.cancel()


async def test_nobody_takes_over_the_stream_of_another(gateway: Any) -> None:
    reader = await consumer(gateway, OTHERS, "owner")
    request = v0_2.ReceiveRequest(consumer_id=reader).SerializeToString()
    receive = gateway.unary_stream("/danube.ConsumerService/ReceiveMessages")
    stream = receive(request, metadata=bearer(token("owner")))
    await stream.initial_metadata()
    assert (await status_of(receive(request, metadata=bearer(token("mallory"))).read()))[0] is DENIED
    assert not stream.done()


@pytest.mark.parametrize(
    "name", [f"{TOPIC}/../others", f"{TOPIC}%2f..%2fothers", "/default/m\u0456ne", f"{TOPIC}*", OTHERS]
)
async def test_names_that_escape_are_denied(gateway: Any, name: str) -> None:
    for method, request in (
        ("Discovery/TopicLookup", v0_2.TopicLookupRequest(topic=name)),
        ("Discovery/TopicPartitions", v0_2.TopicLookupRequest(topic=name)),
        (
            "ConsumerService/Subscribe",
            v0_2.ConsumerRequest(topic_name=name, consumer_name="x", subscription="x"),
        ),
        ("ProducerService/CreateProducer", v0_2.ProducerRequest(topic_name=name, producer_name="x")),
    ):
        call = gateway.unary_unary(f"/danube.{method}")(
            request.SerializeToString(), metadata=bearer(token("mallory"))
        )
        assert (await status_of(call))[0] is DENIED


async def until_accepted(gateway: Any, key: str, *, accepted: bool = True) -> None:
    """Look something up until the platform knows a new API key, or knows of its end."""
    asked = v0_2.TopicLookupRequest(topic=TOPIC).SerializeToString()
    lookup = gateway.unary_unary("/danube.Discovery/TopicLookup")
    wanted = grpc.StatusCode.OK if accepted else UNAUTHENTICATED
    async with asyncio.timeout(LATE_S):
        while (code := await lookup(asked, metadata=bearer(key)).code()) is not wanted:
            assert code in (grpc.StatusCode.OK, UNAUTHENTICATED)
            await asyncio.sleep(0.05)


async def opened_streams(gateway: Any, credential: str, reader: int) -> dict[str, Any]:
    """Open a stream of each kind, and return them once they serve."""
    metadata, streaming = bearer(credential), "/danube.stream.v1.Streaming"
    receive = gateway.unary_stream("/danube.ConsumerService/ReceiveMessages")(
        v0_2.ReceiveRequest(consumer_id=reader).SerializeToString(), metadata=metadata
    )
    publish = gateway.stream_stream(f"{streaming}/Publish")(metadata=metadata)
    opening = stream_pb.PublishRequest(open=stream_pb.OpenProducer(topic=TOPIC, producer_name=f"p{reader}"))
    await publish.write(opening.SerializeToString())
    consume = gateway.stream_stream(f"{streaming}/Consume")(metadata=metadata)
    wanted = stream_pb.Subscribe(
        topics=[TOPIC], subscription="native", type=stream_pb.Subscribe.SHARED, consumer_name=f"c{reader}"
    )
    await consume.write(stream_pb.ConsumeRequest(subscribe=wanted).SerializeToString())
    await asyncio.gather(receive.initial_metadata(), publish.read(), consume.read())
    return {"ReceiveMessages": receive, "Publish": publish, "Consume": consume}


async def end_of(stream: Any) -> tuple[float, grpc.StatusCode]:
    """Return when a stream ended, by `time.time`, and with which status."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    return time.time(), await stream.code()


async def test_streams_of_every_kind_end_within_five_seconds_of_what_allowed_them(
    gateway: Any, admin: Administrator
) -> None:
    """Bindings, a role and a key are taken away, and a token expires; who keeps all keeps the streams."""
    names = ("unbound", "demoted", "revoked", "expired", "stays")
    bound = {
        (name, role): admin.bind(name, role, TOPIC) for name in names for role in ("producer", "consumer")
    }
    readers = {name: await consumer(gateway, TOPIC, name) for name in names}
    asked = platform_pb.CreateKeyRequest(principal_type="user", principal_name="revoked")
    key = admin.done("danube_platform.ApiKeys/CreateKey", asked, platform_pb.CreateKeyResponse)
    await until_accepted(gateway, key.key)
    held = {name: token(name) for name in names if name != "expired"} | {"revoked": key.key}
    kept = dict(
        zip(
            held,
            await asyncio.gather(*(opened_streams(gateway, held[n], readers[n]) for n in held)),
            strict=True,
        )
    )
    expires = time.time() + SHORT_S
    kept["expired"] = await opened_streams(gateway, token("expired", ttl_s=SHORT_S), readers["expired"])
    streams = [(name, kind, stream) for name, opened in kept.items() for kind, stream in opened.items()]
    ends = {(name, kind): asyncio.create_task(end_of(stream)) for name, kind, stream in streams}

    def unbind(name: str) -> None:
        for role in ("producer", "consumer"):
            request = admin_pb.BindingRequest(
                scope="topic", resource_name=TOPIC, binding_id=bound[name, role]
            )
            admin.done("danube_admin.SecurityAdmin/DeleteBinding", request, admin_pb.SecurityResponse)

    since = {"expired": expires}
    unbind("unbound")
    since["unbound"] = time.time()
    unbind("demoted")
    admin.bind("demoted", "viewer", TOPIC)
    since["demoted"] = time.time()
    revoke = platform_pb.RevokeKeyRequest(key_id=key.info.key_id)
    admin.done("danube_platform.ApiKeys/RevokeKey", revoke, platform_pb.RevokeKeyResponse)
    since["revoked"] = time.time()
    codes = {"unbound": DENIED, "demoted": DENIED}
    for (name, kind), end in ends.items():
        if name != "stays":
            ended, code = await asyncio.wait_for(end, LATE_S)
            assert code is codes.get(name, grpc.StatusCode.UNAVAILABLE), (name, kind)
            assert ended - since[name] < HOLDS_S, (name, kind, ended - since[name])
    assert not [kind for kind, stream in kept["stays"].items() if stream.done()]
    for (name, _), end in ends.items():
        if name == "stays":
            end.cancel()
    for stream in kept["stays"].values():
        stream.cancel()


async def test_a_revoked_api_key_is_refused(gateway: Any, admin: Administrator) -> None:
    request = platform_pb.CreateKeyRequest(principal_type="user", principal_name="mallory")
    made = admin.done("danube_platform.ApiKeys/CreateKey", request, platform_pb.CreateKeyResponse)
    await until_accepted(gateway, made.key)
    revoke = platform_pb.RevokeKeyRequest(key_id=made.info.key_id)
    admin.done("danube_platform.ApiKeys/RevokeKey", revoke, platform_pb.RevokeKeyResponse)
    await until_accepted(gateway, made.key, accepted=False)


def test_administration_needs_its_permission(admin: Administrator) -> None:
    name = "danube_admin.NamespaceAdmin/CreateNamespace"
    calls: list[tuple[str, Any]] = [
        (name, admin_pb.NamespaceRequest(name="stolen")),
        ("danube_admin.TopicAdmin/DeleteTopic", admin_pb.TopicRequest(name=TOPIC)),
        ("danube_platform.ApiKeys/ListKeys", platform_pb.ListKeysRequest()),
        ("danube_admin.SecurityAdmin/ListRoles", admin_pb.Empty()),
        ("danube_schema.SchemaRegistry/RegisterSchema", b""),
    ]
    for method, request in calls:
        for who, code in (("mallory", DENIED), ("", UNAUTHENTICATED)):
            with pytest.raises(grpc.RpcError) as refused:
                admin.done(method, request or admin_pb.Empty(), admin_pb.Empty, who)
            assert refused.value.code() is code, method


def test_dead_letters_go_only_where_the_administrator_may_produce(admin: Administrator) -> None:
    admin.bind("mandy", "admin", TOPIC)
    policy = admin_pb.SubscriptionFailurePolicy(
        max_redelivery_count=1,
        base_redelivery_delay_ms=1,
        max_redelivery_delay_ms=1,
        backoff_strategy=admin_pb.Fixed,
        dead_letter_topic=OTHERS,
        poison_policy=admin_pb.DeadLetter,
    )
    request = admin_pb.SetSubscriptionFailurePolicyRequest(
        topic=TOPIC, subscription=SUBSCRIPTION, failure_policy=policy
    )
    method = "danube_admin.TopicAdmin/SetSubscriptionFailurePolicy"
    deadline = time.monotonic() + LATE_S
    while True:  # until the newest binding is known
        with pytest.raises(grpc.RpcError) as refused:
            admin.done(method, request, admin_pb.SubscriptionResponse, "mandy")
        if f"no permission Produce on topic {OTHERS}" in str(refused.value.details()):
            break
        assert time.monotonic() < deadline, refused.value.details()
        time.sleep(0.05)


async def test_a_client_sets_the_policy_of_what_it_may_consume_and_dead_letters_where_it_may_produce(
    platform: Platform, admin: Administrator
) -> None:
    topic = "/default/failing"
    admin.done(
        "danube_admin.TopicAdmin/CreateTopic",
        admin_pb.NewTopicRequest(
            name=topic, schema_type="Bytes", schema_data="{}", dispatch_strategy="reliable"
        ),
        admin_pb.TopicResponse,
    )
    admin.bind("connie", "consumer", topic)
    policy = danube_client.FailurePolicy(max_redelivery_count=1)
    address, secured = (
        f"http://{platform.gateway_addr}",
        [Tls(token=token(who)) for who in ("connie", "mallory")],
    )
    async with (
        danube_client.connect(address, tls=secured[0]) as client,
        danube_client.connect(address, tls=secured[1]) as stranger,
        asyncio.timeout(LATE_S),
    ):
        while True:  # until the newest binding is known
            with contextlib.suppress(danube_client.Denied):
                await client.create_subscription(topic, SUBSCRIPTION)
                break
            await asyncio.sleep(0.05)
        await client.set_failure_policy(topic, SUBSCRIPTION, policy)
        assert await client.failure_policy(topic, SUBSCRIPTION) == policy
        with pytest.raises(danube_client.Denied, match=f"no permission Produce on topic {OTHERS}"):
            await client.set_failure_policy(topic, SUBSCRIPTION, replace(policy, dead_letter_topic=OTHERS))
        for refused in (
            stranger.set_failure_policy(topic, SUBSCRIPTION, policy),
            stranger.failure_policy(topic, SUBSCRIPTION),
        ):
            with pytest.raises(danube_client.Denied):
                await refused


def test_the_tool_sends_its_token_and_says_what_it_may_not(admin: Administrator) -> None:
    listed = admin.tool("security", "roles", "list", "-o", "json")
    assert (listed.returncode, json.loads(listed.stdout)[0]["name"]) == (0, "admin")
    denied = admin.tool("namespaces", "create", "stolen", who="mallory")
    assert (denied.returncode, "user:mallory has no permission" in denied.stderr) == (1, True)


def test_no_secret_is_in_the_output_or_the_process_list(platform: Platform, admin: Administrator) -> None:
    folder = platform.data_dir / "nats"
    secrets = [SECRET, token(ADMIN).partition(".")[0]]
    secrets += [file.read_text().strip() for file in folder.glob("*.password")]
    assert len(secrets) == 7
    lists = [file.read_text() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()]
    assert any("danube_gateway" in words for words in lists)
    logs = [file.read_text() for file in (platform.data_dir / "logs").glob("*.log")]
    assert len(logs) >= 5
    for text in (platform.output, *lists, *logs):
        assert not [secret for secret in secrets if secret in text]
