package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"official/danube"
	"official/schema"
)

const (
	triesMax    = 5
	pause       = 200 * time.Millisecond
	healthEvery = 5 * time.Second
)

var background = context.Background()

// broker is what a lookup answered.
type broker struct {
	connectURL, brokerURL string
	proxy                 bool
}

type client struct {
	service  broker
	requests atomic.Uint64
	mutex    sync.Mutex
	channels map[broker]*grpc.ClientConn
	registry schema.SchemaRegistryClient
}

func newClient(url string) (*client, error) {
	service := broker{connectURL: url, brokerURL: url}
	made := &client{service: service, channels: map[broker]*grpc.ClientConn{}}
	channel, err := made.channel(service)
	if err != nil {
		return nil, err
	}
	made.registry = schema.NewSchemaRegistryClient(channel)
	return made, nil
}

func (c *client) channel(to broker) (*grpc.ClientConn, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	key := broker{connectURL: to.connectURL, brokerURL: to.brokerURL}
	if channel := c.channels[key]; channel != nil {
		return channel, nil
	}
	target := strings.TrimPrefix(to.connectURL, "http://")
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		c.channels[key] = channel
	}
	return channel, err
}

// lookup asks the service URL who serves a topic; while nobody says, it is the service URL itself.
func (c *client) lookup(topic string) broker {
	channel, err := c.channel(c.service)
	if err != nil {
		return c.service
	}
	request := &danube.TopicLookupRequest{RequestId: c.requests.Add(1), Topic: topic}
	found, err := danube.NewDiscoveryClient(channel).TopicLookup(background, request)
	if err != nil || found.ResponseType == danube.TopicLookupResponse_Failed {
		return c.service
	}
	return broker{found.ConnectUrl, found.BrokerUrl, found.Proxy}
}

func (c *client) partitions(topic string) ([]string, error) {
	channel, err := c.channel(c.service)
	if err != nil {
		return nil, err
	}
	request := &danube.TopicLookupRequest{RequestId: c.requests.Add(1), Topic: topic}
	found, err := danube.NewDiscoveryClient(channel).TopicPartitions(background, request)
	if err != nil {
		return nil, err
	}
	if len(found.Partitions) == 0 {
		return []string{topic}, nil
	}
	return found.Partitions, nil
}

// watch asks for the health of a producer or consumer, at once and every 5 s until a call fails.
func (c *client) watch(to broker, kind danube.HealthCheckRequest_ClientType, id uint64, closed *atomic.Bool) {
	channel, err := c.channel(to)
	if err != nil {
		return
	}
	service := danube.NewHealthCheckClient(channel)
	for {
		request := &danube.HealthCheckRequest{RequestId: c.requests.Add(1), Client: kind, Id: id}
		answer, err := service.HealthCheck(to.headers(background), request)
		if err != nil {
			return
		}
		if answer.Status == danube.HealthCheckResponse_CLOSE {
			closed.Store(true) // and asks on, as the official client does
		}
		time.Sleep(healthEvery)
	}
}

func (b broker) headers(ctx context.Context) context.Context {
	if b.proxy {
		return metadata.AppendToOutgoingContext(ctx, "x-danube-broker-url", b.brokerURL)
	}
	return ctx
}

func retryable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

func backOff(tries int) {
	time.Sleep(time.Duration((0.5 + rand.Float64()/2) * float64(tries) * float64(pause)))
}

// repeated makes a call again while it fails in a way that passes, after a pause and within the tries.
func repeated(call func() error) error {
	for tries := 1; ; tries++ {
		err := call()
		if err == nil || !retryable(err) || tries > triesMax {
			return err
		}
		backOff(tries)
	}
}

func (c *client) schemas(command string, words []string) ([]string, error) {
	switch command {
	case "register": // SUBJECT TYPE DEFINITION
		found, err := c.registry.RegisterSchema(background, &schema.RegisterSchemaRequest{
			Subject: words[0], SchemaType: words[1], SchemaDefinition: []byte(words[2]),
		})
		return []string{text(found.GetSchemaId())}, err
	case "schema": // ID VERSION
		version := uint32(number(words[1]))
		found, err := c.registry.GetSchema(background, &schema.GetSchemaRequest{
			SchemaId: uint64(number(words[0])), Version: &version,
		})
		return []string{text(uint64(found.GetVersion())), string(found.GetSchemaDefinition())}, err
	case "latest": // SUBJECT
		found, err := c.registry.GetLatestSchema(background, &schema.GetLatestSchemaRequest{Subject: words[0]})
		return []string{text(uint64(found.GetVersion())), string(found.GetSchemaDefinition())}, err
	case "versions": // SUBJECT
		found, err := c.registry.ListVersions(background, &schema.ListVersionsRequest{Subject: words[0]})
		versions := []string{}
		for _, one := range found.GetVersions() {
			versions = append(versions, text(uint64(one.Version)))
		}
		return versions, err
	case "compatible": // SUBJECT TYPE DEFINITION
		found, err := c.registry.CheckCompatibility(background, &schema.CheckCompatibilityRequest{
			Subject: words[0], SchemaType: words[1], NewSchemaDefinition: []byte(words[2]),
		})
		return append([]string{strconv.FormatBool(found.GetIsCompatible())}, found.GetErrors()...), err
	case "mode": // SUBJECT MODE
		found, err := c.registry.SetCompatibilityMode(background, &schema.SetCompatibilityModeRequest{
			Subject: words[0], CompatibilityMode: words[1],
		})
		return []string{strconv.FormatBool(found.GetSuccess())}, err
	case "configure": // TOPIC SUBJECT POLICY
		found, err := c.registry.ConfigureTopicSchema(background, &schema.ConfigureTopicSchemaRequest{
			TopicName: words[0], SchemaSubject: words[1], ValidationPolicy: words[2], EnablePayloadValidation: true,
		})
		return []string{strconv.FormatBool(found.GetSuccess())}, err
	default:
		return nil, fmt.Errorf("no command is called %s", command)
	}
}

func text(number uint64) string {
	return strconv.FormatUint(number, 10)
}
