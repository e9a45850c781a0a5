package main

import (
	"context"
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
}

func newClient(url string) (*client, error) {
	service := broker{connectURL: url, brokerURL: url}
	made := &client{service: service, channels: map[broker]*grpc.ClientConn{}}
	_, err := made.channel(service)
	return made, err
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
	return routed(found)
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

func text(number uint64) string {
	return strconv.FormatUint(number, 10)
}
