"""The owner protocol: what gateways, storage and the admin service ask topic-owners.

Requests go to the `owner_subject` of a bundle and its owner's epoch, so a replaced owner receives no
requests. A request carries absolute values (a set, a total, a position), never increments, so it may be
repeated.
"""

from __future__ import annotations

from danube_common.model.bundle import Bundle
from danube_common.wire.envelope import Protocol
from danube_common.wire.owner.acknowledgements import Acks, Nack
from danube_common.wire.owner.producers import (
    CreateProducer,
    FindProducer,
    FindSequence,
    TouchProducers,
)
from danube_common.wire.owner.sessions import (
    Attach,
    CreateConsumer,
    Credit,
    Detach,
    FindConsumer,
    Sync,
)
from danube_common.wire.owner.subscriptions import (
    CreateSubscription,
    GetDispatchConfig,
    GetFailurePolicy,
    ListSubscriptions,
    ResetSubscription,
    SetDispatchConfig,
    SetFailurePolicy,
    TellLosses,
    Unsubscribe,
)
from danube_common.wire.owner.topics import (
    DescribeTopic,
    FindBounds,
    FindTopic,
    ReadTopic,
    RetentionFloors,
)


def owner_subject(bundle: Bundle, epoch: int) -> str:
    """The subject of requests to the owner of ``bundle`` in ``epoch``."""
    return f"danube.owner.{bundle}.{epoch}"


def non_reliable_subject(bundle: Bundle) -> str:
    """The subject of non-reliable frames, from gateway to owner, at most once."""
    return f"danube.fast.{bundle}"


def gateway_subject(instance_id: str) -> str:
    """The subject of deliveries and notices from owners to one gateway."""
    return f"danube.gateway.{instance_id}"


OwnerRequest = (
    CreateProducer
    | FindProducer
    | FindSequence
    | TouchProducers
    | CreateConsumer
    | FindConsumer
    | Attach
    | Detach
    | Sync
    | Credit
    | Acks
    | Nack
    | FindTopic
    | ListSubscriptions
    | Unsubscribe
    | CreateSubscription
    | ResetSubscription
    | SetFailurePolicy
    | GetFailurePolicy
    | SetDispatchConfig
    | GetDispatchConfig
    | TellLosses
    | DescribeTopic
    | FindBounds
    | ReadTopic
    | RetentionFloors
)
OWNER: Protocol[OwnerRequest] = Protocol("an owner", OwnerRequest)
