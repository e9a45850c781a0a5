//! Times the official client `danube-client` 0.2.0 against a running platform; prints one JSON object.
//!
//!     danube-rust-bench URL produce KIND PRODUCERS SECONDS SIZE
//!     danube-rust-bench URL consume KIND PRODUCERS SECONDS SIZE
//!
//! KIND is `non-reliable`, `memory` or `disk`. All producers share the one connection of one client, and each has
//! one call in flight. `consume` also receives on an exclusive subscription and awaits each acknowledgement before
//! it takes the next message.

use danube_client::{
    ConfigDispatchStrategy, DanubeClient, ReliableOptions, RetentionPolicy, SchemaType, StorageType, SubType,
};
use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const WARM_UP: Duration = Duration::from_secs(1);
/// A consumer that receives nothing for so long has got everything it will get.
const QUIET: Duration = Duration::from_secs(3);
const STAMP_BYTES: usize = 24;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    url: String,
    topic: String,
    kind: String,
    producers: u64,
    duration: Duration,
    size: usize,
}

/// What one producer did after the warm-up, and all it sent.
struct Produced {
    sent: u64,
    latencies_us: Vec<u64>,
}

/// What the consumer received after the warm-up, and all it received.
struct Consumed {
    received: u64,
    distinct: u64,
    reordered: u64,
    latencies_us: Vec<u64>,
    elapsed: Duration,
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn strategy(kind: &str) -> Option<ConfigDispatchStrategy> {
    let storage = match kind {
        "non-reliable" => return Some(ConfigDispatchStrategy::NonReliable),
        "memory" => StorageType::InMemory,
        "disk" => StorageType::Disk("bench".to_string()),
        _ => return None,
    };
    let options = ReliableOptions::new(20, storage, RetentionPolicy::RetainUntilExpire, 600);
    Some(ConfigDispatchStrategy::Reliable(options))
}

/// Each payload begins with the producer's number, the message's number and the time of sending.
fn stamp(payload: &mut [u8], producer: u64, number: u64) {
    payload[..8].copy_from_slice(&producer.to_be_bytes());
    payload[8..16].copy_from_slice(&number.to_be_bytes());
    payload[16..STAMP_BYTES].copy_from_slice(&now_ns().to_be_bytes());
}

fn word(payload: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(payload[at..at + 8].try_into().unwrap())
}

async fn new_producer(
    client: &DanubeClient,
    options: &Options,
    number: u64,
) -> Result<danube_client::Producer, Failure> {
    let mut producer = client
        .new_producer()
        .with_topic(options.topic.clone())
        .with_name(format!("bench-{number}"))
        .with_schema("bench".to_string(), SchemaType::Bytes)
        .with_dispatch_strategy(strategy(&options.kind).unwrap())
        .build();
    producer.create().await?;
    Ok(producer)
}

async fn produce(
    producer: danube_client::Producer,
    number: u64,
    size: usize,
    begins: Instant,
    ends: Instant,
) -> Result<Produced, Failure> {
    let mut produced = Produced { sent: 0, latencies_us: Vec::new() };
    while Instant::now() < ends {
        let mut payload = vec![b'x'; size];
        stamp(&mut payload, number, produced.sent);
        let began = Instant::now();
        producer.send(payload, None).await?;
        produced.sent += 1;
        if began >= begins {
            produced.latencies_us.push(began.elapsed().as_micros() as u64);
        }
    }
    Ok(produced)
}

async fn consume(
    mut consumer: danube_client::Consumer,
    producers: u64,
    begins: Instant,
) -> Result<Consumed, Failure> {
    let mut stream = consumer.receive().await?;
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut highest = vec![None; producers as usize];
    let mut consumed = Consumed {
        received: 0,
        distinct: 0,
        reordered: 0,
        latencies_us: Vec::new(),
        elapsed: Duration::ZERO,
    };
    while let Ok(Some(message)) = tokio::time::timeout(QUIET, stream.recv()).await {
        let (producer, number) = (word(&message.payload, 0), word(&message.payload, 8));
        let latency_us = now_ns().saturating_sub(word(&message.payload, 16)) / 1000;
        consumer.ack(&message).await?;
        consumed.received += 1;
        if seen.insert((producer, number)) {
            let last = &mut highest[producer as usize];
            if last.is_some_and(|last| number < last) {
                consumed.reordered += 1;
            }
            *last = (*last).max(Some(number));
        }
        if Instant::now() >= begins {
            consumed.latencies_us.push(latency_us);
            consumed.elapsed = begins.elapsed();
        }
    }
    consumed.distinct = seen.len() as u64;
    Ok(consumed)
}

fn quantile_us(sorted: &[u64], part: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part) as usize).copied().unwrap_or(0)
}

