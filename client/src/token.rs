//! Token sources.

use std::{future::Future, pin::Pin};

use thiserror::Error;

/// A source of tokens: a `String` that stays valid, or a function that fetches one.
///
/// It is called on every connect and before a token expires.
///
/// ```
/// # use quip_client::{Config, TokenError, Trust};
/// # async fn fetch() -> Result<String, std::io::Error> { Ok(String::new()) }
/// let config = Config::new(["chat.example.org:4433"], Trust::Fingerprint([0; 32]), || async {
///     fetch().await.map_err(|error| TokenError::temporary(error.to_string()))
/// });
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// Returns a valid token.
    fn token(&self) -> TokenFuture<'_>;
}

/// The future of a token.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send + 'a>>;

/// A failed token source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no token: {text}")]
pub struct TokenError {
    text: String,
    temporary: bool,
}

impl TokenError {
    /// A temporary failure: the client retries.
    pub fn temporary(text: impl Into<String>) -> Self {
        Self { text: text.into(), temporary: true }
    }

    /// A permanent failure that needs the user, such as a new login: the client stops.
    pub fn fatal(text: impl Into<String>) -> Self {
        Self { text: text.into(), temporary: false }
    }

    /// Whether a retry may succeed.
    pub fn may_retry(&self) -> bool {
        self.temporary
    }
}

impl TokenSource for String {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

impl TokenSource for &'static str {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(std::future::ready(Ok((*self).to_owned())))
    }
}

impl<F, T> TokenSource for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Result<String, TokenError>> + Send + 'static,
{
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(self())
    }
}
