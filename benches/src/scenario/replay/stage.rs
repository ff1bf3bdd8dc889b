//! The relay and the room of a run, and how a user gets there.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quip_client::{
    Client, Config, ConnectError, Events, OpenError, OpenOptions, Sender, Start, Target, TokenError, Trust, UserId,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::args::Args;
use crate::{token::SigningKey, transport::decode_pin};

/// How to reach the relay, and which room.
pub(crate) struct Stage {
    relays: Vec<String>,
    trust: Trust,
    key: SigningKey,
    pub(crate) room: Target,
    /// How long a user tries to connect and to join.
    patience: Duration,
    /// How long to wait for outstanding deliveries.
    pub(crate) drain: Duration,
}

impl Stage {
    /// What the command line says, completed from the relay's data folder.
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let key = SigningKey::read(&args.data)?;
        let relays = if args.relay.is_empty() { vec![address(&args.data)] } else { args.relay.clone() };
        let room = Target::room(&args.room).context("--room")?;
        let (patience, drain) = (args.connect_timeout, args.drain_timeout);
        Ok(Self { relays, trust: trust(args)?, key, room, patience, drain })
    }

    /// Connects a user.
    pub(crate) async fn connect(&self, user: &UserId) -> Result<Client, ConnectError> {
        let (key, name) = (self.key.clone(), user.clone());
        let token = move || {
            let token = key.token(name.as_str()).map_err(|error| TokenError::fatal(error.to_string()));
            std::future::ready(token)
        };
        let config = Config::new(&self.relays, self.trust.clone(), token)
            .client_name(concat!("quip-bench/", env!("CARGO_PKG_VERSION")))
            .streams(1)
            .connect_timeout(self.patience)
            .answer_timeout(self.patience);
        Client::connect(config).await
    }

    /// Joins the room; retries while that may help.
    pub(crate) async fn open(&self, client: &Client, start: Start) -> Result<(Sender, Events), OpenError> {
        let until = Instant::now() + self.patience;
        loop {
            match client.open(self.room.clone(), OpenOptions::join().start(start)).await {
                Ok(conversation) => return Ok(conversation.split()),
                Err(error) if error.may_retry() && Instant::now() < until => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The address that the relay with this data folder wrote down, else its default.
fn address(data: &Path) -> String {
    let listen = fs::read_to_string(data.join("listen")).ok().and_then(|text| text.trim().parse().ok());
    listen.map_or_else(|| ADDRESS.to_owned(), |listen: SocketAddr| reachable(listen).to_string())
}

/// A relay that listens on every address is reached on loopback.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

fn trust(args: &Args) -> Result<Trust> {
    if let Some(fingerprint) = args.fingerprint {
        return Ok(Trust::Fingerprint(fingerprint));
    }
    if let Some(path) = &args.ca {
        return Ok(Trust::Ca(authorities(path).with_context(|| format!("--ca {}", path.display()))?));
    }
    let path = args.data.join("fingerprint");
    let text = fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}: name the relay to trust with --fingerprint or --ca", path.display())
    })?;
    Ok(Trust::Fingerprint(decode_pin(text.trim()).with_context(|| path.display().to_string())?))
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!certificates.is_empty(), "no certificate in the file");
    Ok(certificates)
}

/// Where a relay without a config file listens.
const ADDRESS: &str = "127.0.0.1:4433";
/// Between two attempts to join.
const PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_on_loopback() {
        for (listen, expected) in
            [("0.0.0.0:5555", "127.0.0.1:5555"), ("[::]:1", "[::1]:1"), ("192.0.2.1:7", "192.0.2.1:7")]
        {
            assert_eq!(listen.parse().map(reachable), expected.parse());
        }
    }
}
