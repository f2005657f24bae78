//! When a certificate ends: the one field of X.509 that an operator is warned of, read without a library for the rest.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the validity of a certificate (DER), in seconds since 1970; `None` where it is not one.
pub(super) fn of(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    // Version (left out in the oldest), serial number, algorithm, issuer; then the validity.
    for _ in 0..3 + usize::from(fields.first() == Some(&VERSION)) {
        fields = any(fields)?.2;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, _, behind_start) = any(validity)?;
    let (tag, end, _) = any(behind_start)?;
    seconds(tag, std::str::from_utf8(end).ok()?)
}

/// Tag and content of the first element, and what is behind it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    any(der).filter(|(tag, ..)| *tag == wanted).map(|(_, content, behind)| (content, behind))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the two forms that RFC 5280 has.
fn seconds(tag: u8, time: &str) -> Option<i64> {
    let whole = match tag {
        UTC_TIME => format!("{}{time}", if time < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => time.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", whole).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of nothing but what leads to its end.
    fn certificate(version: bool, end: (u8, &str)) -> Vec<u8> {
        let der = |tag: u8, content: &[u8]| [&[tag, 0x81, content.len() as u8], content].concat();
        let mut fields = Vec::new();
        if version {
            fields.extend(der(VERSION, &[2, 1, 2]));
        }
        fields.extend(der(2, &[1])); // serial
        fields.extend(der(SEQUENCE, &[5, 0])); // algorithm
        fields.extend(der(SEQUENCE, &[])); // issuer
        let start = der(UTC_TIME, b"200101000000Z");
        fields.extend(der(SEQUENCE, &[start, der(end.0, end.1.as_bytes())].concat()));
        der(SEQUENCE, &der(SEQUENCE, &fields))
    }

    #[test]
    fn the_end_is_read_in_both_forms() {
        let check = |form, time: &str, seconds| {
            for version in [true, false] {
                assert_eq!(of(&certificate(version, (form, time))), Some(seconds), "{time}");
            }
        };
        check(UTC_TIME, "300101000000Z", 1_893_456_000);
        check(UTC_TIME, "491231235959Z", 2_524_607_999);
        check(UTC_TIME, "700101000001Z", 1);
        check(GENERALIZED_TIME, "20500101000000Z", 2_524_608_000);
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let good = certificate(true, (UTC_TIME, "300101000000Z"));
        assert!((0..good.len()).all(|length| of(&good[..length]).is_none()));
        assert_eq!(of(&certificate(true, (UTC_TIME, "301301000000Z"))), None);
        assert_eq!(of(&certificate(true, (UTC_TIME, "Ümlaut"))), None);
        assert_eq!(of(&certificate(true, (4, "300101000000Z"))), None);
        assert_eq!(of(&[SEQUENCE, 0x84, 255, 255, 255, 255]), None);
    }
}
