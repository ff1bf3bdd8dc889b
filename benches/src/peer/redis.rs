//! Redis: a stream with every append synced, and publish-subscribe.

use std::{collections::VecDeque, fs, process::Command, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use redis::{
    AsyncCommands, Client, IntoConnectionInfo, TlsCertificates,
    aio::{MultiplexedConnection, PubSub},
    io::tcp::TcpSettings,
    streams::{StreamReadOptions, StreamReadReply},
};
use tokio::sync::Semaphore;

use super::{
    Inlet, WINDOW,
    server::{NAME, Place, Server, program},
};
use crate::{
    load::{Outlet, PAYLOAD},
    report::Options,
};

pub(super) const PROGRAM: &str = "redis-server";
const KEY: &str = "bench";
const FIELD: &str = "m";
/// Entries of one answer at most.
const PAGE: usize = 1024;

/// With `synced`, every append is on the disk before its answer.
pub(super) fn start(synced: bool, options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let config = format!(
        "port 0\ntls-port {}\nbind 127.0.0.1\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
         tls-auth-clients no\ntls-protocols TLSv1.3\nsave \"\"\ndir {}\nappendonly {}\nappendfsync always\n",
        place.port,
        place.certificate().display(),
        place.key().display(),
        place.certificate().display(),
        place.folder().display(),
        if synced { "yes" } else { "no" },
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(PROGRAM)?).arg(config))
}

fn client(server: &Server) -> Result<Client> {
    let root_cert = Some(fs::read(server.place().certificate())?);
    let url = format!("rediss://{NAME}:{}/", server.place().port);
    // The client's own default leaves Nagle's algorithm on, which holds a small request back behind another's answer.
    let info = url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok(Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?)
}

/// One connection appends, the other waits for entries behind the last one that it has.
pub(super) async fn stream(server: &Server) -> Result<(Appender, Tail)> {
    let client = client(server)?;
    let credit = Arc::new(Semaphore::new(WINDOW));
    let appender = Appender { connection: client.get_multiplexed_async_connection().await?, credit };
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok((appender, Tail { connection, last: "0-0".to_owned(), waiting: VecDeque::new() }))
}

pub(super) async fn channel(server: &Server) -> Result<(Publisher, Channel)> {
    let client = client(server)?;
    let mut channel = client.get_async_pubsub().await?;
    channel.subscribe(KEY).await?;
    let credit = Arc::new(Semaphore::new(WINDOW));
    let publisher = Publisher { connection: client.get_multiplexed_async_connection().await?, credit };
    Ok((publisher, Channel(channel)))
}

pub(super) struct Appender {
    connection: MultiplexedConnection,
    credit: Arc<Semaphore>,
}

impl Outlet for Appender {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        let permit = Arc::clone(&self.credit).acquire_owned().await?;
        let mut connection = self.connection.clone();
        tokio::spawn(async move {
            // What was not appended does not arrive, and is counted as lost where it should have.
            let _: redis::RedisResult<String> = connection.xadd(KEY, "*", &[(FIELD, &payload[..])]).await;
            drop(permit);
        });
        Ok(())
    }
}

pub(super) struct Tail {
    connection: MultiplexedConnection,
    last: String,
    waiting: VecDeque<Bytes>,
}

impl Inlet for Tail {
    async fn receive(&mut self) -> Result<Bytes> {
        while self.waiting.is_empty() {
            let options = StreamReadOptions::default().block(0).count(PAGE);
            let reply: StreamReadReply = self.connection.xread_options(&[KEY], &[&self.last], &options).await?;
            for entry in reply.keys.into_iter().flat_map(|key| key.ids) {
                let payload: Vec<u8> = entry.get(FIELD).context("an entry without a payload")?;
                self.waiting.push_back(payload.into());
                self.last = entry.id;
            }
        }
        self.waiting.pop_front().context("an answer without entries")
    }
}

pub(super) struct Publisher {
    connection: MultiplexedConnection,
    credit: Arc<Semaphore>,
}

impl Outlet for Publisher {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        let permit = Arc::clone(&self.credit).acquire_owned().await?;
        let mut connection = self.connection.clone();
        tokio::spawn(async move {
            let _: redis::RedisResult<u64> = connection.publish(KEY, &payload[..]).await;
            drop(permit);
        });
        Ok(())
    }
}

pub(super) struct Channel(PubSub);

impl Inlet for Channel {
    async fn receive(&mut self) -> Result<Bytes> {
        let message = self.0.on_message().next().await.context("the subscription ended")?;
        Ok(Bytes::copy_from_slice(message.get_payload_bytes()))
    }
}
