//! HTTP/1.1 by hand, for what a proper client would never send.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// A connection.
pub(crate) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct RawReply {
    pub(crate) status: u16,
    /// The head as sent.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Sends bytes; a peer that has hung up already is no fault of the test.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.ok();
    }

    /// Returns more bytes of the connection, none at its end.
    async fn more(&mut self) -> usize {
        let mut piece = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let read = read.expect("the server says nothing and does not hang up").unwrap_or(0);
        self.unread.extend_from_slice(&piece[..read]);
        read
    }

    /// Reads until the bytes so far contain `mark`; returns everything up to its end.
    pub(crate) async fn until(&mut self, mark: &str) -> Option<String> {
        loop {
            let found = self.unread.windows(mark.len()).position(|window| window == mark.as_bytes());
            if let Some(at) = found {
                let rest = self.unread.split_off(at + mark.len());
                let read = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8_lossy(&read).into_owned());
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }

    /// Returns the next response; `None` when the server hangs up without one.
    pub(crate) async fn response(&mut self) -> Option<RawReply> {
        let head = self.until("\r\n\r\n").await?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while self.unread.len() < length && self.more().await > 0 {}
        let rest = self.unread.split_off(length.min(self.unread.len()));
        let body = std::mem::replace(&mut self.unread, rest);
        Some(RawReply { status, head, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Reads to the end of the connection; returns what was left.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }
}

impl RawReply {
    /// Returns the code of a problem document; empty without one.
    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}
