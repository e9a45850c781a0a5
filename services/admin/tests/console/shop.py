"""A shop that has been open for an hour: what the console shows of a platform in use."""

from __future__ import annotations

import json
import math
import time
from typing import Final

from services.admin.tests.api.admin_port import LAYOUT
from services.admin.tests.console.browser import Browser, dead

from danube_admin_service.console.live.activity import SAMPLES_MAX, Process, Reading
from danube_admin_service.console.live.scrape import Flow, Lag, Scrape
from danube_common.archive.records import ArchiverLease, ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.load import BundleLoad, LoadReport
from danube_common.cluster.records import Claim, Instance, encode_record
from danube_common.model.bundle import Bundle
from danube_common.model.failure_policy import FailurePolicy, PoisonPolicy
from danube_common.model.names import TopicName
from danube_common.model.policies import PolicyOverrides
from danube_common.model.position import position_of
from danube_common.model.strategy import ReliableOptions, Retention, StorageBackend, Strategy
from danube_common.model.subscription import SubscriptionType
from danube_common.wire.owner.topics import SubscriptionDetail
from danube_proto.danube_api_pb2 import StreamMessage

ORDERS: Final = "/default/orders"
FAILED: Final = "/default/orders-failed"
DAY_S: Final = 86_400
GATEWAYS: Final = ("6021", "6022")
OWNERS: Final = ("71", "72")
SCHEMA: Final = '{"type":"record","name":"Order","fields":[{"name":"what","type":"string"}]}'


async def open_shop(browser: Browser, gateway: str = "http://10.0.0.5:6650") -> None:
    """Fill the platform that ``browser`` looks at. ``gateway`` is where its gateways are reached."""
    now_ms = time.time_ns() // 1_000_000
    await _instances(browser, now_ms, gateway)
    await _topics(browser)
    await _segments(browser, now_ms)
    _activity(browser, now_ms)


async def _instances(browser: Browser, now_ms: int, gateway: str) -> None:
    store = browser.store
    await store.delete(keys.instance_key("5"))
    kinds = {
        "1": "admin",
        "8": "storage",
        **dict.fromkeys(OWNERS, "topic-owner"),
        **dict.fromkeys(GATEWAYS, "gateway"),
    }
    for number, kind in kinds.items():
        address = gateway if kind == "gateway" else ""
        since = now_ms - 5 * DAY_S * 1000
        one = Instance(
            number,
            kind,
            f"http://10.0.0.{number[-2:]}:9040",
            address,
            since,
            ("disk", "s3") if kind == "storage" else (),
        )
        await store.put(keys.instance_key(number), encode_record(one))
    for index_of_owner, owner in enumerate(OWNERS):
        bundles = {
            str(bundle): BundleLoad(4, 2, 3, 40.0 + 9 * index, 9e3, 80.0, 2e4, 1, 20)
            for index, bundle in enumerate(LAYOUT.bundles())
            if index % 2 == index_of_owner
        }
        report = LoadReport(owner, now_ms, 10.0, 34.0 - 9 * index_of_owner, 210 << 20, 3.0, bundles)
        await store.put(keys.load_key(owner), encode_record(report))


async def _topics(browser: Browser) -> None:
    kept = Strategy(
        ReliableOptions(storage=StorageBackend.S3, retention=Retention.UNTIL_EXPIRE, retention_period_s=2700)
    )
    await browser.create(ORDERS, kept)
    await browser.create(FAILED)
    for name in ("invoices", "parcels", "returns", "stock", "mails"):
        await browser.create(f"/default/{name}")
    await browser.create("/default/clicks", Strategy())
    await browser.topics.set_policies(TopicName.parse(ORDERS), PolicyOverrides(max_publish_rate=5000))
    await browser.sources.namespaces.set_policies("default", PolicyOverrides(max_consumers_per_topic=200))
    owner = browser.owner
    owner.subscriptions[ORDERS] = ["billing", "kitchen", "search"]
    owner.details[ORDERS] = [
        _detail("billing", 18, 9_204, ["billing-1"], unacked=100, holes=3, acked_ahead=412),
        _detail("kitchen", 40, 12, ["cook-1", "cook-2"], unacked=12),
        _detail("search", 41, 0, ["indexer"]),
    ]
    owner.failure_policies[ORDERS, "kitchen"] = FailurePolicy(
        max_redelivery_count=3, poison_policy=PoisonPolicy.DEAD_LETTER, dead_letter_topic=FAILED
    )
    owner.messages[ORDERS] = [_order(number) for number in range(40)]
    owner.messages[FAILED] = [
        dead(json.dumps({"order": number, "what": "soup", "table": number}).encode())
        for number in (7, 12, 31)
    ]


