//! Compressed bodies, both ways. What is decompressed is bounded while it comes out: by bytes, and by how many times more
//! they are than what was sent, so that a bomb costs no more than an honest body.

use super::media::Coding;
use super::problem::Problem;
use std::io::{self, Write};

/// Decompressed bytes that are free of the ratio: a few bytes may well stand for a page of equal lines.
const FREE_BYTES: usize = 1 << 20;
/// The greatest window of a zstd frame, as a power of two: what RFC 9659 has for HTTP. It is memory that a frame asks for.
const ZSTD_WINDOW: u32 = 23;
/// Quick rather than small: an answer is sent once.
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: u32 = 1;

/// Limits on what comes out of a compressed body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most bytes.
    pub(super) bytes: usize,
    /// Most times that what was sent, beyond the first MiB.
    pub(super) ratio: usize,
}

/// Where decompressed bytes go; full once as many are there as there may be now.
#[derive(Debug)]
struct Sink {
    bytes: Vec<u8>,
    /// Bytes that came out, in all.
    total: usize,
    /// Most bytes that may come out, for what was put in so far.
    most: usize,
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.total = self.total.saturating_add(piece.len());
        if self.total > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decompress {
    Gzip(flate2::write::MultiGzDecoder<Sink>),
    Zstd(zstd::stream::zio::Writer<Sink, zstd::stream::raw::Decoder<'static>>),
}

/// Decompresses what comes in pieces.
pub(super) struct Decoder {
    inner: Decompress,
    limits: Limits,
    put_in: usize,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("limits", &self.limits).field("put_in", &self.put_in).finish()
    }
}

impl Decoder {
    /// # Errors
    /// No memory for it.
    pub(super) fn new(coding: Coding, limits: Limits) -> io::Result<Self> {
        let sink = Sink { bytes: Vec::new(), total: 0, most: 0 };
        let inner = match coding {
            Coding::Gzip => Decompress::Gzip(flate2::write::MultiGzDecoder::new(sink)),
            Coding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new()?;
                decoder.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW))?;
                Decompress::Zstd(zstd::stream::zio::Writer::new(sink, decoder))
            }
        };
        Ok(Self { inner, limits, put_in: 0 })
    }

    /// Decompresses some of `piece`, at least a byte of it, and says how many: never much more than 32 KiB come out at once.
    ///
    /// # Errors
    /// [`Problem::bad_coding`], or 413 for what would be over the limits.
    pub(super) fn put(&mut self, piece: &[u8]) -> Result<usize, Problem> {
        self.allow(piece.len());
        let taken = match &mut self.inner {
            Decompress::Gzip(gzip) => gzip.write(piece),
            Decompress::Zstd(zstd) => zstd.write(piece),
        };
        match taken {
            Ok(0) => Err(Problem::bad_coding()),
            Ok(taken) => {
                self.put_in = self.put_in.saturating_add(taken);
                Ok(taken)
            }
            Err(error) => Err(self.problem(&error)),
        }
    }

    /// Sees that nothing is missing at the end.
    ///
    /// # Errors
    /// As [`Decoder::put`].
    pub(super) fn finish(&mut self) -> Result<(), Problem> {
        self.allow(0);
        let done = match &mut self.inner {
            _ if self.put_in == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Decompress::Gzip(gzip) => gzip.try_finish(),
            Decompress::Zstd(zstd) => zstd.finish(),
        };
        done.map_err(|error| self.problem(&error))
    }

    /// What came out since the last call, appended to `to`.
    ///
    /// # Errors
    /// As [`Decoder::put`].
    pub(super) fn take(&mut self, to: &mut Vec<u8>) -> Result<(), Problem> {
        let flushed = match &mut self.inner {
            Decompress::Gzip(gzip) => gzip.flush(),
            Decompress::Zstd(zstd) => zstd.flush(),
        };
        flushed.map_err(|error| self.problem(&error))?;
        let sink = self.sink();
        if to.is_empty() {
            std::mem::swap(to, &mut sink.bytes);
        } else {
            to.append(&mut sink.bytes);
        }
        Ok(())
    }

    /// What came out at the end.
    pub(super) fn take_rest(&mut self, to: &mut Vec<u8>) {
        to.append(&mut self.sink().bytes);
    }

    fn sink(&mut self) -> &mut Sink {
        match &mut self.inner {
            Decompress::Gzip(gzip) => gzip.get_mut(),
            Decompress::Zstd(zstd) => zstd.writer_mut(),
        }
    }

    fn allow(&mut self, piece: usize) {
        let earned = self.put_in.saturating_add(piece).saturating_mul(self.limits.ratio);
        self.sink().most = earned.max(FREE_BYTES).min(self.limits.bytes);
    }

    fn problem(&mut self, error: &io::Error) -> Problem {
        let Limits { bytes, ratio } = self.limits;
        match error.kind() {
            io::ErrorKind::FileTooLarge if self.sink().most >= bytes => Problem::body_too_large(bytes as u64),
            io::ErrorKind::FileTooLarge => Problem::body_expands(ratio),
            _ => Problem::bad_coding(),
        }
    }
}

