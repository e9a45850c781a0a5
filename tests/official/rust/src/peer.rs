//! What the scenarios need of a client, and what they check with.

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const OUTAGE_MAX: Duration = Duration::from_secs(180);
pub const PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Exclusive,
    Shared,
    FailOver,
}

/// A received message; `whole` is what the client acknowledges.
pub struct Message<Whole> {
    pub payload: Vec<u8>,
    pub attributes: HashMap<String, String>,
    pub topic: String,
    pub whole: Whole,
}

impl<Whole> Message<Whole> {
    pub fn number(&self) -> Result<usize> {
        Ok(std::str::from_utf8(&self.payload)?.parse()?)
    }
}

pub trait Client {
    type Producer: Producer + Send + 'static;
    type Consumer: Consumer + Send + 'static;

    /// How long an application waits before it asks again after a refusal.
    const PATIENCE: Duration;

    /// Create a producer; 0 partitions are none.
    fn producer(
        &self,
        topic: &str,
        reliable: bool,
        partitions: usize,
    ) -> impl Future<Output = Result<Self::Producer>> + Send;

    /// Subscribe as `sub`, and open the stream.
    fn consumer(
        &self,
        topic: &str,
        name: &str,
        kind: Kind,
    ) -> impl Future<Output = Result<Self::Consumer>> + Send;
}

pub trait Producer {
    fn send(
        &mut self,
        payload: Vec<u8>,
        attributes: HashMap<String, String>,
    ) -> impl Future<Output = Result<()>> + Send;
}

pub trait Consumer {
    type Whole: Send;

    /// The next message; an error once the client's channel has ended.
    fn take(&mut self) -> impl Future<Output = Result<Message<Self::Whole>>> + Send;
    fn ack(&mut self, whole: &Self::Whole) -> impl Future<Output = Result<()>> + Send;
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// The next message, within the deadline.
pub async fn taken<C: Consumer>(consumer: &mut C) -> Result<Message<C::Whole>> {
    tokio::time::timeout(DEADLINE, consumer.take())
        .await
        .context("no message came in time")?
}

/// The next message, which must have this number, acknowledged.
pub async fn take_number<C: Consumer>(consumer: &mut C, number: usize) -> Result<()> {
    let message = taken(consumer).await?;
    ensure!(
        message.number()? == number,
        "message {number} was expected, not {}",
        message.number()?
    );
    consumer.ack(&message.whole).await
}

pub async fn send_number<P: Producer>(producer: &mut P, number: usize) -> Result<()> {
    producer
        .send(number.to_string().into_bytes(), HashMap::new())
        .await
}

/// Repeat what fails, until it succeeds or the longest outage is over.
pub async fn repeated<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + OUTAGE_MAX;
    loop {
        match call().await {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// Say that it is the operator's turn.
pub fn ready() -> Result<()> {
    println!("ready");
    Ok(std::io::stdout().flush()?)
}

/// Say that it is the operator's turn, and wait for a line.
pub async fn operator() -> Result<()> {
    ready()?;
    BufReader::new(tokio::io::stdin())
        .read_line(&mut String::new())
        .await?;
    Ok(())
}
