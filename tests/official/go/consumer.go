package main

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"official/danube"
)

const (
	subscription = "sub"
	bufferMax    = 100
)

// consumer receives from a topic, or from all partitions of one.
type consumer struct {
	topics   map[string]*topicConsumer
	messages chan *danube.StreamMessage
	cancel   context.CancelFunc
	closed   atomic.Bool
	mutex    sync.Mutex
	taken    map[string]*danube.StreamMessage
	tags     int
	ended    error
}

type topicConsumer struct {
	client      *client
	topic, name string
	kind        danube.ConsumerRequest_SubscriptionType
	filters     []string
	broker      broker
	service     danube.ConsumerServiceClient
	requests    atomic.Uint64
	id          uint64
	closed      atomic.Bool
}

// consume subscribes to all partitions at once, and opens their streams.
func (c *client) consume(
	topic, name string, kind danube.ConsumerRequest_SubscriptionType, filters []string,
) (*consumer, error) {
	partitions, err := c.partitions(topic)
	if err != nil {
		return nil, err
	}
	var topics []*topicConsumer
	for _, partition := range partitions {
		topics = append(topics, &topicConsumer{client: c, topic: partition, name: name, kind: kind, filters: filters})
	}
	if err := atOnce(topics, (*topicConsumer).subscribe); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(background)
	made := &consumer{
		topics: map[string]*topicConsumer{}, messages: make(chan *danube.StreamMessage, bufferMax), cancel: cancel,
		taken: map[string]*danube.StreamMessage{},
	}
	var open sync.WaitGroup
	for _, one := range topics {
		made.topics[one.topic] = one
		open.Go(func() { made.receive(ctx, one) })
	}
	go func() {
		open.Wait()
		close(made.messages)
	}()
	return made, nil
}

func (c *topicConsumer) subscribe() error {
	return repeated(func() error {
		c.broker = c.client.lookup(c.topic)
		channel, err := c.client.channel(c.broker)
		if err != nil {
			return err
		}
		c.service = danube.NewConsumerServiceClient(channel)
		request := &danube.ConsumerRequest{
			RequestId: c.requests.Add(1), TopicName: c.topic, ConsumerName: c.name, Subscription: subscription,
			SubscriptionType: c.kind,
		}
		c.filter(request)
		found, err := c.service.Subscribe(c.broker.headers(background), request)
		if err != nil {
			return err
		}
		c.id = found.ConsumerId
		go c.client.watch(c.broker, danube.HealthCheckRequest_Consumer, c.id, &c.closed)
		return nil
	})
}

// receive ends, as in the official client, when the stream ends well or by an error that does not pass.
func (c *consumer) receive(ctx context.Context, from *topicConsumer) {
	tries := 0
	for !c.closed.Load() {
		err := c.stream(ctx, from, &tries)
		switch {
		case c.closed.Load():
			return
		case from.closed.Swap(false):
			err = from.subscribe()
			tries = 0
		case err != nil && retryable(err):
			if tries++; tries > triesMax {
				err = from.subscribe()
				tries = 0
			} else {
				backOff(tries)
				err = nil
			}
		}
		if err != nil {
			c.mutex.Lock()
			c.ended = err
			c.mutex.Unlock()
			return
		}
	}
}

func (c *consumer) stream(ctx context.Context, from *topicConsumer, tries *int) error {
	request := &danube.ReceiveRequest{RequestId: from.requests.Add(1), ConsumerId: from.id}
	streamContext, end := context.WithCancel(ctx)
	defer end()
	stream, err := from.service.ReceiveMessages(from.broker.headers(streamContext), request)
	if err != nil {
		return err
	}
	for !c.closed.Load() && !from.closed.Load() {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		*tries = 0
		select {
		case c.messages <- message:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *consumer) take(patience time.Duration) ([]string, error) {
	select {
	case message, open := <-c.messages:
		if !open {
			return nil, status.Errorf(codes.Aborted, "the consumer has ended: %v", c.ended)
		}
		c.mutex.Lock()
		c.tags++
		tag := strconv.Itoa(c.tags)
		c.taken[tag] = message
		c.mutex.Unlock()
		words := []string{
			tag, message.MsgId.TopicName, string(message.Payload), message.GetRoutingKey(),
			text(message.GetSchemaId()), text(uint64(message.GetSchemaVersion())),
		}
		for name, value := range message.Attributes {
			words = append(words, name, value)
		}
		return words, nil
	case <-time.After(patience):
		return nil, status.Error(codes.DeadlineExceeded, "no message came in time")
	}
}

func (c *consumer) ack(tag string) error {
	message, from := c.of(tag)
	_, err := from.service.Ack(from.broker.headers(background), &danube.AckRequest{
		RequestId: message.RequestId, MsgId: message.MsgId, SubscriptionName: subscription,
	})
	return c.settled(tag, err)
}

func (c *consumer) of(tag string) (*danube.StreamMessage, *topicConsumer) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	message := c.taken[tag]
	return message, c.topics[message.MsgId.TopicName] // of an unknown topic: a crash, as in the official client
}

func (c *consumer) settled(tag string, err error) error {
	if err == nil {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		delete(c.taken, tag)
	}
	return err
}

func (c *consumer) close() {
	c.closed.Store(true)
	c.cancel()
	for _, topic := range c.topics {
		topic.closed.Store(true)
	}
	time.Sleep(pause / 2) // so that the platform sees it
}
