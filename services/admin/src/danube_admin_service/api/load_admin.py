"""Moves load between brokers: the current generation's calls, and the present loads.

No v0.2 client knows these methods, so failures have the status that says what they are.
"""

from __future__ import annotations

from typing import Final

from danube_admin_service.api.named_topics import named_topics
from danube_admin_service.api.unary import precise, unary
from danube_admin_service.cluster.load_manager import LoadManager
from danube_admin_service.cluster.ranking import variation_percent
from danube_admin_service.cluster.rebalance import Move
from danube_admin_service.cluster.view import Cluster
from danube_common.cluster.load import BundleLoad
from danube_common.cluster.topics import Topics
from danube_common.errors import InvalidInput
from danube_common.rpc.port import UnaryHandler
from danube_proto import danube_platform_pb2 as platform
from danube_proto.danube_admin_pb2 import (
    ActivateBrokerRequest,
    ActivateBrokerResponse,
    BrokerBalance,
    ClusterBalanceRequest,
    ClusterBalanceResponse,
    ProposedMove,
    RebalanceRequest,
    RebalanceResponse,
    TopicRequest,
    TopicResponse,
    UnloadBrokerRequest,
    UnloadBrokerResponse,
)
from danube_proto.danube_api_pb2 import TOPIC_NOT_FOUND

UNLOAD_TIMEOUT_S_MAX: Final = 600
MOVES_DEFAULT: Final = 10
MOVES_MAX: Final = 1000
UNEVEN_RATIO: Final = 0.2
"""A broker is over- or underloaded if its load differs from the mean by more than this part of the mean."""


class LoadAdmin:
    """Unloads, activates and rebalances brokers."""

    def __init__(self, manager: LoadManager, cluster: Cluster, topics: Topics) -> None:
        self._manager = manager
        self._cluster = cluster
        self._topics = topics

    def methods(self) -> dict[str, UnaryHandler]:
        """Return the services' methods."""
        broker = "/danube_admin.BrokerAdmin"
        return {
            f"{broker}/UnloadBroker": precise(UnloadBrokerRequest, self.unload_broker),
            f"{broker}/ActivateBroker": precise(ActivateBrokerRequest, self.activate_broker),
            f"{broker}/GetClusterBalance": unary(ClusterBalanceRequest, self.balance),
            f"{broker}/TriggerRebalance": precise(RebalanceRequest, self.rebalance),
            "/danube_admin.TopicAdmin/UnloadTopic": precise(TopicRequest, self.unload_topic, TOPIC_NOT_FOUND),
            "/danube_platform.LoadAdmin/ListBrokerLoads": unary(platform.BrokerLoadsRequest, self.loads),
        }

    async def unload_broker(self, request: UnloadBrokerRequest) -> UnloadBrokerResponse:
        """Drain a broker; answer when it has no bundle left, or after ``timeout_seconds``."""
        if request.namespaces_include or request.namespaces_exclude:
            raise InvalidInput("bundles hold topics of all namespaces: they move as a whole")
        if request.dry_run:
            return self._counted(request.broker_id, started=False)
        await self._manager.drain(request.broker_id, request.max_parallel)
        await self._manager.drained(request.broker_id, min(request.timeout_seconds, UNLOAD_TIMEOUT_S_MAX))
        return self._counted(request.broker_id, started=True)

    async def activate_broker(self, request: ActivateBrokerRequest) -> ActivateBrokerResponse:
        """Let a drained broker have bundles again."""
        await self._manager.activate(request.broker_id)
        return ActivateBrokerResponse(success=True)

    async def balance(self, _request: ClusterBalanceRequest) -> ClusterBalanceResponse:
        """Return how evenly the brokers are loaded."""
        load_model, eligible_owners = self._manager.load_model(), sorted(self._cluster.eligible_owners)
        scores = {owner: load_model.score(owner) for owner in eligible_owners}
        mean = sum(scores.values()) / len(scores) if scores else 0.0
        variation = variation_percent(scores.values())
        loads = self._cluster.loads
        return ClusterBalanceResponse(
            coefficient_of_variation=variation,
            mean_load=mean,
            max_load=max(scores.values(), default=0.0),
            min_load=min(scores.values(), default=0.0),
            std_deviation=variation * mean / 100,
            broker_count=len(scores),
            brokers=[
                BrokerBalance(
                    broker_id=int(owner),
                    load=score,
                    topic_count=loads[owner].total.topics if owner in loads else 0,
                    is_overloaded=score > mean * (1 + UNEVEN_RATIO),
                    is_underloaded=score < mean * (1 - UNEVEN_RATIO),
                )
                for owner, score in scores.items()
            ],
            assignment_strategy=self._manager.strategy.value,
        )

    async def rebalance(self, request: RebalanceRequest) -> RebalanceResponse:
        """Move bundles; answer when their new owners serve them."""
        moves_max = min(request.max_moves if request.HasField("max_moves") else MOVES_DEFAULT, MOVES_MAX)
        moves = self._manager.propose(moves_max)
        proposed = [_proposed(move) for move in moves]
        if request.dry_run:
            return RebalanceResponse(success=True, proposed_moves=proposed)
        await self._manager.execute(moves)
        return RebalanceResponse(success=True, moves_executed=len(moves), proposed_moves=proposed)

    async def unload_topic(self, request: TopicRequest) -> TopicResponse:
        """Move the topic's bundle, or those of its partitions one after the other, to another owner."""
        topics = await named_topics(self._topics, request.name)
        homes = {topic.bundle: topic.home for topic in topics}
        for home in homes.values():
            await self._manager.unload(home)
        return TopicResponse(success=True)

    async def loads(self, _request: platform.BrokerLoadsRequest) -> platform.BrokerLoadsResponse:
        """Return each owner's last load report."""
        live, reports = self._cluster.owners, self._cluster.loads
        return platform.BrokerLoadsResponse(
            brokers=[
                platform.BrokerLoad(
                    broker_id=owner,
                    at_ms=report.at_ms,
                    cpu_percent=report.cpu_percent,
                    memory_bytes=report.memory_bytes,
                    memory_percent=report.memory_percent,
                    bundles={name: _load(load) for name, load in report.bundles.items()},
                    total=_load(report.total),
                )
                for owner, report in sorted(reports.items())
                if owner in live
            ]
        )

    def _counted(self, broker_id: str, *, started: bool) -> UnloadBrokerResponse:
        self._manager.require_owner(broker_id)
        progress = self._manager.progress(broker_id)
        return UnloadBrokerResponse(
            started=started,
            total=progress.total,
            succeeded=progress.total - progress.remaining,
            pending=progress.remaining,
        )


def _proposed(move: Move) -> ProposedMove:
    return ProposedMove(
        topic_name=str(move.bundle),
        from_broker=int(move.source),
        to_broker=int(move.target),
        estimated_load=move.load,
        reason=move.reason,
    )


def _load(load: BundleLoad) -> platform.Load:
    return platform.Load(
        topics=load.topics,
        subscriptions=load.subscriptions,
        consumers=load.consumers,
        in_messages=load.in_messages_per_s,
        in_bytes=load.in_bytes_per_s,
        out_messages=load.out_messages_per_s,
        out_bytes=load.out_bytes_per_s,
        behind=load.behind,
        unacked=load.unacked,
    )
