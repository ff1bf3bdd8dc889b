//! mosquitto: MQTT 3.1.1 over TLS with quality of service 1, nothing kept on the disk.
//!
//! rumqttc encodes and decodes; its own TLS would bring another crypto provider into the tree, so that the stream
//! is ours.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use rumqttc::{
    QoS,
    mqttbytes::{
        self,
        v4::{ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, Subscribe},
    },
};
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

pub(super) const PROGRAM: &str = "mosquitto";
/// Bytes of a packet at most, either way.
const PACKET: usize = 1024;

pub(super) fn start(options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let config = format!(
        "listener {} 127.0.0.1\ncertfile {}\nkeyfile {}\ntls_version tlsv1.3\nallow_anonymous true\npersistence false\n\
         set_tcp_nodelay true\nmax_inflight_messages 64\nmax_queued_messages 0\nuser root\n",
        place.port,
        place.certificate().display(),
        place.key().display(),
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(PROGRAM)?).arg("-c").arg(config))
}

fn topic_name(topic: u32) -> String {
    format!("bench/{topic}")
}

pub(super) struct Mqtt;

impl Protocol for Mqtt {
    type Outbox = Publisher;
    type Inlet = Subscriber;

    async fn receiver(server: &Server, topic: u32, number: u32) -> Result<Subscriber> {
        let (mut reader, mut writer) = connect(server, &format!("receiver-{topic}-{number}")).await?;
        let subscribe = Subscribe::new(topic_name(topic), QoS::AtLeastOnce);
        writer.encode(&Packet::Subscribe(Subscribe { pkid: 1, ..subscribe }))?;
        writer.flush().await?;
        let answer = reader.next().await?;
        ensure!(matches!(answer, Packet::SubAck(_)), "expected SubAck, got {answer:?}");
        Ok(Subscriber { reader, writer })
    }

    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Publisher> {
        let (mut reader, writer) = connect(server, &format!("sender-{topic}")).await?;
        tokio::spawn(async move {
            loop {
                let answer = match reader.next().await {
                    Ok(Packet::PubAck(_)) => Ok(()),
                    Ok(other) => Err(anyhow!("expected PubAck, got {other:?}")),
                    Err(error) => Err(error),
                };
                let ended = answer.is_err();
                window.settle(answer);
                if ended {
                    break;
                }
            }
        });
        Ok(Publisher { writer, topic: topic_name(topic), last: 0 })
    }
}

async fn connect(server: &Server, name: &str) -> Result<(Reader, Writer)> {
    let socket = TcpStream::connect(server.address()).await?;
    socket.set_nodelay(true)?;
    let connector = TlsConnector::from(server.shared_tls()?);
    let (read, write) = split(connector.connect(ServerName::try_from(NAME)?, socket).await?);
    let mut reader = Reader { read, buffer: BytesMut::new() };
    let mut writer = Writer { write, buffer: BytesMut::new() };
    // Without a keep-alive, nothing is due while nothing is sent.
    writer.encode(&Packet::Connect(Connect { keep_alive: 0, ..Connect::new(name) }))?;
    writer.flush().await?;
    match reader.next().await? {
        Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, .. }) => Ok((reader, writer)),
        other => bail!("expected ConnAck, got {other:?}"),
    }
}

struct Reader {
    read: ReadHalf<TlsStream<TcpStream>>,
    buffer: BytesMut,
}

impl Reader {
    async fn next(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            self.more().await?;
        }
    }

    /// The next packet that has arrived in full.
    fn buffered(&mut self) -> Result<Option<Packet>> {
        match Packet::read(&mut self.buffer, PACKET) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.read.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server ended the connection");
        Ok(())
    }
}

struct Writer {
    write: WriteHalf<TlsStream<TcpStream>>,
    buffer: BytesMut,
}

impl Writer {
    fn encode(&mut self, packet: &Packet) -> Result<()> {
        packet.write(&mut self.buffer, PACKET)?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.write.write_all_buf(&mut self.buffer).await?;
            self.write.flush().await?;
        }
        Ok(())
    }
}

pub(super) struct Publisher {
    writer: Writer,
    topic: String,
    /// Identifier of the latest packet: 1 to 65,535, then from 1 again.
    last: u16,
}

impl Outbox for Publisher {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.last = self.last.checked_add(1).unwrap_or(1);
        let message = Publish { pkid: self.last, ..Publish::new(&self.topic, QoS::AtLeastOnce, payload) };
        self.writer.encode(&Packet::Publish(message))
    }

    async fn flush(&mut self) -> Result<()> {
        self.writer.flush().await
    }
}

pub(super) struct Subscriber {
    reader: Reader,
    writer: Writer,
}

impl Inlet for Subscriber {
    /// Acknowledgements leave once all that has arrived is handed out.
    async fn receive(&mut self) -> Result<Bytes> {
        loop {
            match self.reader.buffered().context("from the server")? {
                Some(Packet::Publish(Publish { pkid, payload, .. })) => {
                    self.writer.encode(&Packet::PubAck(PubAck::new(pkid)))?;
                    return Ok(payload);
                }
                Some(other) => bail!("expected Publish, got {other:?}"),
                None => {
                    self.writer.flush().await?;
                    self.reader.more().await?;
                }
            }
        }
    }
}
