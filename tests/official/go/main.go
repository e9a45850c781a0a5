// Command peer calls the platform in the order of the official Go client, with grpc-go. It is not that client.
// With the build tag v0_2 it makes the calls of v0.2; what makes it try again is the same.
//
// Run as `peer URL`. It reads a command a line and answers each with a line; commands run at the same time:
// see tests/official/python/line_client.py.
package main

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"official/danube"
)

type peer struct {
	client *client
	mutex  sync.Mutex
	things map[string]any
	output sync.Mutex
}

func main() {
	client, err := newClient(os.Args[1])
	if err != nil {
		panic(err)
	}
	peer := &peer{client: client, things: map[string]any{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		words := strings.Split(lines.Text(), "\t")
		for index, word := range words {
			if words[index], err = url.QueryUnescape(word); err != nil {
				panic(err)
			}
		}
		go func() {
			found, err := peer.run(words[1], words[2:])
			if err != nil {
				peer.say(words[0], "error", status.Code(err).String(), err.Error())
			} else {
				peer.say(append([]string{words[0], "ok"}, found...)...)
			}
		}()
	}
}

func (p *peer) say(words ...string) {
	for index, word := range words {
		words[index] = url.QueryEscape(word)
	}
	p.output.Lock()
	defer p.output.Unlock()
	fmt.Println(strings.Join(words, "\t"))
}

func (p *peer) keep(thing any) string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	handle := strconv.Itoa(len(p.things))
	p.things[handle] = thing
	return handle
}

func (p *peer) producer(handle string) *producer {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.things[handle].(*producer)
}

func (p *peer) consumer(handle string) *consumer {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.things[handle].(*consumer)
}

func (p *peer) run(command string, words []string) ([]string, error) {
	switch command {
	case "producer": // TOPIC NAME STRATEGY PARTITIONS SUBJECT
		strategy := danube.DispatchStrategy(number(words[2]))
		made, err := p.client.produce(words[0], words[1], strategy, number(words[3]), words[4])
		if err != nil {
			return nil, err
		}
		return []string{p.keep(made)}, nil
	case "send": // PRODUCER PAYLOAD KEY [NAME VALUE]...
		return nil, p.producer(words[0]).send([]byte(words[1]), words[2], pairs(words[3:]))
	case "consumer": // TOPIC NAME TYPE FILTER...
		kind := danube.ConsumerRequest_SubscriptionType(number(words[2]))
		made, err := p.client.consume(words[0], words[1], kind, words[3:])
		if err != nil {
			time.Sleep(patience)
			return nil, err
		}
		return []string{p.keep(made)}, nil
	case "take": // CONSUMER MILLISECONDS
		return p.consumer(words[0]).take(time.Duration(number(words[1])) * time.Millisecond)
	case "ack": // CONSUMER TAG
		return nil, p.consumer(words[0]).ack(words[1])
	case "nack": // CONSUMER TAG MILLISECONDS REASON
		return nil, p.consumer(words[0]).nack(words[1], uint64(number(words[2])), words[3])
	case "close": // CONSUMER
		p.consumer(words[0]).close()
		return nil, nil
	default:
		return p.client.schemas(command, words)
	}
}

func number(word string) int {
	parsed, err := strconv.Atoi(word)
	if err != nil {
		panic(err)
	}
	return parsed
}

func pairs(words []string) map[string]string {
	found := map[string]string{}
	for index := 0; index+1 < len(words); index += 2 {
		found[words[index]] = words[index+1]
	}
	return found
}
