//! NATS: core, and JetStream with a file store, synced always or as it is by default.

use std::process::Command;

use anyhow::{Context, Result, anyhow};
use async_nats::{
    Client, ConnectOptions, Message, Subject, Subscriber,
    jetstream::{
        self,
        consumer::{AckPolicy, push},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    exchange::{Inlet, Outbox, Protocol},
    server::{NAME, Place, Server, program},
    window::Window,
};
use crate::{load::PAYLOAD, report::Options};

pub(super) const PROGRAM: &str = "nats-server";
const STREAM: &str = "bench";
const DELIVERED: &str = "bench-delivered";

/// Whether messages are kept, and when they are on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    /// The default: acknowledged first, synced every two minutes.
    Later,
    /// Synced before each acknowledgement.
    Synced,
}

pub(super) fn start(keep: Keep, options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let store = match keep {
        Keep::Nothing => String::new(),
        Keep::Later => format!("jetstream {{ store_dir: {:?} }}\n", place.folder()),
        Keep::Synced => format!("jetstream {{ store_dir: {:?}, sync_interval: always }}\n", place.folder()),
    };
    let config = format!(
        "listen: \"127.0.0.1:{}\"\ntls {{ cert_file: {:?}, key_file: {:?}, min_version: \"1.3\" }}\n{store}",
        place.port,
        place.certificate(),
        place.key()
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(PROGRAM)?).arg("--config").arg(config))
}

async fn connect(server: &Server) -> Result<Client> {
    let options = ConnectOptions::new().require_tls(true).tls_client_config(server.tls()?);
    Ok(options.connect(format!("tls://{NAME}:{}", server.place().port)).await?)
}

/// Core: a subscription, nothing kept, nothing acknowledged.
pub(super) struct Core;

impl Protocol for Core {
    type Outbox = Publisher;
    type Inlet = Subscription;
    const ACKNOWLEDGES: bool = false;

    async fn receiver(server: &Server, topic: u32, _number: u32) -> Result<Subscription> {
        let client = connect(server).await?;
        let messages = client.subscribe(subject(topic)).await?;
        client.flush().await?;
        Ok(Subscription { _client: client, messages })
    }

    async fn sender(server: &Server, topic: u32, _window: Window) -> Result<Publisher> {
        Ok(Publisher { client: connect(server).await?, subject: subject(topic) })
    }
}

/// JetStream: one replica in a file, delivered by a push consumer that asks for no acknowledgement, which is
/// its fastest way.
pub(super) struct Stream;

impl Protocol for Stream {
    type Outbox = Streamed;
    type Inlet = Pushed;

    async fn prepare(server: &Server) -> Result<()> {
        let config = jetstream::stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{STREAM}.*")],
            storage: jetstream::stream::StorageType::File,
            ..Default::default()
        };
        jetstream::new(connect(server).await?).create_stream(config).await?;
        Ok(())
    }

    async fn receiver(server: &Server, topic: u32, number: u32) -> Result<Pushed> {
        let stream = jetstream::new(connect(server).await?).get_stream(STREAM).await?;
        let consumer = push::Config {
            deliver_subject: format!("{DELIVERED}.{topic}.{number}"),
            filter_subject: subject(topic).to_string(),
            ack_policy: AckPolicy::None,
            ..Default::default()
        };
        Ok(Pushed { messages: stream.create_consumer(consumer).await?.messages().await? })
    }

    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Streamed> {
        Ok(Streamed { context: jetstream::new(connect(server).await?), subject: subject(topic), window })
    }
}

fn subject(topic: u32) -> Subject {
    format!("{STREAM}.{topic}").into()
}

pub(super) struct Publisher {
    client: Client,
    subject: Subject,
}

impl Outbox for Publisher {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        Ok(self.client.publish(self.subject.clone(), Bytes::copy_from_slice(&payload)).await?)
    }
}

pub(super) struct Subscription {
    _client: Client,
    messages: Subscriber,
}

impl Inlet for Subscription {
    async fn receive(&mut self) -> Result<Bytes> {
        let Message { payload, .. } = self.messages.next().await.context("the subscription ended")?;
        Ok(payload)
    }
}

pub(super) struct Streamed {
    context: jetstream::Context,
    subject: Subject,
    window: Window,
}

impl Outbox for Streamed {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        let answer = self.context.publish(self.subject.clone(), Bytes::copy_from_slice(&payload)).await?;
        let window = self.window.clone();
        tokio::spawn(async move { window.settle(answer.await) });
        Ok(())
    }
}

pub(super) struct Pushed {
    messages: push::Messages,
}

impl Inlet for Pushed {
    async fn receive(&mut self) -> Result<Bytes> {
        let message = self.messages.next().await.context("the consumer ended")?;
        Ok(message.map_err(|error| anyhow!(error))?.payload.clone())
    }
}
