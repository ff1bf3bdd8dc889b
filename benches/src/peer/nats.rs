//! NATS: core, and JetStream with a file store, synced always or as it is by default.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context, Result, anyhow};
use async_nats::{
    ConnectOptions, Message, Subject, Subscriber,
    jetstream::{
        self,
        consumer::{AckPolicy, pull, push},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{
    exchange::{Inlet, Outbox, Protocol},
    server::{Place, Server, program},
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
    start_at(Ipv4Addr::LOCALHOST, keep, options)
}

fn start_at(host: Ipv4Addr, keep: Keep, options: &Options) -> Result<Server> {
    let place = Place::at(host, options)?;
    let store = match keep {
        Keep::Nothing => String::new(),
        Keep::Later => format!("jetstream {{ store_dir: {:?} }}\n", place.folder()),
        Keep::Synced => format!("jetstream {{ store_dir: {:?}, sync_interval: always }}\n", place.folder()),
    };
    let config = format!(
        "listen: \"{host}:{}\"\ntls {{ cert_file: {:?}, key_file: {:?}, min_version: \"1.3\" }}\n{store}",
        place.port,
        place.certificate(),
        place.key()
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(PROGRAM)?).arg("--config").arg(config))
}

async fn connect(server: &Server) -> Result<async_nats::Client> {
    let options = ConnectOptions::new().require_tls(true).tls_client_config(server.tls()?);
    Ok(options.connect(format!("tls://{}", server.address())).await?)
}

/// Core: a subscription, nothing kept, nothing acknowledged.
pub(crate) struct Core;

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
        let config = file_stream(STREAM, format!("{STREAM}.*"));
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

/// The stream that there is to catch up on.
const BULK: &str = "bulk";

/// What there is to catch up on.
#[derive(Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) messages: u64,
    pub(crate) bytes: usize,
}

/// A client that has quiet topics and a bulk on one connection. The quiet ones are core NATS, its fastest way; the bulk is read
/// by a pull consumer with the client's own defaults, again and again.
pub(crate) struct Client {
    quiet: Subscriber,
    bulk: Option<CatchUp>,
}

/// What came over the connection.
pub(crate) enum Came {
    Quiet { topic: u32, payload: Bytes },
    Bulk { bytes: usize },
}

impl Client {
    /// Whether a server can be started.
    ///
    /// # Errors
    /// It is not here; the message says how to get it.
    pub(crate) fn is_here() -> Result<()> {
        program(PROGRAM).map(drop)
    }

    /// Starts a server for it on an address of this thread's network.
    pub(crate) fn start(host: Ipv4Addr, options: &Options) -> Result<Server> {
        start_at(host, Keep::Later, options)
    }

    /// Writes the bulk.
    pub(crate) async fn prepare(server: &Server, bulk: Bulk) -> Result<()> {
        let context = jetstream::new(connect(server).await?);
        context.create_stream(file_stream(BULK, BULK.to_owned())).await?;
        for _ in 0..bulk.messages {
            context.publish(BULK, vec![b'.'; bulk.bytes].into()).await?.await?;
        }
        Ok(())
    }

    /// Connects; `bulk`: it also catches up.
    pub(crate) async fn listen(server: &Server, bulk: bool) -> Result<Self> {
        let client = connect(server).await?;
        let quiet = client.subscribe(format!("{STREAM}.*")).await?;
        let context = jetstream::new(client);
        // Once this is answered, the server has the subscription too.
        context.query_account().await?;
        let bulk = match bulk {
            true => Some(CatchUp::begin(context.get_stream(BULK).await?).await?),
            false => None,
        };
        Ok(Self { quiet, bulk })
    }

    /// The next message; what has arrived is not lost when this is dropped.
    pub(crate) async fn next(&mut self) -> Result<Came> {
        let bulk = async {
            match &mut self.bulk {
                Some(bulk) => bulk.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.quiet.next() => {
                let Message { subject, payload, .. } = message.context("the subscription ended")?;
                let topic = subject.rsplit('.').next().and_then(|topic| topic.parse().ok());
                Ok(Came::Quiet { topic: topic.with_context(|| format!("a message of {subject}"))?, payload })
            }
            bytes = bulk => Ok(Came::Bulk { bytes: bytes? }),
        }
    }
}

struct CatchUp {
    stream: jetstream::stream::Stream,
    messages: pull::Stream,
    /// Of this pass.
    left: u64,
}

impl CatchUp {
    async fn begin(stream: jetstream::stream::Stream) -> Result<Self> {
        let left = stream.get_info().await?.state.messages;
        let config = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
        let messages = stream.create_consumer(config).await?.messages().await?;
        Ok(Self { stream, messages, left })
    }

    /// Bytes of the next message.
    async fn next(&mut self) -> Result<usize> {
        if self.left == 0 {
            *self = Self::begin(self.stream.clone()).await?;
        }
        let message = self.messages.next().await.context("the consumer ended")?.map_err(|error| anyhow!(error))?;
        self.left -= 1;
        Ok(message.payload.len())
    }
}

fn file_stream(name: &str, subject: String) -> jetstream::stream::Config {
    let storage = jetstream::stream::StorageType::File;
    jetstream::stream::Config { name: name.to_owned(), subjects: vec![subject], storage, ..Default::default() }
}

fn subject(topic: u32) -> Subject {
    format!("{STREAM}.{topic}").into()
}

pub(crate) struct Publisher {
    client: async_nats::Client,
    subject: Subject,
}

impl Outbox for Publisher {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        Ok(self.client.publish(self.subject.clone(), Bytes::copy_from_slice(&payload)).await?)
    }
}

pub(crate) struct Subscription {
    _client: async_nats::Client,
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
