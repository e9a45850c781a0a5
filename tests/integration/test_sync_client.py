"""The client library without asyncio, on a real platform."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from danube_client import ClientError, Closed, Start, SubscriptionType, TopicNotFound
from danube_client.sync import Client, connect
from danube_harness.platforms.standalone import Platform

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform.run(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["streaming", "calls"])
def client(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Client]:
    with connect(f"http://{platform.gateway_addr}", streaming=request.param) as connected:
        yield connected


@pytest.fixture
def topic() -> str:
    return f"/default/sync_{uuid4().hex[:12]}"


def test_what_is_sent_is_received_in_order_and_acknowledged_once(client: Client, topic: str) -> None:
    with client.producer(topic) as producer:
        producer.send("first", {"a": "b"})
        answers = [producer.post(str(number)) for number in range(50)]
        producer.flush()
        assert len({answer.result(0) for answer in answers}) == 50
    with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        first = consumer.receive(timeout=20)
        assert (first.text, first.attributes) == ("first", {"a": "b"})
        first.ack()
        for number, message in enumerate(consumer):
            assert message.text == str(number)
            message.ack()
            if number == 49:
                break
        consumer.flush_acks()
    with client.consumer(topic, "s", type=SubscriptionType.EXCLUSIVE) as consumer:
        assert consumer.receive_batch(timeout=0.5) == []
        with pytest.raises(TimeoutError):
            consumer.receive(timeout=0.1)


def test_a_batch_of_no_messages_is_refused_whether_some_are_here_or_not(client: Client, topic: str) -> None:
    with client.producer(topic) as producer, client.consumer(topic, "s") as consumer:
        for number in range(3):
            producer.send(str(number))
        for message in consumer:
            message.ack()
            with pytest.raises(ValueError, match="max must be at least 1"):
                consumer.receive_batch(max=0)
            if message.text == "2":
                break


def test_threads_share_a_producer(client: Client, topic: str) -> None:
    with client.producer(topic) as producer:
        threads = [threading.Thread(target=producer.send, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with client.consumer(topic, "s") as consumer:
        received = [consumer.receive(timeout=20).text for _ in range(8)]
    assert sorted(received) == [str(number) for number in range(8)]


def test_errors_are_those_of_the_library_and_a_closed_client_says_so(platform: Platform, topic: str) -> None:
    client = connect(f"http://{platform.gateway_addr}", streaming=True)
    with pytest.raises(TopicNotFound):
        client.consumer(topic, "s")
    client.close()
    client.close()
    with pytest.raises(Closed):
        client.producer(topic)


def test_a_reader_reads_without_a_subscription(platform: Platform, topic: str) -> None:
    with connect(f"http://{platform.gateway_addr}", streaming=True) as client:
        with client.producer(topic) as producer:
            for number in range(3):
                producer.send(number)
        with client.reader(topic, start=Start.last(2)) as reader:
            assert [message.text for message in reader] == ["1", "2"]


def test_a_client_is_refused_in_a_forked_process(
    platform: Platform, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(f"http://{platform.gateway_addr}", streaming=True) as client:
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: 1)
            with pytest.raises(ClientError, match="connect in the new process"):
                client.producer(topic)
        client.producer(topic).close()
