//! A blocking HTTP/1.1 client that does nothing by itself: no pool, no retry, no redirect.

use super::PATIENCE;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// A connection that has sent `bytes`.
pub(crate) fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// One connection, kept from request to request and opened again where the server has closed it.
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    /// When the connection of the last request was open.
    pub(crate) opened: Option<Instant>,
    /// When the last request was sent, as far as it was.
    pub(crate) sent: Option<Instant>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        let found = self.head.lines().find(|l| line(l))?;
        found.split_once(':').map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}{}", self.head, self.text());
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, opened: None, sent: None }
    }

    /// A request that must be answered.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.try_ask(method, path, "", body).unwrap()
    }

    /// A request with further header lines, each ended by CR LF.
    ///
    /// # Errors
    /// The connection failed before the answer was whole.
    pub(crate) fn try_ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let answer = self.exchange(method, path, headers, body);
        if answer.as_ref().map_or(true, |a| a.header("connection") == Some("close")) {
            self.stream = None;
        }
        answer
    }

    fn exchange(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        self.sent = None;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                self.opened = None;
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                self.opened = Some(Instant::now());
                none.insert(BufReader::new(stream))
            }
        };
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        // One write for what is small, so that a server that is killed has all of it or nothing.
        if body.len() <= 1 << 16 {
            request.extend_from_slice(body);
            stream.get_mut().write_all(&request)?;
        } else {
            stream.get_mut().write_all(&request)?;
            // A server may refuse a long body before it has read it; its answer is what counts.
            let _ = stream.get_mut().write_all(body);
        }
        self.sent = Some(Instant::now());
        read_answer(stream)
    }
}

/// Reads one answer. One that ends before it is whole is an error of the kind `Other`; one that does not begin is not.
pub(crate) fn read_answer(stream: &mut impl BufRead) -> io::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let begun = !head.is_empty();
        match stream.read_line(&mut head) {
            Ok(0) if !begun => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Err(io::Error::other("half a head")),
            Err(error) if begun => return Err(io::Error::other(error)),
            outcome => outcome?,
        };
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let mut answer = Answer { status, head, body: Vec::new() };
    read_body(stream, &mut answer).map_err(io::Error::other)?;
    Ok(answer)
}

fn read_body(stream: &mut impl BufRead, answer: &mut Answer) -> io::Result<()> {
    let length: Option<u64> = answer.header("content-length").and_then(|length| length.parse().ok());
    match length {
        Some(length) => read_exactly(stream, length, &mut answer.body)?,
        None if answer.header("transfer-encoding") == Some("chunked") => loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            read_exactly(stream, length, &mut answer.body)?;
            stream.read_line(&mut line)?;
            if length == 0 {
                break;
            }
        },
        None => {}
    }
    Ok(())
}

fn read_exactly(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = stream.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
