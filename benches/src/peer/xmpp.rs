//! prosody: an XMPP server with a room (XEP-0045) whose messages are archived (XEP-0313), each in a file write
//! that nobody syncs.
//!
//! The client speaks as much XMPP (RFC 6120) as a room takes: a TLS stream, an anonymous login, a resource, a
//! join, and messages. It looks for the few things that it waits for instead of parsing XML.

use std::{process::Command, sync::Arc};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Inlet, WINDOW,
    server::{NAME, Place, Server, program},
};
use crate::{
    load::{Outlet, PAYLOAD},
    report::Options,
};

pub(super) const PROGRAM: &str = "prosody";
const ROOM: &str = "bench@rooms.localhost";
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

pub(super) async fn pair(server: &Server) -> Result<(Speaker, Listener)> {
    let listener = Client::join(server, "listener").await?;
    let Client { mut reader, write } = Client::join(server, "speaker").await?;
    let credit = Arc::new(Semaphore::new(WINDOW));
    let answered = Arc::clone(&credit);
    tokio::spawn(async move {
        // A room's echo is its acknowledgement.
        while reader.body().await.is_ok() {
            answered.add_permits(1);
        }
    });
    Ok((Speaker { write, credit }, Listener { reader: listener.reader, _write: listener.write }))
}

struct Client {
    reader: Reader,
    write: WriteHalf<TlsStream<TcpStream>>,
}

impl Client {
    async fn join(server: &Server, name: &str) -> Result<Self> {
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
        let join = format!("<presence to='{ROOM}/{name}'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
        // The room's subject is the last thing that one who joins is told.
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
    credit: Arc<Semaphore>,
}

impl Outlet for Speaker {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.credit.acquire().await?.forget();
        let body = std::str::from_utf8(&payload)?;
        let message = format!("<message to='{ROOM}' type='groupchat'><body>{body}</body></message>");
        self.write.write_all(message.as_bytes()).await?;
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
