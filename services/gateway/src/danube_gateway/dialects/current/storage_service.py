"""``danube.StorageService``: the segments of a topic."""

from __future__ import annotations

from danube_common.archive.records import ManifestEntry
from danube_common.cluster import keys
from danube_common.cluster.records import Topic, read_records
from danube_common.metadata.port import MetadataStore
from danube_common.model.names import TopicName
from danube_common.rpc.port import Call
from danube_common.rpc.protobuf_strict import parse_strict
from danube_gateway.dialects.errors import topic_not_found
from danube_gateway.dialects.generations import Generation
from danube_gateway.publish.topic_resolver import TopicResolver
from danube_proto import danube_current_pb2 as api


class StorageService:
    """Lists sealed segments from the manifest of the topic's bundle."""

    def __init__(self, resolver: TopicResolver, store: MetadataStore) -> None:
        self._resolver = resolver
        self._store = store

    async def list_segment_descriptors(self, call: Call) -> bytes:
        """List the topic's own retained segments that begin after an offset; from 0, all of them.

        Segments that quiet topics share are not listed: they have no offsets of one topic.
        """
        request = parse_strict(api.ListSegmentDescriptorsRequest, call.request)
        topic = await self._resolver.find(TopicName.parse(request.topic))
        if topic is None:
            raise topic_not_found(request.topic, Generation.CURRENT)
        entries = await read_records(self._store, keys.manifest_prefix(topic.home), ManifestEntry)
        found = [each for entry in entries for each in descriptors(entry, topic, request.after_offset)]
        found.sort(key=lambda each: each.start_offset)
        return api.ListSegmentDescriptorsResponse(segments=found).SerializeToString()


def descriptors(entry: ManifestEntry, topic: Topic, after_offset: int) -> list[api.SegmentDescriptorProto]:
    """Return the topic's own segments in one entry that begin after an offset; all of them after 0."""
    return [
        api.SegmentDescriptorProto(
            segment_id=record.key,
            start_offset=record.first_offset,
            end_offset=record.first_offset + record.messages - 1,
            size=record.size_bytes,
            created_at=record.published_ms_max,
        )
        for record in entry.segments
        if record.topic_id == topic.topic_id
        and record.retained
        and (not after_offset or record.first_offset > after_offset)
    ]
