//! PostgreSQL: a row for each message, and a notification in the same transaction, with every commit synced.
//!
//! Transactions that notify commit one after the other, so that commits of several connections do not share a sync. What a
//! sender has at once is therefore one transaction. The notification carries the message, which has to be shorter than
//! 8,000 bytes, and its id, without which the server would drop it beside an equal one.

use std::{
    net::IpAddr,
    os::unix::{fs::chown, process::CommandExt},
    path::absolute,
    process::Command,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use rustix::process::{Signal, geteuid};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Statement, config::SslMode, error::SqlState, types::Type};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    exchange::{Inlet, Outbox, Protocol},
    server::{LOOK, NAME, PATIENCE, Place, Server, program},
    window::Window,
};
use crate::{load::PAYLOAD, report::Options};

pub(super) const PROGRAM: &str = "postgres";
/// Who runs the server, which refuses to be root. Debian's package makes it.
const OWNER: &str = "postgres";
const USER: &str = "bench";
/// Connections at most.
const CONNECTIONS: u32 = 1000;
const TABLE: &str = "CREATE TABLE messages (\
                     topic text, id bigint GENERATED ALWAYS AS IDENTITY, body text NOT NULL, PRIMARY KEY (topic, id))";
const INSERT: &str = "WITH kept AS (INSERT INTO messages (topic, body) SELECT $1, unnest($2) RETURNING id, body) \
                      SELECT count(pg_notify($1, id || ' ' || body)) FROM kept";

pub(super) fn start(options: &Options) -> Result<Server> {
    let program = program(PROGRAM)?.canonicalize()?;
    // Killed, it would leave shared memory behind.
    let place = Place::new(options)?.stopped_by(Signal::QUIT);
    let owner = owner()?;
    if let Some((user, group)) = owner {
        for path in [place.folder().to_owned(), place.certificate(), place.key()] {
            chown(path, Some(user), Some(group))?;
        }
    }
    let command = |name| {
        let mut command = Command::new(program.with_file_name(name));
        command.current_dir(place.folder()).args(["-D", "data"]);
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command
    };
    let made = command("initdb").args(["-A", "trust", "-U", USER, "-E", "UTF8", "--no-locale", "--no-sync"]).output();
    let made = made.context("cannot start initdb")?;
    ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr).trim());
    let mut server = command(PROGRAM);
    let settings = [
        format!("listen_addresses={}", place.host),
        format!("port={}", place.port),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS}"),
        "dynamic_shared_memory_type=mmap".to_owned(),
        "fsync=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "ssl=on".to_owned(),
        "ssl_min_protocol_version=TLSv1.3".to_owned(),
        format!("ssl_cert_file={}", absolute(place.certificate())?.display()),
        format!("ssl_key_file={}", absolute(place.key())?.display()),
    ];
    settings.iter().for_each(|setting| _ = server.arg("-c").arg(setting));
    place.start(&mut server)
}

/// Ids of the user and the group of [`OWNER`], if this process is root.
fn owner() -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let id = |which| {
        let said = Command::new("id").args([which, OWNER]).output().context("cannot start id")?;
        let id = String::from_utf8_lossy(&said.stdout).trim().parse();
        id.with_context(|| format!("there is no user {OWNER}: run benches/peers.sh"))
    };
    Ok(Some((id("-u")?, id("-g")?)))
}

/// What comes over a connection; asking for it is what keeps the connection going.
type Messages = BoxStream<'static, Result<AsyncMessage, Error>>;

async fn connect(server: &Server) -> Result<(Client, Messages)> {
    let place = server.place();
    let mut config = Config::new();
    config.host(NAME).hostaddr(IpAddr::V4(place.host)).port(place.port).ssl_mode(SslMode::Require);
    let tls = MakeRustlsConnect::new(server.tls()?);
    let (client, mut connection) = config.user(USER).dbname("postgres").connect(tls).await?;
    Ok((client, stream::poll_fn(move |context| connection.poll_message(context)).boxed()))
}

/// A client that gets answers and nothing else.
async fn ask(server: &Server) -> Result<Client> {
    let (client, mut messages) = connect(server).await?;
    tokio::spawn(async move { while messages.next().await.is_some() {} });
    Ok(client)
}

fn channel(topic: u32) -> String {
    format!("bench_{topic}")
}

/// One table; a channel for each topic.
pub(super) struct Table;

impl Protocol for Table {
    type Outbox = Writer;
    type Inlet = Listener;

    async fn prepare(server: &Server) -> Result<()> {
        let client = once_ready(server).await?;
        Ok(client.batch_execute(TABLE).await?)
    }

    async fn receiver(server: &Server, topic: u32, _number: u32) -> Result<Listener> {
        let (client, mut messages) = connect(server).await?;
        let command = format!("LISTEN {}", channel(topic));
        tokio::select! {
            listens = client.batch_execute(&command) => listens?,
            message = messages.next() => bail!("{message:?} came before any was sent"),
        }
        Ok(Listener { _client: client, messages })
    }

    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Writer> {
        let client = ask(server).await?;
        let insert = client.prepare_typed(INSERT, &[Type::TEXT, Type::TEXT_ARRAY]).await?;
        Ok(Writer { client: Arc::new(client), insert, channel: channel(topic), batch: Vec::new(), window })
    }
}

/// The server listens before it is ready.
async fn once_ready(server: &Server) -> Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(server).await {
            Err(error) if is_starting(&error) && Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            connected => return connected,
        }
    }
}

fn is_starting(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref().and_then(Error::code);
    code == Some(&SqlState::CANNOT_CONNECT_NOW)
}

pub(super) struct Writer {
    client: Arc<Client>,
    insert: Statement,
    channel: String,
    batch: Vec<String>,
    window: Window,
}

impl Outbox for Writer {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.batch.push(String::from_utf8(payload.to_vec())?);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let (client, insert, channel) = (self.client.clone(), self.insert.clone(), self.channel.clone());
        let window = self.window.clone();
        tokio::spawn(async move {
            let answer = client.execute(&insert, &[&channel, &batch]).await;
            batch.iter().for_each(|_| window.settle(answer.as_ref()));
        });
        Ok(())
    }
}

pub(super) struct Listener {
    _client: Client,
    messages: Messages,
}

impl Inlet for Listener {
    async fn receive(&mut self) -> Result<Bytes> {
        loop {
            let message = self.messages.next().await.context("the server ended the connection")??;
            if let AsyncMessage::Notification(notification) = message {
                let (_id, body) = notification.payload().split_once(' ').context("a notification without a message")?;
                return Ok(Bytes::copy_from_slice(body.as_bytes()));
            }
        }
    }
}
