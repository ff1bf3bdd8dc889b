//! NATS: core, and JetStream with a file store, synced always or as it is by default.

use std::{process::Command, sync::Arc};

use anyhow::{Context, Result, anyhow};
use async_nats::{
    Client, ConnectOptions, Message, Subscriber,
    jetstream::{
        self,
        consumer::{AckPolicy, push},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::{
    Inlet, WINDOW,
    server::{NAME, Place, Server, program},
};
use crate::{
    load::{Outlet, PAYLOAD},
    report::Options,
};

pub(super) const PROGRAM: &str = "nats-server";
const SUBJECT: &str = "bench";
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
pub(super) async fn core(server: &Server) -> Result<(Core, Subscription)> {
    let (sender, receiver) = (connect(server).await?, connect(server).await?);
    let messages = receiver.subscribe(SUBJECT).await?;
    receiver.flush().await?;
    Ok((Core(sender), Subscription { _client: receiver, messages }))
}

/// JetStream: one replica in a file, delivered by a push consumer that asks for no acknowledgement, which is
/// its fastest way.
pub(super) async fn stream(server: &Server) -> Result<(Streamed, Pushed)> {
    let (sender, receiver) = (connect(server).await?, connect(server).await?);
    let context = jetstream::new(receiver);
    let config = jetstream::stream::Config {
        name: SUBJECT.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        storage: jetstream::stream::StorageType::File,
        ..Default::default()
    };
    let stream = context.create_stream(config).await?;
    let consumer =
        push::Config { deliver_subject: DELIVERED.to_owned(), ack_policy: AckPolicy::None, ..Default::default() };
    let consumer = stream.create_consumer(consumer).await?;
    let messages = consumer.messages().await?;
    let outlet = Streamed { context: jetstream::new(sender), credit: Arc::new(Semaphore::new(WINDOW)) };
    Ok((outlet, Pushed { messages }))
}

pub(super) struct Core(Client);

impl Outlet for Core {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        Ok(self.0.publish(SUBJECT, Bytes::copy_from_slice(&payload)).await?)
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
    credit: Arc<Semaphore>,
}

impl Outlet for Streamed {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        let permit = Arc::clone(&self.credit).acquire_owned().await?;
        let acknowledged = self.context.publish(SUBJECT, Bytes::copy_from_slice(&payload)).await?;
        tokio::spawn(async move {
            // A message that was not taken does not arrive, and is counted as lost where it should have.
            let _ = acknowledged.await;
            drop(permit);
        });
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
