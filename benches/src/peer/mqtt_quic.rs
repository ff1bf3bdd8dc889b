//! mqttv5: an MQTT 5 broker over QUIC, which delivers each topic on a stream of its own.
//!
//! Its own client library turns quinn's cryptography into another than ours when both are built together, so
//! this is a client of the few packets that a pair needs (MQTT 5.0, section 3): the control stream carries
//! what we send, and the broker opens a stream for what it delivers, which begins with a header of its own.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};

use super::{
    exchange::{Inlet, Outbox, Protocol},
    server::{NAME, Place, Server, program},
    window::Window,
};
use crate::{load::PAYLOAD, report::Options, transport};

pub(super) const PROGRAM: &str = "mqttv5";
const ALPN: &[u8] = b"mqtt";
/// Types of packets, with the flags that they need.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
/// The first byte of a stream that the broker opens; no MQTT packet begins with it.
const FLOW: u8 = 0x13;

pub(super) fn start(options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let mut command = Command::new(program(PROGRAM)?);
    command.arg("broker").arg("--non-interactive").arg("--allow-anonymous").arg("--storage-backend").arg("memory");
    command.arg("--host").arg(format!("127.0.0.1:{}", place.port));
    command.arg("--quic-host").arg(format!("127.0.0.1:{}", place.udp_port));
    command.arg("--tls-cert").arg(place.certificate()).arg("--tls-key").arg(place.key());
    command.current_dir(place.folder());
    place.start(&mut command)
}

pub(super) struct Mqtt;

impl Protocol for Mqtt {
    type Outbox = Publisher;
    type Inlet = Subscriber;

    async fn receiver(server: &Server, topic: u32, number: u32) -> Result<Subscriber> {
        let topic = topic_name(topic);
        let mut client = Client::connect(server, &format!("receiver-{topic}-{number}")).await?;
        let mut subscribe = vec![0, 1, 0];
        text(&topic, &mut subscribe);
        subscribe.push(1);
        client.send.write_all(&packet(SUBSCRIBE, &subscribe)).await?;
        client.expect(SUBACK).await?;
        Ok(Subscriber { client, topic, stream: None, waiting: VecDeque::new() })
    }

    async fn sender(server: &Server, topic: u32, window: Window) -> Result<Publisher> {
        let topic = topic_name(topic);
        let Client { endpoint, connection, send, mut reader } =
            Client::connect(server, &format!("sender-{topic}")).await?;
        tokio::spawn(async move {
            loop {
                let answer = match reader.next().await {
                    Ok((kind, _)) if kind & 0xf0 == PUBACK => Ok(()),
                    Ok((kind, body)) => Err(anyhow!("expected packet {PUBACK:#x}, got {kind:#x} {body:?}")),
                    Err(error) => Err(error),
                };
                let ended = answer.is_err();
                window.settle(answer);
                if ended {
                    break;
                }
            }
        });
        Ok(Publisher { _alive: (endpoint, connection), send, topic, buffer: Vec::new(), id: 0 })
    }
}

fn topic_name(topic: u32) -> String {
    format!("bench-{topic}")
}

struct Client {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    reader: Reader,
}

impl Client {
    async fn connect(server: &Server, name: &str) -> Result<Self> {
        let mut endpoint = transport::endpoint((Ipv4Addr::LOCALHOST, 0).into(), None)?;
        endpoint.set_default_client_config(transport::peer_config(server.pin(), ALPN)?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.place().udp_port));
        let connection = endpoint.connect(address, NAME)?.await.context("the broker does not answer over QUIC")?;
        let (send, receive) = connection.open_bi().await?;
        let mut client = Self { endpoint, connection, send, reader: Reader::new(receive) };
        // Version 5, clean start, no keepalive, no properties.
        let mut connect = Vec::new();
        text("MQTT", &mut connect);
        connect.extend_from_slice(&[5, 2, 0, 0, 0]);
        text(name, &mut connect);
        client.send.write_all(&packet(CONNECT, &connect)).await?;
        client.expect(CONNACK).await?;
        Ok(client)
    }

    async fn expect(&mut self, wanted: u8) -> Result<()> {
        let (kind, body) = self.reader.next().await?;
        ensure!(kind == wanted, "expected packet {wanted:#x}, got {kind:#x} {body:?}");
        Ok(())
    }
}

/// Cuts a stream into packets.
struct Reader {
    stream: RecvStream,
    buffer: BytesMut,
    fresh: bool,
}

