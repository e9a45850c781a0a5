package peer;

import danube.DanubeCurrent;
import io.grpc.Context;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** Receives from a topic, or from all partitions of one. */
final class Consumer {
    static final long HEALTH_NS = TimeUnit.SECONDS.toNanos(5);
    private static final String SUBSCRIPTION = "sub";
    private static final int BUFFER_MAX = 100;

    private final Calls calls;
    private final Map<String, TopicConsumer> topics = new ConcurrentHashMap<>();
    private final BlockingQueue<DanubeCurrent.StreamMessage> messages = new LinkedBlockingQueue<>(BUFFER_MAX);
    private final Map<String, DanubeCurrent.StreamMessage> taken = new ConcurrentHashMap<>();
    private final AtomicLong tags = new AtomicLong();
    private final Context.CancellableContext life = Context.current().withCancellation();
    private volatile boolean closed;

    Consumer(Calls calls, String topic, String name, int kind, List<String> filters) {
        this.calls = calls;
        List<String> partitions = calls.partitions(topic);
        for (int index = 0; index < partitions.size(); index++) {
            String own = partitions.size() == 1 ? name : name + "-" + index;
            topics.put(partitions.get(index), new TopicConsumer(partitions.get(index), own, kind, filters));
        }
        topics.values().forEach(TopicConsumer::subscribe);
        topics.values().forEach(each -> start(each::receive));
        topics.values().forEach(each -> start(each::watch));
    }

    private static void start(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        thread.start();
    }

    List<String> take(long ms) throws InterruptedException {
        var message = messages.poll(ms, TimeUnit.MILLISECONDS);
        if (message == null) {
            throw Status.DEADLINE_EXCEEDED.withDescription("no message came in time").asRuntimeException();
        }
        String tag = Long.toString(tags.incrementAndGet());
        taken.put(tag, message);
        List<String> words = new ArrayList<>(List.of(
                tag, message.getMsgId().getTopicName(), Texts.text(message.getPayload().toByteArray()),
                message.getRoutingKey(), Long.toString(message.getSchemaId()),
                Integer.toString(message.getSchemaVersion())));
        message.getAttributesMap().forEach((key, value) -> words.addAll(List.of(key, value)));
        return words;
    }

    void ack(String tag) {
        var message = taken.get(tag);
        TopicConsumer from = topics.get(message.getMsgId().getTopicName());
        Calls.insisted(() -> Calls.ACK.to(calls.channel(from.broker), DanubeCurrent.AckRequest.newBuilder()
                .setRequestId(from.requests.incrementAndGet())
                .setMsgId(message.getMsgId())
                .setSubscriptionName(SUBSCRIPTION)
                .build()), from::subscribe);
        taken.remove(tag);
    }

    void nack(String tag, long delayMs, String reason) {
        var message = taken.get(tag);
        TopicConsumer from = topics.get(message.getMsgId().getTopicName());
        Calls.insisted(() -> Calls.NACK.to(calls.channel(from.broker), DanubeCurrent.NackRequest.newBuilder()
                .setRequestId(from.requests.incrementAndGet())
                .setMsgId(message.getMsgId())
                .setSubscriptionName(SUBSCRIPTION)
                .setDelayMs(delayMs)
                .setReason(reason)
                .build()), from::subscribe);
        taken.remove(tag);
    }

    void close() {
        closed = true;
        life.cancel(null);
        Calls.sleep(Calls.PAUSE_MS / 2); // so that the platform sees it
    }

    private final class TopicConsumer {
        private final String topic;
        private final String name;
        private final int kind;
        private final List<String> filters;
        private final AtomicLong requests = new AtomicLong();
        private volatile Calls.Broker broker;
        private volatile long id;
        private volatile boolean unwanted;

        TopicConsumer(String topic, String name, int kind, List<String> filters) {
            this.topic = topic;
            this.name = name;
            this.kind = kind;
            this.filters = filters;
        }

        synchronized void subscribe() {
            id = Calls.repeated(() -> {
                broker = calls.lookup(topic);
                return Calls.SUBSCRIBE.to(calls.channel(broker), DanubeCurrent.ConsumerRequest.newBuilder()
                        .setRequestId(requests.incrementAndGet())
                        .setTopicName(topic)
                        .setConsumerName(name)
                        .setSubscription(SUBSCRIPTION)
                        .setSubscriptionTypeValue(kind)
                        .addAllKeyFilters(filters)
                        .build());
            }).getConsumerId();
            unwanted = false;
        }

        /** Asks for its health after 5 s and every 5 s, whatever fails. */
        void watch() {
            while (!closed) {
                Calls.sleep(TimeUnit.NANOSECONDS.toMillis(HEALTH_NS));
                unwanted |= calls.closed(broker, DanubeCurrent.HealthCheckRequest.ClientType.Consumer, id);
            }
        }

        /** Opens the stream again at once when it ends well, as the official client does. */
        void receive() {
            while (!closed) {
                try {
                    Calls.insisted(this::streamed, this::subscribe);
                    if (unwanted) {
                        subscribe();
                    }
                } catch (RuntimeException error) {
                    if (closed || !Calls.passes(error) && !Calls.wantsCreation(error)) {
                        return;
                    }
                    Calls.backOff(1);
                }
            }
        }

        private boolean streamed() {
            life.run(this::stream);
            return true;
        }

        private void stream() {
            var request = DanubeCurrent.ReceiveRequest.newBuilder()
                    .setRequestId(requests.incrementAndGet()).setConsumerId(id).build();
            var stream = Calls.RECEIVE.stream(calls.channel(broker), request);
            while (!closed && !unwanted && stream.hasNext()) {
                try {
                    messages.put(stream.next());
                } catch (InterruptedException error) {
                    throw new IllegalStateException(error);
                }
            }
        }
    }
}
