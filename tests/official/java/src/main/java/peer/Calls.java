package peer;

import com.google.protobuf.Message;
import danube.DanubeCurrent;
import danube_schema.DanubeSchema;
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

    static final Call<DanubeCurrent.TopicLookupRequest, DanubeCurrent.TopicLookupResponse> LOOKUP =
            call("danube.Discovery/TopicLookup", DanubeCurrent.TopicLookupRequest.getDefaultInstance(),
                    DanubeCurrent.TopicLookupResponse.getDefaultInstance());
    static final Call<DanubeCurrent.TopicLookupRequest, DanubeCurrent.TopicPartitionsResponse> PARTITIONS =
            call("danube.Discovery/TopicPartitions", DanubeCurrent.TopicLookupRequest.getDefaultInstance(),
                    DanubeCurrent.TopicPartitionsResponse.getDefaultInstance());
    static final Call<DanubeCurrent.HealthCheckRequest, DanubeCurrent.HealthCheckResponse> HEALTH =
            call("danube.HealthCheck/HealthCheck", DanubeCurrent.HealthCheckRequest.getDefaultInstance(),
                    DanubeCurrent.HealthCheckResponse.getDefaultInstance());
    static final Call<DanubeCurrent.ProducerRequest, DanubeCurrent.ProducerResponse> CREATE_PRODUCER =
            call("danube.ProducerService/CreateProducer", DanubeCurrent.ProducerRequest.getDefaultInstance(),
                    DanubeCurrent.ProducerResponse.getDefaultInstance());
    static final Call<DanubeCurrent.StreamMessage, DanubeCurrent.MessageResponse> SEND =
            call("danube.ProducerService/SendMessage", DanubeCurrent.StreamMessage.getDefaultInstance(),
                    DanubeCurrent.MessageResponse.getDefaultInstance());
    static final Call<DanubeCurrent.ConsumerRequest, DanubeCurrent.ConsumerResponse> SUBSCRIBE =
            call("danube.ConsumerService/Subscribe", DanubeCurrent.ConsumerRequest.getDefaultInstance(),
                    DanubeCurrent.ConsumerResponse.getDefaultInstance());
    static final Call<DanubeCurrent.ReceiveRequest, DanubeCurrent.StreamMessage> RECEIVE =
            new Call<>(method("danube.ConsumerService/ReceiveMessages", MethodType.SERVER_STREAMING,
                    DanubeCurrent.ReceiveRequest.getDefaultInstance(),
                    DanubeCurrent.StreamMessage.getDefaultInstance()));
    static final Call<DanubeCurrent.AckRequest, DanubeCurrent.AckResponse> ACK =
            call("danube.ConsumerService/Ack", DanubeCurrent.AckRequest.getDefaultInstance(),
                    DanubeCurrent.AckResponse.getDefaultInstance());
    static final Call<DanubeCurrent.NackRequest, DanubeCurrent.NackResponse> NACK =
            call("danube.ConsumerService/Nack", DanubeCurrent.NackRequest.getDefaultInstance(),
                    DanubeCurrent.NackResponse.getDefaultInstance());
    static final Call<DanubeSchema.RegisterSchemaRequest, DanubeSchema.RegisterSchemaResponse> REGISTER =
            call("danube_schema.SchemaRegistry/RegisterSchema",
                    DanubeSchema.RegisterSchemaRequest.getDefaultInstance(),
                    DanubeSchema.RegisterSchemaResponse.getDefaultInstance());
    static final Call<DanubeSchema.GetSchemaRequest, DanubeSchema.GetSchemaResponse> SCHEMA =
            call("danube_schema.SchemaRegistry/GetSchema", DanubeSchema.GetSchemaRequest.getDefaultInstance(),
                    DanubeSchema.GetSchemaResponse.getDefaultInstance());
    static final Call<DanubeSchema.GetLatestSchemaRequest, DanubeSchema.GetSchemaResponse> LATEST =
            call("danube_schema.SchemaRegistry/GetLatestSchema",
                    DanubeSchema.GetLatestSchemaRequest.getDefaultInstance(),
                    DanubeSchema.GetSchemaResponse.getDefaultInstance());
    static final Call<DanubeSchema.ListVersionsRequest, DanubeSchema.ListVersionsResponse> VERSIONS =
            call("danube_schema.SchemaRegistry/ListVersions",
                    DanubeSchema.ListVersionsRequest.getDefaultInstance(),
                    DanubeSchema.ListVersionsResponse.getDefaultInstance());
    static final Call<DanubeSchema.CheckCompatibilityRequest, DanubeSchema.CheckCompatibilityResponse> COMPATIBLE =
            call("danube_schema.SchemaRegistry/CheckCompatibility",
                    DanubeSchema.CheckCompatibilityRequest.getDefaultInstance(),
                    DanubeSchema.CheckCompatibilityResponse.getDefaultInstance());
    static final Call<DanubeSchema.SetCompatibilityModeRequest, DanubeSchema.SetCompatibilityModeResponse> MODE =
            call("danube_schema.SchemaRegistry/SetCompatibilityMode",
                    DanubeSchema.SetCompatibilityModeRequest.getDefaultInstance(),
                    DanubeSchema.SetCompatibilityModeResponse.getDefaultInstance());
    static final Call<DanubeSchema.ConfigureTopicSchemaRequest, DanubeSchema.ConfigureTopicSchemaResponse> CONFIGURE =
            call("danube_schema.SchemaRegistry/ConfigureTopicSchema",
                    DanubeSchema.ConfigureTopicSchemaRequest.getDefaultInstance(),
                    DanubeSchema.ConfigureTopicSchemaResponse.getDefaultInstance());

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
    record Call<Q, A>(MethodDescriptor<Q, A> method) {
        A to(Channel channel, Q request) {
            return ClientCalls.blockingUnaryCall(channel, method, CallOptions.DEFAULT, request);
        }

        Iterator<A> stream(Channel channel, Q request) {
            return ClientCalls.blockingServerStreamingCall(channel, method, CallOptions.DEFAULT, request);
        }
    }

    private static <Q extends Message, A extends Message> Call<Q, A> call(String name, Q request, A answer) {
        return new Call<>(method(name, MethodType.UNARY, request, answer));
    }

    private static <Q extends Message, A extends Message> MethodDescriptor<Q, A> method(
            String name, MethodType type, Q request, A answer) {
        return MethodDescriptor.newBuilder(ProtoUtils.marshaller(request), ProtoUtils.marshaller(answer))
                .setType(type)
                .setFullMethodName(name)
                .build();
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
        var request = DanubeCurrent.TopicLookupRequest.newBuilder()
                .setRequestId(requests.incrementAndGet()).setTopic(topic).build();
        try {
            var found = LOOKUP.to(channel(service), request);
            return new Broker(found.getConnectUrl(), found.getBrokerUrl(), found.getProxy());
        } catch (RuntimeException error) {
            return service;
        }
    }

    List<String> partitions(String topic) {
        var request = DanubeCurrent.TopicLookupRequest.newBuilder()
                .setRequestId(requests.incrementAndGet()).setTopic(topic).build();
        List<String> found = PARTITIONS.to(channel(service), request).getPartitionsList();
        return found.isEmpty() ? List.of(topic) : found;
    }

    /** Whether the platform wants a producer or consumer to be made again; not if it does not answer. */
    boolean closed(Broker by, DanubeCurrent.HealthCheckRequest.ClientType kind, long id) {
        if (id <= 0) {
            return false;
        }
        var request = DanubeCurrent.HealthCheckRequest.newBuilder()
                .setRequestId(requests.incrementAndGet()).setClient(kind).setId(id).build();
        try {
            return HEALTH.to(channel(by), request).getStatus()
                    == DanubeCurrent.HealthCheckResponse.ClientStatus.CLOSE;
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
