//! Redis: a stream with every append synced, and publish-subscribe. Valkey speaks the same protocol.

use std::{collections::VecDeque, fs, process::Command, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use redis::{
    AsyncCommands, Client, Cmd, IntoConnectionInfo, TlsCertificates, Value,
    aio::{MultiplexedConnection, PubSub},
    io::tcp::TcpSettings,
    streams::{StreamReadOptions, StreamReadReply},
};

use super::{
    exchange::{Inlet, Outbox, Protocol},
    server::{NAME, Place, Server, program},
    window::Window,
};
use crate::{load::PAYLOAD, report::Options};

pub(super) const PROGRAM: &str = "redis-server";
/// The build that `benches/peers.sh` installs has no TLS.
pub(super) const VALKEY: &str = "valkey-server";
const FIELD: &str = "m";
/// Entries of one answer at most.
const PAGE: usize = 1024;

/// With `synced`, every append is on the disk before its answer.
pub(super) fn start(synced: bool, options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let listen = format!(
        "port 0\ntls-port {}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
         tls-auth-clients no\ntls-protocols TLSv1.3\n",
        place.port,
        place.certificate().display(),
        place.key().display(),
        place.certificate().display(),
    );
    launch(PROGRAM, place, &listen, synced)
}

/// Valkey, with every append synced.
pub(super) fn start_valkey(options: &Options) -> Result<Server> {
    let place = Place::new(options)?.without_tls();
    let listen = format!("port {}\n", place.port);
    launch(VALKEY, place, &listen, true)
}

fn launch(name: &str, place: Place, listen: &str, synced: bool) -> Result<Server> {
    let config = format!(
        "{listen}bind 127.0.0.1\nsave \"\"\ndir {}\nappendonly {}\nappendfsync always\n",
        place.folder().display(),
        if synced { "yes" } else { "no" },
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(name)?).arg(config))
}

fn client(server: &Server) -> Result<Client> {
    let Place { port, tls, .. } = server.place();
    let url = format!("{}://{NAME}:{port}/", if *tls { "rediss" } else { "redis" });
    // The client's own default leaves Nagle's algorithm on, which holds a small request back behind another's answer.
    let info = url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    if !tls {
        return Ok(Client::open(info)?);
    }
    let root_cert = Some(fs::read(server.place().certificate())?);
    Ok(Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?)
}

fn key(topic: u32) -> String {
    format!("bench:{topic}")
}

/// One connection appends, the other waits for entries behind the last one that it has.
pub(super) struct Stream;

impl Protocol for Stream {
    type Outbox = Appender;
    type Inlet = Tail;

    async fn receiver(server: &Server, topic: u32, _number: u32) -> Result<Tail> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client(server)?.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Tail { connection, key: key(topic), last: "0-0".to_owned(), waiting: VecDeque::new() })
    }

    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Appender> {
        Ok(Appender(Sender::connect(server, topic, window).await?))
    }
}

/// Publish and subscribe.
pub(super) struct Channel;

impl Protocol for Channel {
    type Outbox = Publisher;
    type Inlet = Subscription;

    async fn receiver(server: &Server, topic: u32, _number: u32) -> Result<Subscription> {
        let mut channel = client(server)?.get_async_pubsub().await?;
        channel.subscribe(key(topic)).await?;
        Ok(Subscription(channel))
    }

    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Publisher> {
        Ok(Publisher(Sender::connect(server, topic, window).await?))
    }
}

struct Sender {
    connection: MultiplexedConnection,
    key: Arc<str>,
    window: Window,
}

impl Sender {
    async fn connect(server: &Server, topic: u32, window: Window) -> Result<Self> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client(server)?.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, key: key(topic).into(), window })
    }

    /// Sends a command and settles the window with its answer.
    fn send(&self, command: Cmd) {
        let (mut connection, window) = (self.connection.clone(), self.window.clone());
        tokio::spawn(async move { window.settle(command.query_async::<Value>(&mut connection).await) });
    }
}

pub(super) struct Appender(Sender);

impl Outbox for Appender {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.0.send(Cmd::xadd(&*self.0.key, "*", &[(FIELD, &payload[..])]));
        Ok(())
    }
}

pub(super) struct Publisher(Sender);

impl Outbox for Publisher {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.0.send(Cmd::publish(&*self.0.key, &payload[..]));
        Ok(())
    }
}

pub(super) struct Tail {
    connection: MultiplexedConnection,
    key: String,
    last: String,
    waiting: VecDeque<Bytes>,
}

impl Inlet for Tail {
    async fn receive(&mut self) -> Result<Bytes> {
        while self.waiting.is_empty() {
            let options = StreamReadOptions::default().block(0).count(PAGE);
            let reply: StreamReadReply = self.connection.xread_options(&[&self.key], &[&self.last], &options).await?;
            for entry in reply.keys.into_iter().flat_map(|key| key.ids) {
                let payload: Vec<u8> = entry.get(FIELD).context("an entry without a payload")?;
                self.waiting.push_back(payload.into());
                self.last = entry.id;
            }
        }
        self.waiting.pop_front().context("an answer without entries")
    }
}

pub(super) struct Subscription(PubSub);

impl Inlet for Subscription {
    async fn receive(&mut self) -> Result<Bytes> {
        let message = self.0.on_message().next().await.context("the subscription ended")?;
        Ok(Bytes::copy_from_slice(message.get_payload_bytes()))
    }
}