/// A whole body decompressed.
///
/// # Errors
/// As [`Decoder::put`].
pub(super) fn decode(coding: Coding, limits: Limits, mut body: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut decoder = Decoder::new(coding, limits).map_err(|_| Problem::overloaded())?;
    while !body.is_empty() {
        body = &body[decoder.put(body)?..];
    }
    decoder.finish()?;
    let mut decoded = Vec::new();
    decoder.take(&mut decoded)?;
    Ok(decoded)
}

/// A whole body compressed; `None` where that fails or makes it no smaller.
pub(super) fn encode(coding: Coding, body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = Encoder::new(coding).ok()?;
    encoder.put(body).ok()?;
    encoder.finish().ok().filter(|small| small.len() < body.len())
}

enum Compress {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// Compresses what comes in pieces.
pub(super) struct Encoder(Compress);

impl Encoder {
    /// # Errors
    /// No memory for it.
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Compress::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            Coding::Zstd => Compress::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
        }))
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// No memory for it.
    pub(super) fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Compress::Gzip(gzip) => gzip.write_all(piece),
            Compress::Zstd(zstd) => zstd.write_all(piece),
        }
    }

    /// All that was put in so far, so that who gets it can read it to its end.
    ///
    /// # Errors
    /// No memory for it.
    pub(super) fn flush(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.0 {
            Compress::Gzip(gzip) => {
                gzip.flush()?;
                Ok(std::mem::take(gzip.get_mut()))
            }
            Compress::Zstd(zstd) => {
                zstd.flush()?;
                Ok(std::mem::take(zstd.get_mut()))
            }
        }
    }

    /// The rest.
    ///
    /// # Errors
    /// No memory for it.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Compress::Gzip(gzip) => gzip.finish(),
            Compress::Zstd(zstd) => zstd.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 8 << 20, ratio: 100 };
    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Zstd];

    fn varied(bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x3f).collect()
    }

    #[test]
    fn what_is_compressed_comes_out_again() {
        for coding in BOTH {
            for body in [b"a".to_vec(), varied(70_000), vec![7; 500_000], varied(3_000_000)] {
                let mut encoder = Encoder::new(coding).unwrap();
                encoder.put(&body).unwrap();
                let small = encoder.finish().unwrap();
                assert_eq!(decode(coding, LIMITS, &small).unwrap(), body);
                let members = [&small[..], &small].concat();
                assert_eq!(
                    decode(coding, LIMITS, &members).unwrap(),
                    [&body[..], &body].concat(),
                    "two members"
                );
                let mut decoder = Decoder::new(coding, LIMITS).unwrap();
                for byte in &small {
                    assert_eq!(decoder.put(&[*byte]).unwrap(), 1);
                }
                decoder.finish().unwrap();
                let mut out = Vec::new();
                decoder.take(&mut out).unwrap();
                assert_eq!(out, body, "byte by byte");
                for cut in [0, 1, small.len() / 2, small.len() - 1] {
                    let code = decode(coding, LIMITS, &small[..cut]).unwrap_err().code();
                    assert_eq!(code, "bad_coding", "{coding:?} cut at {cut}");
                }
                assert_eq!(
                    decode(coding, LIMITS, &[&small[..], b"xyz"].concat()).unwrap_err().code(),
                    "bad_coding"
                );
            }
        }
        assert_eq!(encode(Coding::Zstd, b"abc"), None, "no smaller");
    }

    #[test]
    fn a_flushed_piece_can_be_read_at_once() {
        for coding in BOTH {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut decoder = Decoder::new(coding, LIMITS).unwrap();
            for line in ["one\n", "two\n"] {
                encoder.put(line.as_bytes()).unwrap();
                let mut piece = &encoder.flush().unwrap()[..];
                while !piece.is_empty() {
                    piece = &piece[decoder.put(piece).unwrap()..];
                }
                let mut out = Vec::new();
                decoder.take(&mut out).unwrap();
                assert_eq!(out, line.as_bytes(), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_goes_off() {
        for coding in BOTH {
            let mut encoder = Encoder::new(coding).unwrap();
            for _ in 0..64 {
                encoder.put(&vec![0; 1 << 20]).unwrap();
            }
            let bomb = encoder.finish().unwrap();
            assert!(bomb.len() < 400_000);
            let code = decode(coding, LIMITS, &bomb).unwrap_err().code();
            assert!(code == "body_expands" || code == "body_too_large", "{code}");
            assert_eq!(
                decode(coding, Limits { bytes: 1000, ratio: 100 }, &bomb).unwrap_err().code(),
                "body_too_large"
            );
            let mut decoder = Decoder::new(coding, LIMITS).unwrap();
            let mut rest = &bomb[..];
            while let Ok(taken) = decoder.put(rest) {
                rest = &rest[taken..];
            }
            assert!(decoder.sink().bytes.capacity() <= 16 << 20, "what is held is bounded");
        }
    }
}
