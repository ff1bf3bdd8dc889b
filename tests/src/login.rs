//! A login server: keys that sign tokens, and an HTTPS server that publishes them, well or badly.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use quip_relay::{
    auth::{MintKey, TokenRequest, mint},
    identity::SigningKey,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::relay::HOUR;

/// A key that signs tokens.
#[derive(Debug, Clone)]
pub struct Signer(SigningKey);

impl Signer {
    /// A new key.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        Ok(Self(SigningKey::read_or_create(tempfile::tempdir()?.path())?))
    }

    /// A token that lets a user join and post everywhere, good for an hour.
    ///
    /// # Errors
    /// When the user cannot be one.
    pub fn token(&self, user: &str) -> Result<String> {
        let all = [String::from("*")];
        let request = TokenRequest { join: &all, post: &all, create: &all, ..TokenRequest::new(user, HOUR) };
        Ok(mint(&MintKey::own(&self.0)?, &request, SystemTime::now())?)
    }

    /// The name that its tokens give it.
    pub fn kid(&self) -> String {
        self.0.kid()
    }

    fn jwk(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.public());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"{}","x":"{x}"}}"#, self.kid())
    }
}

/// The key set of these keys.
pub fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// How the server answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With a document.
    Document(String),
    /// With a document that never ends.
    Endless,
    /// With one byte of a document at a time, for ever.
    Trickle,
    /// With a status line and headers.
    Status(&'static str),
    /// With headers that never end.
    Headers,
    /// It takes the connection and is silent, before TLS.
    Silent,
}

/// The server. Dropping it closes its port and takes its authority's certificate away.
#[derive(Debug)]
pub struct Login {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    folder: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
    closed: AtomicBool,
    tls: Arc<ServerConfig>,
}

impl Login {
    /// Starts one with a certificate of its own authority.
    ///
    /// # Errors
    /// When the system gives no port or thread.
    pub fn start(answer: Answer) -> Result<Self> {
        Self::with_versions(answer, rustls::ALL_VERSIONS)
    }

    /// Starts one that speaks these versions of TLS only.
    ///
    /// # Errors
    /// As [`Login::start`].
    pub fn with_versions(answer: Answer, versions: &[&'static SupportedProtocolVersion]) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1", HOST].map(str::to_owned);
        let leaf = CertificateParams::new(names)?.signed_by(&key, &authority)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            tls: Arc::new(tls),
        });
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ca.pem"), authority.pem())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let serving = Arc::clone(&state);
        let thread = thread::spawn(move || accept(&listener, &serving));
        Ok(Self { address, state, folder, thread: Some(thread) })
    }

    /// Answers in another way from now on.
    pub fn answer(&self, answer: Answer) {
        *self.state.answer() = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// The certificate of its authority, PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A config file's section for this server.
    pub fn section(&self, more: &str) -> String {
        format!("[[auth.jwks]]\nurl = \"https://{}/keys\"\nca = \"{}\"\n{more}", self.address, self.ca().display())
    }

    /// Closes its port.
    pub fn close(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if state.closed.load(Ordering::SeqCst) {
            return;
        }
        let state = Arc::clone(state);
        // A client that hangs up, or does not trust the certificate, is part of the tests.
        thread::spawn(move || drop(serve(stream, &state)));
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    state.asked.fetch_add(1, Ordering::SeqCst);
    let answer = state.answer().clone();
    if let Answer::Silent = answer {
        // Until the client has had enough.
        return io::copy(&mut stream, &mut io::sink()).map(drop);
    }
    let mut first = [0; 7];
    if stream.peek(&mut first)? == first.len() && &first == b"CONNECT" {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    }
    let connection = ServerConnection::new(Arc::clone(&state.tls)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    read_head(&mut stream)?;
    match answer {
        Answer::Document(document) => {
            let length = document.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{document}")?;
        }
        Answer::Status(head) => write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n")?,
        Answer::Headers => {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(b"Name: value\r\n")?;
            }
        }
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n{{\"keys\":[")?;
            loop {
                stream.write_all(&[b' '; 16 << 10])?;
            }
        }
        Answer::Trickle => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                stream.flush()?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        Answer::Silent => {}
    }
    stream.conn.send_close_notify();
    stream.flush()
}

/// Reads a request without a body, byte by byte: what follows belongs to somebody else.
fn read_head(stream: &mut impl Read) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(())
}

/// A name of the server that no resolver knows.
pub const HOST: &str = "login.example.org";
