package peer;

import com.google.protobuf.ByteString;
import danube.DanubeCurrent.DispatchStrategy;
import danube_schema.DanubeSchema;
import io.grpc.Status;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;

/**
 * Calls the platform in the order of the official Java client, with grpc-java on Netty. It is not that client.
 *
 * <p>Run as `Main URL`. It reads a command a line and answers each with a line; commands run at the same time:
 * see tests/official/python/line_client.py.
 */
public final class Main {
    private final Calls calls;
    private final AtomicLong handles = new AtomicLong();
    private final Map<String, Producer> producers = new ConcurrentHashMap<>();
    private final Map<String, Consumer> consumers = new ConcurrentHashMap<>();

    private Main(String url) {
        calls = new Calls(url);
    }

    public static void main(String[] arguments) throws IOException {
        Main peer = new Main(arguments[0]);
        ExecutorService workers = Executors.newCachedThreadPool();
        try (var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                List<String> words = Arrays.stream(line.split("\t", -1)).map(Texts::read).toList();
                workers.execute(() -> peer.answer(words));
            }
        }
        System.exit(0);
    }

    private void answer(List<String> words) {
        List<String> answer = new ArrayList<>(List.of(words.get(0)));
        try {
            List<String> found = run(words.get(1), words.subList(2, words.size()));
            answer.add("ok");
            answer.addAll(found);
        } catch (Exception error) {
            answer.addAll(List.of("error", Status.fromThrowable(error).getCode().name(), error.toString()));
        }
        String line = answer.stream().map(Texts::written).collect(Collectors.joining("\t"));
        synchronized (System.out) {
            System.out.println(line);
        }
    }

    private List<String> run(String command, List<String> words) throws InterruptedException {
        String first = words.get(0);
        switch (command) {
            case "producer": { // TOPIC NAME STRATEGY PARTITIONS SUBJECT
                var strategy = DispatchStrategy.forNumber(number(words.get(2)));
                var made = new Producer(calls, first, words.get(1), strategy, number(words.get(3)), words.get(4));
                String handle = Long.toString(handles.incrementAndGet());
                producers.put(handle, made);
                return List.of(handle);
            }
            case "send": // PRODUCER PAYLOAD KEY [NAME VALUE]...
                producers.get(first).send(Texts.bytes(words.get(1)), words.get(2), pairs(words.subList(3, words.size())));
                return List.of();
            case "consumer": { // TOPIC NAME TYPE FILTER...
                var filters = words.subList(3, words.size());
                var made = new Consumer(calls, first, words.get(1), number(words.get(2)), filters);
                String handle = Long.toString(handles.incrementAndGet());
                consumers.put(handle, made);
                return List.of(handle);
            }
            case "take": // CONSUMER MILLISECONDS
                return consumers.get(first).take(number(words.get(1)));
            case "ack": // CONSUMER TAG
                consumers.get(first).ack(words.get(1));
                return List.of();
            case "nack": // CONSUMER TAG MILLISECONDS REASON
                consumers.get(first).nack(words.get(1), number(words.get(2)), words.get(3));
                return List.of();
            case "close": // CONSUMER
                consumers.get(first).close();
                return List.of();
            default:
                return schemas(command, words);
        }
    }

    private List<String> schemas(String command, List<String> words) {
        var channel = calls.channel(calls.service);
        String first = words.get(0);
        switch (command) {
            case "register": // SUBJECT TYPE DEFINITION
                return List.of(Long.toString(Calls.REGISTER.to(channel, DanubeSchema.RegisterSchemaRequest.newBuilder()
                        .setSubject(first).setSchemaType(words.get(1)).setSchemaDefinition(bytes(words.get(2)))
                        .build()).getSchemaId()));
            case "schema": // ID VERSION
                return shown(Calls.SCHEMA.to(channel, DanubeSchema.GetSchemaRequest.newBuilder()
                        .setSchemaId(Long.parseLong(first)).setVersion(number(words.get(1))).build()));
            case "latest": // SUBJECT
                return shown(Calls.LATEST.to(
                        channel, DanubeSchema.GetLatestSchemaRequest.newBuilder().setSubject(first).build()));
            case "versions": // SUBJECT
                return Calls.VERSIONS
                        .to(channel, DanubeSchema.ListVersionsRequest.newBuilder().setSubject(first).build())
                        .getVersionsList().stream().map(each -> Integer.toString(each.getVersion())).toList();
            case "compatible": { // SUBJECT TYPE DEFINITION
                var found = Calls.COMPATIBLE.to(channel, DanubeSchema.CheckCompatibilityRequest.newBuilder()
                        .setSubject(first).setSchemaType(words.get(1)).setNewSchemaDefinition(bytes(words.get(2)))
                        .build());
                List<String> answer = new ArrayList<>(List.of(Boolean.toString(found.getIsCompatible())));
                answer.addAll(found.getErrorsList());
                return answer;
            }
            case "mode": // SUBJECT MODE
                return List.of(Boolean.toString(Calls.MODE.to(channel, DanubeSchema.SetCompatibilityModeRequest
                        .newBuilder().setSubject(first).setCompatibilityMode(words.get(1)).build()).getSuccess()));
            case "configure": // TOPIC SUBJECT POLICY
                return List.of(Boolean.toString(Calls.CONFIGURE.to(channel, DanubeSchema.ConfigureTopicSchemaRequest
                        .newBuilder().setTopicName(first).setSchemaSubject(words.get(1))
                        .setValidationPolicy(words.get(2)).setEnablePayloadValidation(true).build()).getSuccess()));
            default:
                throw new IllegalArgumentException("no command is called " + command);
        }
    }

    private static List<String> shown(DanubeSchema.GetSchemaResponse found) {
        return List.of(Integer.toString(found.getVersion()), Texts.text(found.getSchemaDefinition().toByteArray()));
    }

    private static ByteString bytes(String text) {
        return ByteString.copyFrom(Texts.bytes(text));
    }

    private static int number(String word) {
        return Integer.parseInt(word);
    }

    private static Map<String, String> pairs(List<String> words) {
        Map<String, String> found = new HashMap<>();
        for (int index = 0; index + 1 < words.size(); index += 2) {
            found.put(words.get(index), words.get(index + 1));
        }
        return found;
    }
}
