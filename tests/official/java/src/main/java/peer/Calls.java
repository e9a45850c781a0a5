package peer;

import com.google.protobuf.Internal;
import com.google.protobuf.Message;
import danube.DanubeCurrent.*;
import danube_schema.DanubeSchema.*;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.net.URI;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;

/** The calls of the contract, and what all of the client's parts need to make them. */
final class Calls {
    static final int TRIES_MAX = 5;
    static final long PAUSE_MS = 200;

    private static final String REGISTRY = "danube_schema.SchemaRegistry/";

    static final Call<TopicLookupRequest, TopicLookupResponse> LOOKUP =
            new Call<>("danube.Discovery/TopicLookup", TopicLookupRequest.class, TopicLookupResponse.class);
    static final Call<TopicLookupRequest, TopicPartitionsResponse> PARTITIONS =
            new Call<>("danube.Discovery/TopicPartitions", TopicLookupRequest.class, TopicPartitionsResponse.class);
    static final Call<HealthCheckRequest, HealthCheckResponse> HEALTH =
            new Call<>("danube.HealthCheck/HealthCheck", HealthCheckRequest.class, HealthCheckResponse.class);
    static final Call<ProducerRequest, ProducerResponse> CREATE_PRODUCER =
            new Call<>("danube.ProducerService/CreateProducer", ProducerRequest.class, ProducerResponse.class);
    static final Call<StreamMessage, MessageResponse> SEND =
            new Call<>("danube.ProducerService/SendMessage", StreamMessage.class, MessageResponse.class);
    static final Call<ConsumerRequest, ConsumerResponse> SUBSCRIBE =
            new Call<>("danube.ConsumerService/Subscribe", ConsumerRequest.class, ConsumerResponse.class);
    static final Call<ReceiveRequest, StreamMessage> RECEIVE =
            new Call<>("danube.ConsumerService/ReceiveMessages", ReceiveRequest.class, StreamMessage.class);
    static final Call<AckRequest, AckResponse> ACK =
            new Call<>("danube.ConsumerService/Ack", AckRequest.class, AckResponse.class);
    static final Call<NackRequest, NackResponse> NACK =
            new Call<>("danube.ConsumerService/Nack", NackRequest.class, NackResponse.class);
    static final Call<RegisterSchemaRequest, RegisterSchemaResponse> REGISTER =
            new Call<>(REGISTRY + "RegisterSchema", RegisterSchemaRequest.class, RegisterSchemaResponse.class);
    static final Call<GetSchemaRequest, GetSchemaResponse> SCHEMA =
            new Call<>(REGISTRY + "GetSchema", GetSchemaRequest.class, GetSchemaResponse.class);
    static final Call<GetLatestSchemaRequest, GetSchemaResponse> LATEST =
            new Call<>(REGISTRY + "GetLatestSchema", GetLatestSchemaRequest.class, GetSchemaResponse.class);
    static final Call<ListVersionsRequest, ListVersionsResponse> VERSIONS =
            new Call<>(REGISTRY + "ListVersions", ListVersionsRequest.class, ListVersionsResponse.class);
    static final Call<CheckCompatibilityRequest, CheckCompatibilityResponse> COMPATIBLE =
            new Call<>(REGISTRY + "CheckCompatibility",
                    CheckCompatibilityRequest.class, CheckCompatibilityResponse.class);
    static final Call<SetCompatibilityModeRequest, SetCompatibilityModeResponse> MODE =
            new Call<>(REGISTRY + "SetCompatibilityMode",
                    SetCompatibilityModeRequest.class, SetCompatibilityModeResponse.class);
    static final Call<ConfigureTopicSchemaRequest, ConfigureTopicSchemaResponse> CONFIGURE =
            new Call<>(REGISTRY + "ConfigureTopicSchema",
                    ConfigureTopicSchemaRequest.class, ConfigureTopicSchemaResponse.class);

