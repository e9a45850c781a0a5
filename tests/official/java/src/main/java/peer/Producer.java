package peer;

import com.google.protobuf.ByteString;
import danube.DanubeCurrent;
import danube.DanubeCurrent.DispatchStrategy;
import danube_schema.DanubeSchema;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/** Sends to a topic, or to each partition of one in turn. */
final class Producer {
    private final List<TopicProducer> topics = new ArrayList<>();
    private final AtomicLong next = new AtomicLong();

    /** Creates the partitions one by one; 0 partitions are as many as the topic has. */
    Producer(Calls calls, String topic, String name, DispatchStrategy strategy, int partitions, String subject) {
        List<String> targets = new ArrayList<>();
        for (int index = 0; index < partitions; index++) {
            targets.add(topic + "-part-" + index);
        }
        if (partitions == 0) {
            targets.addAll(calls.partitions(topic));
        }
        for (int index = 0; index < targets.size(); index++) {
            String own = targets.size() == 1 ? name : name + "-" + index;
            topics.add(new TopicProducer(calls, targets.get(index), own, strategy, subject));
        }
        topics.forEach(TopicProducer::create);
    }

    void send(byte[] payload, String key, Map<String, String> attributes) {
        long which = key.isEmpty() ? next.getAndIncrement() : fnv1a(key);
        TopicProducer topic = topics.get((int) Long.remainderUnsigned(which, topics.size()));
        Calls.insisted(() -> topic.send(payload, key, attributes), topic::create);
    }

    private static long fnv1a(String key) {
        long hash = 0xcbf29ce484222325L;
        for (byte each : Texts.bytes(key)) {
            hash = (hash ^ (each & 0xff)) * 0x100000001b3L;
        }
        return hash;
    }

    private static final class TopicProducer {
        private final Calls calls;
        private final String topic;
        private final String name;
        private final DispatchStrategy strategy;
        private final String subject;
        private final AtomicLong requests = new AtomicLong();
        private Calls.Broker broker;
        private long id;
        private long healthAt;
        private DanubeSchema.GetSchemaResponse schema;

        TopicProducer(Calls calls, String topic, String name, DispatchStrategy strategy, String subject) {
            this.calls = calls;
            this.topic = topic;
            this.name = name;
            this.strategy = strategy;
            this.subject = subject;
        }

        synchronized void create() {
            Calls.repeated(() -> {
                broker = calls.lookup(topic);
                var request = DanubeCurrent.ProducerRequest.newBuilder()
                        .setRequestId(requests.incrementAndGet())
                        .setProducerName(name)
                        .setTopicName(topic)
                        .setDispatchStrategy(strategy);
                if (!subject.isEmpty()) {
                    request.setSchemaRef(
                            DanubeCurrent.SchemaReference.newBuilder().setSubject(subject).setUseLatest(true));
                }
                id = Calls.CREATE_PRODUCER.to(calls.channel(broker), request.build()).getProducerId();
                healthAt = System.nanoTime() + Consumer.HEALTH_NS;
                if (!subject.isEmpty()) {
                    var latest = DanubeSchema.GetLatestSchemaRequest.newBuilder().setSubject(subject).build();
                    schema = Calls.LATEST.to(calls.channel(calls.service), latest);
                }
                return id;
            });
        }

        synchronized long send(byte[] payload, String key, Map<String, String> attributes) {
            if (System.nanoTime() - healthAt > 0) {
                healthAt = System.nanoTime() + Consumer.HEALTH_NS;
                if (calls.closed(broker, DanubeCurrent.HealthCheckRequest.ClientType.Producer, id)) {
                    create();
                }
            }
            var message = DanubeCurrent.StreamMessage.newBuilder()
                    .setRequestId(requests.incrementAndGet())
                    .setMsgId(DanubeCurrent.MsgID.newBuilder()
                            .setProducerId(id).setTopicName(topic).setBrokerAddr(broker.brokerUrl()))
                    .setPayload(ByteString.copyFrom(payload))
                    .setPublishTime(System.currentTimeMillis())
                    .setProducerName(name)
                    .putAllAttributes(attributes);
            if (!key.isEmpty()) {
                message.setRoutingKey(key);
            }
            if (schema != null) {
                message.setSchemaId(schema.getSchemaId()).setSchemaVersion(schema.getVersion());
            }
            return Calls.SEND.to(calls.channel(broker), message.build()).getRequestId();
        }
    }
}
