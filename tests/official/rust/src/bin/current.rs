//! `danube-client` 0.15.1. Run as `current URL SCENARIO TOPIC COUNT`; `DANUBE_TOKEN` and `DANUBE_CA` secure it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use danube_client::{CompatibilityMode, DanubeClient, SchemaType, SubType};
use official_rust::peer::{
    operator, repeated, send_number, taken, Client, Consumer, Kind, Message, Producer, DEADLINE, PAUSE,
};
use official_rust::scenarios;
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, Instant};

struct Current(DanubeClient);
struct Sender(danube_client::Producer);
struct Taker(
    danube_client::Consumer,
    Receiver<danube_core::message::StreamMessage>,
);

impl Current {
    async fn subscribe(&self, topic: &str, name: &str, kind: SubType, filters: &[&str]) -> Result<Taker> {
        let mut consumer = self
            .0
            .new_consumer()
            .with_topic(topic)
            .with_consumer_name(name)
            .with_subscription("sub")
            .with_subscription_type(kind)
            .with_key_filters(filters.iter().map(ToString::to_string).collect())
            .build()?;
        consumer.subscribe().await?;
        let messages = consumer.receive().await?;
        Ok(Taker(consumer, messages))
    }
}

impl Client for Current {
    type Producer = Sender;
    type Consumer = Taker;

    const PATIENCE: Duration = Duration::ZERO;

    async fn producer(&self, topic: &str, reliable: bool, partitions: usize) -> Result<Sender> {
        let mut builder = self.0.new_producer().with_topic(topic).with_name("rust");
        if reliable {
            builder = builder.with_reliable_dispatch();
        }
        if partitions > 0 {
            builder = builder.with_partitions(partitions);
        }
        let mut producer = builder.build()?;
        producer.create().await?;
        Ok(Sender(producer))
    }

    async fn consumer(&self, topic: &str, name: &str, kind: Kind) -> Result<Taker> {
        let kind = match kind {
            Kind::Exclusive => SubType::Exclusive,
            Kind::Shared => SubType::Shared,
            Kind::FailOver => SubType::FailOver,
        };
        self.subscribe(topic, name, kind, &[]).await
    }
}

impl Producer for Sender {
    async fn send(&mut self, payload: Vec<u8>, attributes: HashMap<String, String>) -> Result<()> {
        self.0.send(payload, Some(attributes)).await?;
        Ok(())
    }
}

impl Consumer for Taker {
    type Whole = danube_core::message::StreamMessage;

    async fn take(&mut self) -> Result<Message<Self::Whole>> {
        let whole = self.1.recv().await.context("the consumer has ended")?;
        Ok(Message {
            payload: whole.payload.to_vec(),
            attributes: whole.attributes.clone(),
            topic: whole.msg_id.topic_name.clone(),
            whole,
        })
    }

    async fn ack(&mut self, whole: &Self::Whole) -> Result<()> {
        Ok(self.0.ack(whole).await?)
    }

    async fn close(mut self) {
        self.0.close().await;
    }
}

/// What was refused comes again.
async fn nack(client: &Current, topic: &str) -> Result<()> {
    let mut producer = client.producer(topic, true, 0).await?;
    let mut consumer = client.consumer(topic, "rust", Kind::Shared).await?;
    send_number(&mut producer, 0).await?;
    let message = taken(&mut consumer).await?;
    consumer
        .0
        .nack(&message.whole, Some(0), Some("on purpose".into()))
        .await?;
    let again = taken(&mut consumer).await?;
    ensure!(again.number()? == 0, "the message that failed");
    consumer.ack(&again.whole).await?;
    consumer.close().await;
    Ok(())
}

/// Of a key-shared subscription each consumer gets the keys of its filter, each key in order.
async fn keys(client: &Current, topic: &str, count: usize) -> Result<()> {
    const KEYS: [&str; 3] = ["east-1", "west-1", "east-2"];
    let producer = client.producer(topic, true, 0).await?;
    let east = client
        .subscribe(topic, "east", SubType::KeyShared, &["east-*"])
        .await?;
    let rest = client.subscribe(topic, "rest", SubType::KeyShared, &[]).await?;
    for number in 0..count {
        producer
            .0
            .send_with_key(number.to_string().into_bytes(), None, KEYS[number % 3])
            .await?;
    }
    for (mut consumer, eastern) in [(east, true), (rest, false)] {
        let wanted: Vec<usize> = (0..count).filter(|number| (number % 3 != 1) == eastern).collect();
        let mut seen = Vec::new();
        for _ in &wanted {
            let message = taken(&mut consumer).await?;
            let number = message.number()?;
            ensure!(
                message.whole.routing_key.as_deref() == Some(KEYS[number % 3]),
                "the key of {number}"
            );
            seen.push(number);
            consumer.ack(&message.whole).await?;
        }
        for key in 0..3 {
            let of = |numbers: &[usize]| -> Vec<usize> {
                numbers
                    .iter()
                    .copied()
                    .filter(|number| number % 3 == key)
                    .collect()
            };
            ensure!(of(&seen) == of(&wanted), "key {key} in order, not {seen:?}");
        }
        consumer.close().await;
    }
    Ok(())
}