    private static final Metadata.Key<String> BROKER_URL =
            Metadata.Key.of("x-danube-broker-url", Metadata.ASCII_STRING_MARSHALLER);
    private static final Set<Status.Code> RETRYABLE =
            Set.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED, Status.Code.RESOURCE_EXHAUSTED);
    private static final Set<Status.Code> CREATE_AGAIN = Set.of(
            Status.Code.ABORTED, Status.Code.FAILED_PRECONDITION, Status.Code.NOT_FOUND,
            Status.Code.PERMISSION_DENIED, Status.Code.UNAUTHENTICATED);

    final Broker service;
    final AtomicLong requests = new AtomicLong();
    private final Map<List<String>, ManagedChannel> channels = new ConcurrentHashMap<>();

    Calls(String url) {
        service = new Broker(url, url, false);
    }

    /** What a lookup answered. */
    record Broker(String connectUrl, String brokerUrl, boolean proxy) {}

    /** A method of the contract. */
    record Call<Q extends Message, A extends Message>(String name, Class<Q> request, Class<A> answer) {
        A to(Channel channel, Q request) {
            return ClientCalls.blockingUnaryCall(channel, method(MethodType.UNARY), CallOptions.DEFAULT, request);
        }

        Iterator<A> stream(Channel channel, Q request) {
            return ClientCalls.blockingServerStreamingCall(
                    channel, method(MethodType.SERVER_STREAMING), CallOptions.DEFAULT, request);
        }

        private MethodDescriptor<Q, A> method(MethodType type) {
            return MethodDescriptor.newBuilder(marshaller(request), marshaller(answer))
                    .setType(type).setFullMethodName(name).build();
        }

        private static <M extends Message> MethodDescriptor.Marshaller<M> marshaller(Class<M> message) {
            return ProtoUtils.marshaller(Internal.getDefaultInstance(message));
        }
    }

    /** The channel to a broker; its calls carry the header that a proxied one asks for. */
    Channel channel(Broker to) {
        ManagedChannel channel = channels.computeIfAbsent(List.of(to.brokerUrl, to.connectUrl), key -> {
            URI url = URI.create(to.connectUrl);
            return NettyChannelBuilder.forAddress(url.getHost(), url.getPort()).usePlaintext().build();
        });
        if (!to.proxy) {
            return channel;
        }
        Metadata headers = new Metadata();
        headers.put(BROKER_URL, to.brokerUrl);
        return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    /** Ask the service URL who serves a topic; while nobody says, it is the service URL itself. */
    Broker lookup(String topic) {
        var request = TopicLookupRequest.newBuilder()
                .setRequestId(requests.incrementAndGet()).setTopic(topic).build();
        try {
            var found = LOOKUP.to(channel(service), request);
            return new Broker(found.getConnectUrl(), found.getBrokerUrl(), found.getProxy());
        } catch (RuntimeException error) {
            return service;
        }
    }

    List<String> partitions(String topic) {
        var request = TopicLookupRequest.newBuilder()
                .setRequestId(requests.incrementAndGet()).setTopic(topic).build();
        List<String> found = PARTITIONS.to(channel(service), request).getPartitionsList();
        return found.isEmpty() ? List.of(topic) : found;
    }

    /** Whether the platform wants a producer or consumer to be made again; not if it does not answer. */
    boolean closed(Broker by, HealthCheckRequest.ClientType kind, long id) {
        if (id <= 0) {
            return false;
        }
        var request = HealthCheckRequest.newBuilder()
                .setRequestId(requests.incrementAndGet()).setClient(kind).setId(id).build();
        try {
            return HEALTH.to(channel(by), request).getStatus()
                    == HealthCheckResponse.ClientStatus.CLOSE;
        } catch (RuntimeException error) {
            return false;
        }
    }

    static boolean passes(RuntimeException error) {
        return RETRYABLE.contains(Status.fromThrowable(error).getCode());
    }

    static boolean wantsCreation(RuntimeException error) {
        return CREATE_AGAIN.contains(Status.fromThrowable(error).getCode());
    }

    static void backOff(int tries) {
        sleep((long) (PAUSE_MS * tries * ThreadLocalRandom.current().nextDouble(0.5, 1)));
    }

    static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    /** Make a call again while it fails in a way that passes, after a pause and within the tries. */
    static <T> T repeated(Supplier<T> call) {
        for (int tries = 1; ; tries++) {
            try {
                return call.get();
            } catch (RuntimeException error) {
                if (!passes(error) || tries > TRIES_MAX) {
                    throw error;
                }
                backOff(tries);
            }
        }
    }

    /** As `repeated`; after the last try, or where the error asks for it, create again and go on for ever. */
    static <T> T insisted(Supplier<T> call, Runnable create) {
        while (true) {
            try {
                return repeated(call);
            } catch (RuntimeException error) {
                if (!passes(error) && !wantsCreation(error)) {
                    throw error;
                }
                create.run();
            }
        }
    }
}
