//go:build !v0_2

package main

import (
	"fmt"
	"strconv"

	"official/danube"
	"official/schema"
)

// patience is that of the application after a refusal: the platform is slow to refuse.
const patience = 0

func routed(found *danube.TopicLookupResponse) broker {
	return broker{found.ConnectUrl, found.BrokerUrl, found.Proxy}
}

func (p *topicProducer) request() *danube.ProducerRequest {
	request := &danube.ProducerRequest{
		RequestId: p.requests.Add(1), ProducerName: p.name, TopicName: p.topic, DispatchStrategy: p.strategy,
	}
	if p.subject != "" {
		latest := &danube.SchemaReference_UseLatest{UseLatest: true}
		request.SchemaRef = &danube.SchemaReference{Subject: p.subject, VersionRef: latest}
	}
	return request
}

func (p *topicProducer) messageID(uint64) *danube.MsgID {
	return &danube.MsgID{ProducerId: p.id, TopicName: p.topic, BrokerAddr: p.broker.brokerURL}
}

// stamper returns what puts the producer's schema on a message.
func (p *topicProducer) stamper() (func(*danube.StreamMessage), error) {
	if p.subject == "" {
		return func(*danube.StreamMessage) {}, nil
	}
	registry, err := p.client.registry()
	if err != nil {
		return nil, err
	}
	found, err := registry.GetLatestSchema(background, &schema.GetLatestSchemaRequest{Subject: p.subject})
	return func(message *danube.StreamMessage) {
		message.SchemaId, message.SchemaVersion = &found.SchemaId, &found.Version
	}, err
}

func (c *topicConsumer) filter(request *danube.ConsumerRequest) {
	request.KeyFilters = c.filters
}

func (c *consumer) nack(tag string, delayMs uint64, reason string) error {
	message, from := c.of(tag)
	_, err := from.service.Nack(from.broker.headers(background), &danube.NackRequest{
		RequestId: message.RequestId, MsgId: message.MsgId, SubscriptionName: subscription,
		DelayMs: &delayMs, Reason: &reason,
	})
	return c.settled(tag, err)
}

func (c *client) registry() (schema.SchemaRegistryClient, error) {
	channel, err := c.channel(c.service)
	return schema.NewSchemaRegistryClient(channel), err
}

func (c *client) schemas(command string, words []string) ([]string, error) {
	registry, err := c.registry()
	if err != nil {
		return nil, err
	}
	switch command {
	case "register": // SUBJECT TYPE DEFINITION
		found, err := registry.RegisterSchema(background, &schema.RegisterSchemaRequest{
			Subject: words[0], SchemaType: words[1], SchemaDefinition: []byte(words[2]),
		})
		return []string{text(found.GetSchemaId())}, err
	case "schema": // ID VERSION
		version := uint32(number(words[1]))
		found, err := registry.GetSchema(background, &schema.GetSchemaRequest{
			SchemaId: uint64(number(words[0])), Version: &version,
		})
		return []string{text(uint64(found.GetVersion())), string(found.GetSchemaDefinition())}, err
	case "latest": // SUBJECT
		found, err := registry.GetLatestSchema(background, &schema.GetLatestSchemaRequest{Subject: words[0]})
		return []string{text(uint64(found.GetVersion())), string(found.GetSchemaDefinition())}, err
	case "versions": // SUBJECT
		found, err := registry.ListVersions(background, &schema.ListVersionsRequest{Subject: words[0]})
		versions := []string{}
		for _, one := range found.GetVersions() {
			versions = append(versions, text(uint64(one.Version)))
		}
		return versions, err
	case "compatible": // SUBJECT TYPE DEFINITION
		found, err := registry.CheckCompatibility(background, &schema.CheckCompatibilityRequest{
			Subject: words[0], SchemaType: words[1], NewSchemaDefinition: []byte(words[2]),
		})
		return append([]string{strconv.FormatBool(found.GetIsCompatible())}, found.GetErrors()...), err
	case "mode": // SUBJECT MODE
		found, err := registry.SetCompatibilityMode(background, &schema.SetCompatibilityModeRequest{
			Subject: words[0], CompatibilityMode: words[1],
		})
		return []string{strconv.FormatBool(found.GetSuccess())}, err
	case "configure": // TOPIC SUBJECT POLICY
		found, err := registry.ConfigureTopicSchema(background, &schema.ConfigureTopicSchemaRequest{
			TopicName: words[0], SchemaSubject: words[1], ValidationPolicy: words[2], EnablePayloadValidation: true,
		})
		return []string{strconv.FormatBool(found.GetSuccess())}, err
	default:
		return nil, fmt.Errorf("no command is called %s", command)
	}
}
