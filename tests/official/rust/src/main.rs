//! The official Rust client: publishes, receives in order, acknowledges. Run as `official-rust URL TOPIC COUNT`.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use danube_client::{DanubeClient, SubType};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let (url, topic, count) = (&arguments[1], &arguments[2], arguments[3].parse::<usize>()?);
    let client = DanubeClient::builder().service_url(url).build().await?;
    let mut producer = client
        .new_producer()
        .with_topic(topic)
        .with_name("rust")
        .with_reliable_dispatch()
        .build()?;
    producer.create().await?;
    let mut consumer = client
        .new_consumer()
        .with_topic(topic)
        .with_consumer_name("rust")
        .with_subscription("sub")
        .with_subscription_type(SubType::Exclusive)
        .build()?;
    consumer.subscribe().await?;
    let mut messages = consumer.receive().await?;
    for number in 0..count {
        producer.send(number.to_string().into_bytes(), None).await?;
    }
    for number in 0..count {
        let message = tokio::time::timeout(DEADLINE, messages.recv())
            .await?
            .context("the stream has ended")?;
        ensure!(message.payload[..] == *number.to_string().as_bytes(), "message {number} was expected");
        consumer.ack(&message).await?;
    }
    println!("received {count} in order");
    Ok(())
}