def _detail(
    name: str,
    sequence: int,
    backlog: int,
    consumers: list[str],
    *,
    unacked: int = 0,
    holes: int = 0,
    acked_ahead: int = 0,
) -> SubscriptionDetail:
    return SubscriptionDetail(
        name,
        SubscriptionType.SHARED,
        consumers,
        position_of(sequence, 0, 0),
        backlog,
        backlog_exact=True,
        unacked=unacked,
        holes=holes,
        acked_ahead=acked_ahead,
    )


def _order(number: int) -> bytes:
    message = StreamMessage(
        payload=json.dumps({"order": number, "what": "tea", "table": number % 12}).encode(),
        publish_time=time.time_ns() // 1_000_000,
        producer_name="till",
        routing_key=f"table-{number % 12}",
        attributes={"shop": "north"},
    )
    return message.SerializeToString()


async def _segments(browser: Browser, now_ms: int) -> None:
    topic = await browser.topics.require(TopicName.parse(ORDERS))
    bundle = Bundle.parse(topic.bundle)
    await browser.store.put(keys.archiver_key(bundle), encode_record(ArchiverLease("8", "n")))
    for number, backend in enumerate((StorageBackend.S3, StorageBackend.S3, StorageBackend.DISK)):
        begin_ms = now_ms - (3600 - 1000 * number) * 1000
        segment = SegmentRecord(
            key=f"segment-{number}",
            backend=backend,
            topic_id=topic.topic_id,
            first_position=position_of(1 + 12 * number, 0, 0),
            last_position=position_of(12 + 12 * number, 0, 0),
            messages=12_000,
            first_offset=12_000 * number,
            published_ms_min=begin_ms,
            published_ms_max=begin_ms + 980_000,
            size_bytes=19 << 20,
            data_crc32c=0,
            holders=("8",) if backend is StorageBackend.DISK else (),
        )
        first = 1 + 12 * number
        entry = ManifestEntry(topic.bundle, first, first + 11, 0, "8", (segment,), ())
        await browser.store.put(keys.manifest_key(bundle, first), encode_record(entry))


def _activity(browser: Browser, now_ms: int) -> None:
    activity = browser.sources.activity
    totals: dict[str, list[float]] = {
        name: [0.0] * 4 for name in (ORDERS, "/default/invoices", "/default/clicks", "/default/mails")
    }
    archived = replayed = 0.0
    for sample in range(SAMPLES_MAX + 1):
        wave = 1 + 0.4 * math.sin(sample / 23) + 0.12 * math.sin(sample / 3.7)
        for index, values in enumerate(totals.values()):
            rate = wave * 900 / (1 + index)
            for column, factor in enumerate((10.0, 1_800.0, 21.0, 4_000.0)):
                values[column] += rate * factor
        archived, replayed = archived + wave * 1_900_000, replayed + wave * 300_000
        flows = {name: Flow(*values) for name, values in totals.items()}
        lags = {(ORDERS, "billing"): Lag(9_204, 1_940, 61), (ORDERS, "kitchen"): Lag(12, 0.6, 214, 3)}
        scrapes = {
            GATEWAYS[0]: Scrape(3.2 * sample, 148 << 20, flows),
            OWNERS[0]: Scrape(2.1 * sample, 210 << 20, {}, lags),
            OWNERS[1]: Scrape(1.7 * sample, 196 << 20),
            "8": Scrape(0.9 * sample, 120 << 20, archived_bytes=archived, replayed_bytes=replayed),
            "1": Scrape(0.4 * sample, 104 << 20),
            GATEWAYS[1]: Scrape(2.8 * sample, 141 << 20),
        }
        readings = {number: Reading(scrape) for number, scrape in scrapes.items()}
        activity.take(10.0 * sample, now_ms, readings)
    assert isinstance(activity.processes["8"], Process)


async def second_owner(browser: Browser) -> None:
    """Let half of the bundles belong to the second owner."""
    for index, bundle in enumerate(LAYOUT.bundles()):
        if index % 2:
            await browser.store.put(keys.owner_key(bundle), encode_record(Claim(OWNERS[1], "nonce")))
