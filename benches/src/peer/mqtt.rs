//! mosquitto: MQTT 3.1.1 over TLS with quality of service 1, nothing kept on the disk.

use std::{process::Command, sync::Arc};

use anyhow::{Result, bail};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS, TlsConfiguration, Transport};
use tokio::sync::Semaphore;

use super::{
    Inlet, WINDOW,
    server::{NAME, Place, Server, program},
};
use crate::{
    load::{Outlet, PAYLOAD},
    report::Options,
};

pub(super) const PROGRAM: &str = "mosquitto";
const TOPIC: &str = "bench";
/// Requests that wait for a client's event loop.
const QUEUE: usize = 1024;

pub(super) fn start(options: &Options) -> Result<Server> {
    let place = Place::new(options)?;
    let config = format!(
        "listener {} 127.0.0.1\ncertfile {}\nkeyfile {}\ntls_version tlsv1.3\nallow_anonymous true\npersistence false\n\
         set_tcp_nodelay true\nmax_inflight_messages {WINDOW}\nmax_queued_messages 0\nuser root\n",
        place.port,
        place.certificate().display(),
        place.key().display(),
    );
    let config = place.config(&config)?;
    place.start(Command::new(program(PROGRAM)?).arg("-c").arg(config))
}

pub(super) async fn pair(server: &Server) -> Result<(Publisher, Subscriber)> {
    let (receiver, mut events) = connect(server, "receiver")?;
    receiver.subscribe(TOPIC, QoS::AtLeastOnce).await?;
    while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
    let (sender, mut acknowledgements) = connect(server, "sender")?;
    while !matches!(acknowledgements.poll().await?, Event::Incoming(Packet::ConnAck(_))) {}
    let credit = Arc::new(Semaphore::new(WINDOW));
    tokio::spawn(give_back(acknowledgements, Arc::clone(&credit)));
    Ok((Publisher { client: sender, credit }, Subscriber { _client: receiver, events }))
}

fn connect(server: &Server, name: &str) -> Result<(AsyncClient, EventLoop)> {
    let mut options = MqttOptions::new(name, NAME, server.place().port);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(server.shared_tls()?)));
    options.set_inflight(WINDOW as u16);
    let (client, mut events) = AsyncClient::new(options, QUEUE);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    Ok((client, events))
}

/// The sender's connection does its work only while its events are asked for.
async fn give_back(mut events: EventLoop, credit: Arc<Semaphore>) -> Result<()> {
    loop {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
            credit.add_permits(1);
        }
    }
}

pub(super) struct Publisher {
    client: AsyncClient,
    credit: Arc<Semaphore>,
}

impl Outlet for Publisher {
    async fn send(&mut self, payload: [u8; PAYLOAD]) -> Result<()> {
        self.credit.acquire().await?.forget();
        Ok(self.client.publish(TOPIC, QoS::AtLeastOnce, false, payload).await?)
    }
}

pub(super) struct Subscriber {
    _client: AsyncClient,
    events: EventLoop,
}

impl Inlet for Subscriber {
    async fn receive(&mut self) -> Result<Bytes> {
        loop {
            match self.events.poll().await? {
                Event::Incoming(Packet::Publish(message)) => return Ok(message.payload),
                Event::Incoming(Packet::Disconnect) => bail!("the server ended the connection"),
                _ => {}
            }
        }
    }
}
