//! The scenarios that clients of both generations can play.

use std::collections::{HashMap, HashSet};

use anyhow::{bail, ensure, Context, Result};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, Instant};

use crate::peer::{
    operator, ready, repeated, send_number, take_number, taken, Client, Consumer, Kind, Producer, DEADLINE,
    OUTAGE_MAX, PAUSE,
};

const HELLO: &[u8] = b"hello";

/// Run the scenario of this name; false if there is none.
pub async fn run<C: Client>(client: &C, name: &str, topic: &str, count: usize) -> Result<bool> {
    match name {
        "plain" => plain(client, topic, count).await?,
        "reliable" => reliable(client, topic, count).await?,
        "partitioned" => partitioned(client, topic, count).await?,
        "shared" => shared(client, topic, count).await?,
        "failover" => failover(client, topic, count).await?,
        "exclusive" => exclusive(client, topic).await?,
        "survive" => survive(client, topic, count).await?,
        "no_hot_loop" => no_hot_loop(client, topic).await?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Non-reliable messages reach a consumer that is connected.
async fn plain<C: Client>(client: &C, topic: &str, count: usize) -> Result<()> {
    let mut producer = client.producer(topic, false, 0).await?;
    let mut consumer = client.consumer(topic, "rust", Kind::Exclusive).await?;
    let deadline = Instant::now() + DEADLINE;
    let mut first = loop {
        ensure!(Instant::now() < deadline, "the stream was not open in time");
        producer.send(HELLO.to_vec(), HashMap::new()).await?;
        if let Ok(message) = timeout(PAUSE, consumer.take()).await {
            break Some(message?); // its stream is open
        }
    };
    for number in 0..count {
        send_number(&mut producer, number).await?;
        loop {
            let message = match first.take() {
                Some(message) => message,
                None => taken(&mut consumer).await?,
            };
            if message.payload != HELLO {
                ensure!(message.number()? == number, "{number} was expected");
                break;
            }
        }
    }
    consumer.close().await;
    Ok(())
}

/// Messages come in order with their attributes; what was not acknowledged comes again.
async fn reliable<C: Client>(client: &C, topic: &str, count: usize) -> Result<()> {
    let mut producer = client.producer(topic, true, 0).await?;
    let mut consumer = client.consumer(topic, "rust", Kind::Exclusive).await?;
    for number in 0..count {
        let attributes = HashMap::from([("number".to_string(), number.to_string())]);
        producer
            .send(number.to_string().into_bytes(), attributes.clone())
            .await?;
        let message = taken(&mut consumer).await?;
        ensure!(
            message.number()? == number && message.attributes == attributes,
            "{number} was expected"
        );
        if number < count - 1 {
            consumer.ack(&message.whole).await?;
        }
    }
    consumer.close().await;
    let mut again = client.consumer(topic, "rust", Kind::Exclusive).await?;
    take_number(&mut again, count - 1).await?;
    again.close().await;
    Ok(())
}

/// A topic of three partitions gives every message once, to a consumer that knows nothing of partitions.
async fn partitioned<C: Client>(client: &C, topic: &str, count: usize) -> Result<()> {
    let mut producer = client.producer(topic, true, 3).await?;
    let mut consumer = client.consumer(topic, "rust", Kind::Exclusive).await?;
    for number in 0..count {
        send_number(&mut producer, number).await?;
    }
    let (mut numbers, mut topics) = (HashSet::new(), HashSet::new());
    while numbers.len() < count {
        let message = taken(&mut consumer).await?;
        ensure!(
            numbers.insert(message.number()?),
            "{} came twice",
            message.number()?
        );
        topics.insert(message.topic.clone());
        consumer.ack(&message.whole).await?;
    }
    ensure!(topics.len() == 3, "three partitions, not {topics:?}");
    consumer.close().await;
    Ok(())
}

/// Two consumers share the messages: each comes once, and each consumer gets some.
async fn shared<C: Client>(client: &C, topic: &str, count: usize) -> Result<()> {
    let mut producer = client.producer(topic, true, 0).await?;
    let (tell, mut told) = mpsc::channel(100);
    let mut tasks = Vec::new();
    for which in 0..2_usize {
        let mut consumer = client.consumer(topic, &format!("c{which}"), Kind::Shared).await?;
        let tell = tell.clone();
        tasks.push(tokio::spawn(async move {
            loop {
                let message = consumer.take().await?;
                consumer.ack(&message.whole).await?;
                tell.send((which, message.number()?)).await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), anyhow::Error>(())
        }));
    }
    let (mut numbers, mut shares, mut sent) = (HashSet::new(), [0, 0], 0);
    let deadline = Instant::now() + DEADLINE;
    while sent < count || shares.contains(&0) || numbers.len() < sent {
        ensure!(
            Instant::now() < deadline,
            "each gets some in time, not {shares:?} of {sent}"
        );
        if sent < count || shares.contains(&0) {
            send_number(&mut producer, sent).await?;
            sent += 1;
        }
        while let Ok(Some((which, number))) = timeout(PAUSE / 10, told.recv()).await {
            ensure!(numbers.insert(number), "{number} came twice");
            shares[which] += 1;
        }
    }
    tasks.iter().for_each(|task| task.abort());
    Ok(())
}

/// The second consumer goes on, in order, where the first one stopped.
async fn failover<C: Client>(client: &C, topic: &str, count: usize) -> Result<()> {
    let mut producer = client.producer(topic, true, 0).await?;
    let mut first = client.consumer(topic, "first", Kind::FailOver).await?;
    send_number(&mut producer, 0).await?;
    take_number(&mut first, 0).await?;
    let mut second = client.consumer(topic, "second", Kind::FailOver).await?;
    for number in 1..count {
        send_number(&mut producer, number).await?;
    }
    for number in 1..count / 2 {
        take_number(&mut first, number).await?;
    }
    ensure!(
        timeout(PAUSE, second.take()).await.is_err(),
        "the one that stands by gets nothing"
    );
    first.close().await;
    for number in count / 2..count {
        take_number(&mut second, number).await?;
    }
    second.close().await;
    Ok(())
}

/// A second exclusive consumer is refused, with a reason, while the first one is there.
async fn exclusive<C: Client>(client: &C, topic: &str) -> Result<()> {
    let mut producer = client.producer(topic, true, 0).await?;
    let mut consumer = client.consumer(topic, "first", Kind::Exclusive).await?;
    match client.consumer(topic, "second", Kind::Exclusive).await {
        Ok(_) => bail!("a second exclusive consumer was let in"),
        Err(error) => println!("refused: {error:#}"),
    }
    send_number(&mut producer, 0).await?;
    take_number(&mut consumer, 0).await?;
    consumer.close().await;
    Ok(())
}

/// Nothing that was answered is lost while the operator kills and restarts services; order is kept.
async fn survive<C: Client>(client: &C, topic: &str, count: usize) -> Result<()> {
    let producer = client.producer(topic, true, 0).await?;
    let consumer = client.consumer(topic, "rust", Kind::Exclusive).await?;
    let (sent, received) = tokio::try_join!(
        publish(client, producer, topic, count),
        receive(client, consumer, topic, count)
    )?;
    println!(
        "made again: producers {sent}, consumers {}; repetitions: {}",
        received.0, received.1
    );
    Ok(())
}

async fn publish<C: Client>(
    client: &C,
    mut producer: C::Producer,
    topic: &str,
    count: usize,
) -> Result<usize> {
    let mut again = 0;
    for number in 0..count {
        if number == count / 10 {
            ready()?;
        }
        let deadline = Instant::now() + OUTAGE_MAX;
        while let Err(error) = timeout(OUTAGE_MAX, send_number(&mut producer, number)).await? {
            ensure!(Instant::now() < deadline, "not published in time: {error:#}");
            sleep(PAUSE).await;
            producer = repeated(|| client.producer(topic, true, 0)).await?;
            again += 1;
        }
    }
    Ok(again)
}

/// Returns how often the consumer was made again, and how many messages came again.
async fn receive<C: Client>(
    client: &C,
    mut consumer: C::Consumer,
    topic: &str,
    count: usize,
) -> Result<(usize, usize)> {
    let (mut missing, mut highest): (HashSet<usize>, Option<usize>) = ((0..count).collect(), None);
    let (mut again, mut repetitions) = (0, 0);
    while !missing.is_empty() {
        let message = timeout(OUTAGE_MAX, consumer.take()).await.with_context(|| {
            format!(
                "nothing came for {OUTAGE_MAX:?}: {} are missing after {highest:?}",
                missing.len()
            )
        })?;
        if let Ok(message) = message {
            let number = message.number()?;
            let next = highest.map_or(0, |highest| highest + 1);
            ensure!(number <= next, "{number} comes after {highest:?}: out of order");
            highest = highest.max(Some(number));
            repetitions += usize::from(number < next);
            if consumer.ack(&message.whole).await.is_ok() {
                missing.remove(&number);
                continue;
            }
        }
        consumer.close().await; // it has ended, or cannot acknowledge
        consumer = repeated(|| client.consumer(topic, "rust", Kind::Exclusive)).await?;
        again += 1;
    }
    Ok((again, repetitions))
}

/// A second consumer is refused for good, and asks again; then the operator has two turns.
async fn no_hot_loop<C: Client>(client: &C, topic: &str) -> Result<()> {
    let mut producer = client.producer(topic, true, 0).await?;
    let mut consumer = client.consumer(topic, "rust", Kind::Exclusive).await?;
    send_number(&mut producer, 0).await?;
    take_number(&mut consumer, 0).await?;
    let refused = async {
        loop {
            if client.consumer(topic, "second", Kind::Exclusive).await.is_ok() {
                println!("a second exclusive consumer was let in");
            }
            sleep(C::PATIENCE).await;
        }
    };
    tokio::select! {
        _ = refused => (),
        turn = operator() => turn?,
    }
    operator().await?; // ends the stream
    operator().await // deletes the topic
}
