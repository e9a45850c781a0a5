package main

import (
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"official/danube"
)

// producer sends to a topic, or to each partition of one in turn.
type producer struct {
	topics []*topicProducer
	next   atomic.Uint64
}

type topicProducer struct {
	client      *client
	topic, name string
	strategy    danube.DispatchStrategy
	subject     string
	broker      broker
	service     danube.ProducerServiceClient
	requests    atomic.Uint64
	id          uint64
	closed      atomic.Bool
	stamp       func(*danube.StreamMessage)
}

// produce creates all partitions at once; 0 partitions are none.
func (c *client) produce(
	topic, name string, strategy danube.DispatchStrategy, partitions int, subject string,
) (*producer, error) {
	made := &producer{}
	if partitions == 0 {
		made.topics = []*topicProducer{{client: c, topic: topic, name: name, strategy: strategy, subject: subject}}
	}
	for index := range partitions {
		made.topics = append(made.topics, &topicProducer{
			client: c, topic: fmt.Sprintf("%s-part-%d", topic, index), name: fmt.Sprintf("%s-%d", name, index),
			strategy: strategy, subject: subject,
		})
	}
	return made, atOnce(made.topics, (*topicProducer).create)
}

func (p *topicProducer) create() error {
	return repeated(func() error {
		p.broker = p.client.lookup(p.topic)
		channel, err := p.client.channel(p.broker)
		if err != nil {
			return err
		}
		p.service = danube.NewProducerServiceClient(channel)
		created, err := p.service.CreateProducer(p.broker.headers(background), p.request())
		if err != nil {
			return err
		}
		p.id = created.ProducerId
		go p.client.watch(p.broker, danube.HealthCheckRequest_Producer, p.id, &p.closed)
		p.stamp, err = p.stamper()
		return err
	})
}

func (p *producer) send(payload []byte, key string, attributes map[string]string) error {
	which := p.next.Add(1) - 1
	if key != "" {
		hash := fnv.New64a()
		hash.Write([]byte(key))
		which = hash.Sum64()
	}
	topic := p.topics[which%uint64(len(p.topics))]
	for {
		err := repeated(func() error { return topic.send(payload, key, attributes) })
		if err == nil || !retryable(err) {
			return err
		}
		if err := topic.create(); err != nil {
			return err
		}
	}
}

func (p *topicProducer) send(payload []byte, key string, attributes map[string]string) error {
	request := p.requests.Add(1)
	message := &danube.StreamMessage{
		RequestId:    request,
		MsgId:        p.messageID(request),
		Payload:      payload,
		PublishTime:  uint64(time.Now().UnixMilli()),
		ProducerName: p.name,
		Attributes:   attributes,
	}
	if key != "" {
		message.RoutingKey = &key
	}
	p.stamp(message)
	_, err := p.service.SendMessage(p.broker.headers(background), message)
	return err
}

// atOnce does something with each of several things at the same time, and returns the first error.
func atOnce[T any](things []T, act func(T) error) error {
	errors := make([]error, len(things))
	var group sync.WaitGroup
	for index, thing := range things {
		group.Go(func() { errors[index] = act(thing) })
	}
	group.Wait()
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}
