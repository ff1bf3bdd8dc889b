//! What a NATS server says about itself on its monitoring port.

use std::{io, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A server, as its page `/varz` tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Server {
    #[serde(rename = "server_name")]
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct JetStream {
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
}

impl Server {
    /// Whether it syncs before it acknowledges.
    pub(crate) fn syncs_always(&self) -> bool {
        self.jetstream.config.sync_always
    }
}

/// Asks the monitoring port at `url`, `http://host:port`.
pub(crate) async fn ask(url: &str) -> io::Result<Server> {
    timeout(WITHIN, get(url)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// HTTP/1.0, so that the body is whatever comes until the connection ends.
async fn get(url: &str) -> io::Result<Server> {
    let place = url.strip_prefix(SCHEME).ok_or_else(|| bad("it does not begin with http://"))?;
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let path = path.trim_end_matches('/');
    let separator = if path.is_empty() { "" } else { "/" };
    let mut connection = TcpStream::connect(host).await?;
    let request = format!("GET {separator}{path}/varz HTTP/1.0\r\nHost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(MOST).read_to_end(&mut answer).await?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> io::Result<Server> {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(|| bad("its answer is not HTTP"))?;
    let status = std::str::from_utf8(&answer[..head]).ok().and_then(|head| head.split(' ').nth(1));
    if status != Some("200") {
        return Err(bad(&format!("it answers {} instead of 200", status.unwrap_or("something"))));
    }
    serde_json::from_slice(&answer[head + 4..]).map_err(|error| bad(&format!("it is not a NATS server: {error}")))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// What a monitoring URL begins with.
pub(crate) const SCHEME: &str = "http://";
const WITHIN: Duration = Duration::from_secs(3);
/// Bytes of an answer. Usual are ten thousand.
const MOST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_says() {
        let says = |body: &str| parse(format!("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{body}").as_bytes());
        let server =
            says(r#"{"server_name":"n1","version":"2.15.1","jetstream":{"config":{"sync_always":true}}}"#).unwrap();
        assert!(server.syncs_always() && server.name == "n1" && server.version == "2.15.1");
        let server =
            says(r#"{"server_name":"n1","version":"2.15.1","jetstream":{"config":{"sync_interval":120}}}"#).unwrap();
        assert!(!server.syncs_always(), "said nothing about it");
        assert!(!says(r#"{"server_name":"n1","version":"2.15.1"}"#).unwrap().syncs_always(), "has no JetStream");
        assert!(says("<html>").is_err() && says("{}").is_err());
        assert!(parse(b"HTTP/1.0 404 Not Found\r\n\r\n{}").unwrap_err().to_string().contains("404"));
        assert!(parse(b"SSH-2.0").is_err());
    }
}