impl Reader {
    fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), fresh: true }
    }

    /// The first byte and the body of the next packet.
    async fn next(&mut self) -> Result<(u8, Bytes)> {
        loop {
            if self.fresh && skip_flow(&mut self.buffer) {
                self.fresh = false;
            }
            if let Some(packet) = split(&mut self.buffer)? {
                return Ok(packet);
            }
            let chunk = self.stream.read_chunk(usize::MAX, true).await?.context("the broker ended a stream")?;
            self.buffer.extend_from_slice(&chunk.bytes);
        }
    }
}

/// Drops the header of a stream that the broker opened: type, id and expiry as QUIC variable-length integers,
/// then flags. True once the stream is at its packets.
fn skip_flow(buffer: &mut BytesMut) -> bool {
    let Some(&first) = buffer.first() else { return false };
    if first != FLOW {
        return true;
    }
    let mut length = 1;
    for _ in 0..2 {
        let Some(byte) = buffer.get(length) else { return false };
        length += 1 << (byte >> 6);
    }
    length += 1;
    let whole = buffer.len() >= length;
    if whole {
        buffer.advance(length);
    }
    whole
}

fn split(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>> {
    if buffer.first() == Some(&FLOW) {
        return Ok(None);
    }
    let (mut length, mut at) = (0usize, 1);
    loop {
        let Some(&byte) = buffer.get(at) else { return Ok(None) };
        ensure!(at <= 4, "the length of a packet does not end");
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if buffer.len() < at + length {
        return Ok(None);
    }
    let kind = buffer[0];
    buffer.advance(at);
    Ok(Some((kind, buffer.split_to(length).freeze())))
}

/// A packet whose body is shorter than 128 bytes, as all of ours are.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "a length of one byte");
    [&[kind, body.len() as u8][..], body].concat()
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

pub(super) struct Publisher {
    _alive: (Endpoint, Connection),
    send: SendStream,
    topic: String,
    buffer: Vec<u8>,
    id: u16,
}

impl Outbox for Publisher {
    async fn queue(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        // 0 is no packet's; only as many as the window has are in use.
        self.id = self.id.checked_add(1).unwrap_or(1);
        let mut body = Vec::with_capacity(64);
        text(&self.topic, &mut body);
        body.put_u16(self.id);
        body.put_u8(0);
        body.put_slice(&payload);
        self.buffer.extend_from_slice(&packet(PUBLISH_QOS_1, &body));
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.send.write_all(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }
}

pub(super) struct Subscriber {
    client: Client,
    topic: String,
    /// The stream of the topic, once the broker opened it.
    stream: Option<(SendStream, Reader)>,
    waiting: VecDeque<Bytes>,
}

impl Inlet for Subscriber {
    async fn receive(&mut self) -> Result<Bytes> {
        loop {
            if let Some(payload) = self.waiting.pop_front() {
                return Ok(payload);
            }
            let Some((send, reader)) = &mut self.stream else {
                let (send, receive) = tokio::select! {
                    stream = self.client.connection.accept_bi() => stream?,
                    packet = self.client.reader.next() => {
                        let (kind, body) = packet?;
                        bail!("packet {kind:#x} {body:?} on the control stream");
                    }
                };
                self.stream = Some((send, Reader::new(receive)));
                continue;
            };
            let (kind, mut body) = reader.next().await?;
            ensure!(kind & 0xf6 == PUBLISH_QOS_1, "expected a message, got packet {kind:#x} {body:?}");
            ensure!(body.len() >= 2 + self.topic.len() + 3 + PAYLOAD, "a message of {} bytes", body.len());
            body.advance(2 + self.topic.len());
            let id = body.split_to(2);
            self.waiting.push_back(body.slice(body.len() - PAYLOAD..));
            send.write_all(&packet(PUBACK, &id)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn packets_are_found_behind_the_header_of_a_flow_and_only_when_whole() {
        // Type, an id of two bytes, an expiry of one, flags; then an acknowledgement.
        let stream = [&[FLOW, 0x40, 7, 5, 0][..], &packet(PUBACK, &[0, 9])].concat();
        for length in 0..=stream.len() {
            let mut buffer = BytesMut::from(&stream[..length]);
            let at_packets = skip_flow(&mut buffer);
            assert_eq!(at_packets, length >= 5, "{length} bytes");
            let found = split(&mut buffer).unwrap();
            assert_eq!(found.is_some(), length == stream.len(), "{length} bytes");
        }
    }

    #[test]
    fn a_length_without_end_is_an_error() {
        assert!(split(&mut BytesMut::from(&[PUBACK, 0xff, 0xff, 0xff, 0xff, 0xff][..])).is_err());
    }
}
