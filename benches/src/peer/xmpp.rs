//! prosody: an XMPP server with a room (XEP-0045) whose messages are archived (XEP-0313), each in a file write
//! that nobody syncs.
//!
//! The client speaks as much XMPP (RFC 6120) as a room takes: a TLS stream, an anonymous login, a resource, a
//! join, and messages. It looks for the few things that it waits for instead of parsing XML.

use std::{fmt::Write as _, process::Command};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    exchange::{Inlet, Outbox, Protocol},
    server::{NAME, Place, Server, program},
    window::Window,
};
use crate::{load::PAYLOAD, report::Options};

pub(super) const PROGRAM: &str = "prosody";
const STREAM: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";
const BODY: &[u8] = b"<body>";
/// Bytes that are kept while nothing that is waited for has come.
const UNKNOWN: usize = 1 << 20;

pub(super) fn start(options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let folder = place.folder().display();
    let config = format!(
        "run_as_root = true\npidfile = \"{folder}/pid\"\ndata_path = \"{folder}\"\ncertificates = \"{folder}\"\n\
         log = {{ warn = \"*console\" }}\nmodules_enabled = {{ \"saslauth\", \"tls\", \"disco\" }}\n\
         modules_disabled = {{ \"s2s\" }}\nc2s_ports = {{}}\ns2s_ports = {{}}\ninterfaces = {{ \"127.0.0.1\" }}\n\
         c2s_direct_tls_ports = {{ {} }}\n\
         c2s_direct_tls_ssl = {{ certificate = \"{}\"; key = \"{}\"; protocol = \"tlsv1_3\" }}\n\
         VirtualHost \"localhost\"\n  authentication = \"anonymous\"\n\
         Component \"rooms.localhost\" \"muc\"\n  modules_enabled = {{ \"muc_mam\" }}\n  muc_log_by_default = true\n\
         \x20 muc_room_locking = false\n  max_history_messages = 20\n",
        place.port,
        place.certificate().display(),
        place.key().display(),
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(PROGRAM)?).arg("-F").arg("--config").arg(config))
}

/// A room for each topic.
pub(super) struct Room;

impl Protocol for Room {
    type Outbox = Speaker;
    type Inlet = Listener;

    async fn receiver(server: &Server, topic: u32, number: u32) -> Result<Listener> {
        let Client { reader, write } = Client::join(server, &room(topic), &format!("listener-{number}")).await?;
        Ok(Listener { reader, _write: write })
    }

    /// A room's echo is its acknowledgement.
    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Speaker> {
        let room = room(topic);
        let Client { mut reader, write } = Client::join(server, &room, "speaker").await?;
        tokio::spawn(async move {
            loop {
                let echo = reader.body().await;
                let ended = echo.is_err();
                window.settle(echo);
                if ended {
                    break;
                }
            }
        });
        Ok(Speaker { write, room, buffer: BytesMut::new() })
    }
}

fn room(topic: u32) -> String {
    format!("bench-{topic}@rooms.localhost")
}

struct Client {
    reader: Reader,
    write: WriteHalf<TlsStream<TcpStream>>,
}

impl Client {
    async fn join(server: &Server, room: &str, name: &str) -> Result<Self> {
        let socket = TcpStream::connect(server.address()).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(server.shared_tls()?);
        let stream = connector.connect(ServerName::try_from(NAME)?, socket).await?;
        let (read, write) = split(stream);
        let mut client = Self { reader: Reader { read, buffer: BytesMut::new() }, write };
        client.say(STREAM, "</stream:features>").await?;
        client.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>", "<success").await?;
        client.say(STREAM, "</stream:features>").await?;
        client.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>").await?;
        let join = format!("<presence to='{room}/{name}'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
        // The room's subject is the last stanza of a join.
        client.say(&join, "<subject").await?;
        Ok(client)
    }

    async fn say(&mut self, text: &str, answer: &str) -> Result<()> {
        self.write.write_all(text.as_bytes()).await?;
        self.write.flush().await?;
        self.reader.until(answer.as_bytes()).await.with_context(|| format!("no {answer} after {text}"))
    }
}

struct Reader {
    read: ReadHalf<TlsStream<TcpStream>>,
    buffer: BytesMut,
}

impl Reader {
    /// Reads until something has come, and drops all before and with it.
    async fn until(&mut self, wanted: &[u8]) -> Result<()> {
        loop {
            if let Some(at) = self.buffer.windows(wanted.len()).position(|window| window == wanted) {
                self.buffer.advance(at + wanted.len());
                return Ok(());
            }
            // What is left may be the beginning of it.
            let known = self.buffer.len().saturating_sub(wanted.len());
            if known > UNKNOWN {
                self.buffer.advance(known);
            }
            self.more().await?;
        }
    }

    /// The text of the next message.
    async fn body(&mut self) -> Result<Bytes> {
        self.until(BODY).await?;
        while self.buffer.len() < PAYLOAD {
            self.more().await?;
        }
        Ok(self.buffer.split_to(PAYLOAD).freeze())
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.read.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server ended the stream: {}", String::from_utf8_lossy(&self.buffer));
        Ok(())
    }
}

pub(super) struct Speaker {
    write: WriteHalf<TlsStream<TcpStream>>,
    room: String,
    buffer: BytesMut,
}

impl Outbox for Speaker {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        let (room, body) = (&self.room, std::str::from_utf8(&payload)?);
        Ok(write!(self.buffer, "<message to='{room}' type='groupchat'><body>{body}</body></message>")?)
    }

    async fn flush(&mut self) -> Result<()> {
        self.write.write_all_buf(&mut self.buffer).await?;
        Ok(self.write.flush().await?)
    }
}

pub(super) struct Listener {
    reader: Reader,
    _write: WriteHalf<TlsStream<TcpStream>>,
}

impl Inlet for Listener {
    async fn receive(&mut self) -> Result<Bytes> {
        self.reader.body().await
    }
}