fn latencies(mut taken: Vec<u64>) -> String {
    taken.sort_unstable();
    format!(
        "{{\"count\": {}, \"p50_us\": {}, \"p99_us\": {}, \"max_us\": {}}}",
        taken.len(),
        quantile_us(&taken, 0.5),
        quantile_us(&taken, 0.99),
        quantile_us(&taken, 1.0)
    )
}

fn options() -> Option<(Options, bool)> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, command, kind, producers, seconds, size] = arguments.as_slice() else { return None };
    strategy(kind)?;
    if command != "produce" && command != "consume" {
        return None;
    }
    let size: usize = size.parse().ok().filter(|size| *size >= STAMP_BYTES)?;
    let seconds: f64 = seconds.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds))?;
    let producers: u64 = producers.parse().ok().filter(|count| (1..=1000).contains(count))?;
    let options = Options {
        url: url.clone(),
        topic: format!("/default/rust-bench-{}", now_ns()),
        kind: kind.clone(),
        producers,
        duration: Duration::from_secs_f64(seconds),
        size,
    };
    Some((options, command == "consume"))
}

async fn run(options: Options, consuming: bool) -> Result<(), Failure> {
    let client = DanubeClient::builder().service_url(options.url.clone()).build()?;
    let mut producers = Vec::new();
    for number in 0..options.producers {
        producers.push(new_producer(&client, &options, number).await?);
    }
    let mut consumer = None;
    if consuming {
        let mut subscribed = client
            .new_consumer()
            .with_topic(options.topic.clone())
            .with_consumer_name("bench".to_string())
            .with_subscription("bench".to_string())
            .with_subscription_type(SubType::Exclusive)
            .build();
        subscribed.subscribe().await?;
        consumer = Some(subscribed);
    }
    let begins = Instant::now() + WARM_UP;
    let ends = begins + options.duration;
    let receiving = consumer.map(|one| tokio::spawn(consume(one, options.producers, begins)));
    let sending: Vec<_> = producers
        .into_iter()
        .enumerate()
        .map(|(number, one)| tokio::spawn(produce(one, number as u64, options.size, begins, ends)))
        .collect();
    let (mut sent, mut taken) = (0, Vec::new());
    for task in sending {
        let produced = task.await??;
        sent += produced.sent;
        taken.extend(produced.latencies_us);
    }
    let seconds = begins.elapsed().as_secs_f64();
    let per_s = taken.len() as f64 / seconds;
    print!("{{\"kind\": \"{}\", \"producers\": {}, \"size_bytes\": {}, ", options.kind, options.producers, options.size);
    print!("\"sent\": {sent}, \"publish_per_s\": {per_s:.1}, \"publish\": {}", latencies(taken));
    if let Some(receiving) = receiving {
        let consumed = receiving.await??;
        let per_s = consumed.latencies_us.len() as f64 / consumed.elapsed.as_secs_f64().max(1e-9);
        print!(", \"received\": {}, \"lost\": {}, ", consumed.received, sent - consumed.distinct);
        print!("\"duplicated\": {}, \"reordered\": {}, ", consumed.received - consumed.distinct, consumed.reordered);
        print!("\"consume_per_s\": {per_s:.1}, \"end_to_end\": {}", latencies(consumed.latencies_us));
    }
    println!("}}");
    Ok(())
}

#[tokio::main]
async fn main() {
    let Some((options, consuming)) = options() else {
        eprintln!("usage: danube-rust-bench URL produce|consume non-reliable|memory|disk PRODUCERS SECONDS SIZE");
        std::process::exit(2);
    };
    if let Err(error) = run(options, consuming).await {
        eprintln!("Error: {error}");
        std::process::exit(1);
    }
}
