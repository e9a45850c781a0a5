//! `danube-client` 0.2.0. Run as `v0_2 URL SCENARIO TOPIC COUNT`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use danube_client_v0_2::{
    ConfigDispatchStrategy, DanubeClient, ReliableOptions, RetentionPolicy, StorageType, StreamMessage,
    SubType,
};
use official_rust::peer::{Client, Consumer, Kind, Message, Producer};
use official_rust::scenarios;
use tokio::sync::mpsc::Receiver;

/// Makes a client for each producer and consumer: one of this version does not connect again.
struct First(String);
struct Sender(danube_client_v0_2::Producer);
struct Taker(danube_client_v0_2::Consumer, Receiver<StreamMessage>);

impl First {
    fn client(&self) -> Result<DanubeClient> {
        Ok(DanubeClient::builder().service_url(&self.0).build()?)
    }
}

impl Client for First {
    type Producer = Sender;
    type Consumer = Taker;

    /// The platform answers a refusal of this generation at once.
    const PATIENCE: Duration = Duration::from_secs(2);

    async fn producer(&self, topic: &str, reliable: bool, partitions: usize) -> Result<Sender> {
        let mut builder = self.client()?.new_producer().with_topic(topic).with_name("rust");
        if reliable {
            let storage = StorageType::Disk("official".into());
            let options = ReliableOptions::new(20, storage, RetentionPolicy::RetainUntilAck, 3600);
            builder = builder.with_dispatch_strategy(ConfigDispatchStrategy::Reliable(options));
        }
        if partitions > 0 {
            builder = builder.with_partitions(partitions);
        }
        let mut producer = builder.build();
        producer.create().await?;
        Ok(Sender(producer))
    }

    async fn consumer(&self, topic: &str, name: &str, kind: Kind) -> Result<Taker> {
        let builder = self
            .client()?
            .new_consumer()
            .with_topic(topic)
            .with_consumer_name(name);
        let mut consumer = builder
            .with_subscription("sub")
            .with_subscription_type(match kind {
                Kind::Exclusive => SubType::Exclusive,
                Kind::Shared => SubType::Shared,
                Kind::FailOver => SubType::FailOver,
            })
            .build();
        consumer.subscribe().await?;
        let messages = consumer.receive().await?;
        Ok(Taker(consumer, messages))
    }
}

impl Producer for Sender {
    async fn send(&mut self, payload: Vec<u8>, attributes: HashMap<String, String>) -> Result<()> {
        self.0.send(payload, Some(attributes)).await?;
        Ok(())
    }
}

impl Consumer for Taker {
    type Whole = StreamMessage;

    async fn take(&mut self) -> Result<Message<StreamMessage>> {
        let whole = self.1.recv().await.context("the consumer has ended")?;
        Ok(Message {
            payload: whole.payload.clone(),
            attributes: whole.attributes.clone(),
            topic: whole.msg_id.topic_name.clone(),
            whole,
        })
    }

    async fn ack(&mut self, whole: &StreamMessage) -> Result<()> {
        Ok(self.0.ack(whole).await?)
    }

    /// Its stream ends with the next message, as nobody takes it.
    async fn close(self) {}
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, scenario, topic, count] = &arguments[..] else {
        bail!("usage: v0_2 URL SCENARIO TOPIC COUNT");
    };
    let client = First(url.clone());
    ensure!(
        scenarios::run(&client, scenario, topic, count.parse()?).await?,
        "no scenario is called {scenario}"
    );
    println!("{scenario}: done");
    Ok(())
}