/// What is refused too often lands in the dead-letter topic with its attributes and key; the rest goes on.
async fn dead_letters(client: &Current, topic: &str, count: usize) -> Result<()> {
    let producer = client.producer(topic, true, 0).await?;
    let mut consumer = client.consumer(topic, "rust", Kind::Shared).await?;
    operator().await?; // sets the policy
    for number in 0..count {
        let attributes = HashMap::from([("number".to_string(), number.to_string())]);
        producer
            .0
            .send_with_key(number.to_string().into_bytes(), Some(attributes), "key")
            .await?;
    }
    let (mut passed, mut refused) = (0, 0);
    while passed < count - 1 || refused < 2 {
        let message = taken(&mut consumer).await?;
        if message.number()? == 0 {
            refused += 1;
            consumer
                .0
                .nack(&message.whole, Some(0), Some("on purpose".into()))
                .await?;
        } else {
            passed += 1;
            consumer.ack(&message.whole).await?;
        }
    }
    let dead = format!("{topic}_dead");
    let mut letters = repeated(|| client.consumer(&dead, "rust", Kind::Exclusive)).await?;
    let letter = taken(&mut letters).await?;
    ensure!(letter.number()? == 0, "message 0");
    for (name, value) in [
        ("number", "0"),
        ("x-original-topic", topic),
        ("x-original-subscription", "sub"),
        ("x-failure-reason", "on purpose"),
    ] {
        ensure!(
            letter.attributes.get(name).map(String::as_str) == Some(value),
            "{name} in {:?}",
            letter.attributes
        );
    }
    ensure!(letter.whole.routing_key.as_deref() == Some("key"), "its key");
    letters.ack(&letter.whole).await?;
    letters.close().await;
    consumer.close().await;
    Ok(())
}

/// Subjects, versions, compatibility; a producer of a subject stamps what it sends.
async fn schemas(client: &Current, topic: &str, count: usize) -> Result<()> {
    let registry = client.0.schema();
    let subject = topic.rsplit('/').next().context("a topic has a name")?;
    let first = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}"#;
    let second = first.replace(']', r#", {"name": "b", "type": "string", "default": ""}]"#);
    let broken = first.replace("long", "string");
    let mut ids = Vec::new();
    for definition in [first, &second] {
        let version = registry.register_schema(subject).with_type(SchemaType::Avro);
        ids.push(version.with_schema_data(definition.as_bytes()).execute().await?);
    }
    ensure!(ids[0] == ids[1], "versions of a subject share its id");
    ensure!(registry.list_versions(subject).await? == [1, 2], "two versions");
    let one = registry.get_schema_version(ids[0], Some(1)).await?;
    ensure!(
        one.schema_definition == first.as_bytes(),
        "version 1 as it was given"
    );
    let latest = registry.get_latest_schema(subject).await?;
    ensure!(
        latest.version == 2 && latest.schema_definition == second.as_bytes(),
        "version 2 is the latest"
    );
    let check = || registry.check_compatibility(subject, broken.clone().into_bytes(), SchemaType::Avro, None);
    let verdict = check().await?;
    ensure!(
        !verdict.is_compatible && !verdict.errors.is_empty(),
        "a changed type is not compatible"
    );
    ensure!(
        registry
            .set_compatibility_mode(subject, CompatibilityMode::None)
            .await?
            .success,
        "the mode is set"
    );
    ensure!(
        check().await?.is_compatible,
        "anything is compatible by the mode none"
    );
    for version in [None, Some(1)] {
        let mut builder = client
            .0
            .new_producer()
            .with_topic(topic)
            .with_name("rust")
            .with_reliable_dispatch();
        builder = match version {
            Some(version) => builder.with_schema_version(subject, version),
            None => builder.with_schema_subject(subject),
        };
        let mut producer = builder.build()?;
        producer.create().await?;
        let mut consumer = client.consumer(topic, "rust", Kind::Exclusive).await?;
        for _ in 0..count {
            producer.send(vec![2, 0], None).await?;
            let message = taken(&mut consumer).await?;
            let stamped = (message.whole.schema_id, message.whole.schema_version);
            ensure!(
                stamped == (Some(ids[0]), version.or(Some(2))),
                "stamped, not {stamped:?}"
            );
            consumer.ack(&message.whole).await?;
        }
        consumer.close().await;
    }
    operator().await?; // has payloads validated
    let mut producer = client
        .0
        .new_producer()
        .with_topic(topic)
        .with_name("rust")
        .with_reliable_dispatch()
        .with_schema_subject(subject)
        .build()?;
    producer.create().await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        ensure!(
            Instant::now() < deadline,
            "a payload that breaks its schema is refused"
        );
        match producer.send(vec![2], None).await {
            Ok(_) => sleep(PAUSE).await, // a gateway notices the policy within moments
            Err(error) => {
                println!(
                    "refused: {:?}",
                    error.extract_status().map(|status| status.code())
                );
                return Ok(());
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, scenario, topic, count] = &arguments[..] else {
        bail!("usage: current URL SCENARIO TOPIC COUNT");
    };
    let (topic, count) = (topic.as_str(), count.parse()?);
    let mut builder = DanubeClient::builder().service_url(url);
    if let Ok(authority) = std::env::var("DANUBE_CA") {
        builder = builder.with_tls(authority)?;
    }
    if let Ok(token) = std::env::var("DANUBE_TOKEN") {
        builder = builder.with_token(token);
    }
    let client = Current(builder.build().await?);
    match scenario.as_str() {
        "nack" => nack(&client, topic).await?,
        "keys" => keys(&client, topic, count).await?,
        "dead_letters" => dead_letters(&client, topic, count).await?,
        "schemas" => schemas(&client, topic, count).await?,
        name => ensure!(
            scenarios::run(&client, name, topic, count).await?,
            "no scenario is called {name}"
        ),
    }
    println!("{scenario}: done");
    Ok(())
}
