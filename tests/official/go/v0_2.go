//go:build v0_2

package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"official/danube"
)

// patience is that of the application after a refusal, which comes at once.
const patience = 2 * time.Second

var tooNew = status.Error(codes.Unimplemented, "v0.2 knows no such command")

func routed(found *danube.TopicLookupResponse) broker {
	return broker{connectURL: found.BrokerServiceUrl, brokerURL: found.BrokerServiceUrl}
}

// request names the schema and the options that the v0.2 clients name of themselves.
func (p *topicProducer) request() *danube.ProducerRequest {
	strategy := &danube.TopicDispatchStrategy{Strategy: p.strategy}
	if p.strategy == danube.DispatchStrategy_Reliable {
		strategy.ReliableOptions = &danube.ReliableOptions{
			SegmentSize: 10, StorageBackend: danube.StorageBackend_DISK.Enum(), RetentionPeriod: 3600,
		}
	}
	return &danube.ProducerRequest{
		RequestId: p.requests.Add(1), ProducerName: p.name, TopicName: p.topic, DispatchStrategy: strategy,
		Schema: &danube.Schema{Name: "string_schema", TypeSchema: danube.Schema_String},
	}
}

func (p *topicProducer) messageID(request uint64) *danube.MsgID {
	return &danube.MsgID{
		SequenceId: request - 1, ProducerId: p.id, TopicName: p.topic, BrokerAddr: p.broker.brokerURL,
	}
}

func (p *topicProducer) stamper() (func(*danube.StreamMessage), error) {
	return func(*danube.StreamMessage) {}, nil
}

func (c *topicConsumer) filter(*danube.ConsumerRequest) {}

func (c *consumer) nack(string, uint64, string) error {
	return tooNew
}

func (c *client) schemas(string, []string) ([]string, error) {
	return nil, tooNew
}
