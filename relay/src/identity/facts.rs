//! What a certificate says of itself, and what clients object to.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::CertificateDer;
use x509_cert::{
    Certificate as X509,
    der::{Decode, Error, asn1::ObjectIdentifier, oid::db::rfc5280::ID_KP_SERVER_AUTH},
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, SubjectAltName, name::GeneralName},
    time::Time,
};

/// What a certificate says of itself.
pub(super) struct Facts {
    names: Vec<String>,
    from: Time,
    until: Time,
    is_authority: bool,
    /// Whether it is for servers, among others.
    for_servers: bool,
}

/// Clients refuse a certificate that has expired; this long before, there is a warning.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// For any purpose.
const ANY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is not well-formed.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let body = X509::from_der(certificate)?.tbs_certificate;
        let names = body.get::<SubjectAltName>()?.map_or_else(Vec::new, |(_, names)| names.0);
        let usage = body.get::<ExtendedKeyUsage>()?.map(|(_, usage)| usage.0);
        Ok(Self {
            names: names.iter().filter_map(name).collect(),
            from: body.validity.not_before,
            until: body.validity.not_after,
            is_authority: body.get::<BasicConstraints>()?.is_some_and(|(_, constraints)| constraints.ca),
            for_servers: usage.is_none_or(|usage| usage.iter().any(|one| [ID_KP_SERVER_AUTH, ANY].contains(one))),
        })
    }

    /// For people: names and last day.
    pub(super) fn describe(&self) -> String {
        let names = if self.names.is_empty() { "no names".to_owned() } else { self.names.join(", ") };
        format!("for {names}, until {}", day(self.until))
    }

    /// What clients object to in a relay's own certificate. Each text follows "the certificate".
    pub(super) fn objections(&self, now: SystemTime) -> Vec<String> {
        let mut objections: Vec<_> = self.outdated(now).into_iter().collect();
        if self.is_authority {
            objections.push(
                "is that of an authority (CA:TRUE), as `openssl req -x509` makes it: clients can trust it by its fingerprint \
                 only; -addext basicConstraints=critical,CA:FALSE makes one that they can also trust with --ca"
                    .to_owned(),
            );
        }
        if !self.for_servers {
            objections
                .push("is not for servers (extended key usage): clients can trust it by its fingerprint only".into());
        }
        if self.names.is_empty() {
            objections.push("has no names (subjectAltName): clients can trust it by its fingerprint only".into());
        }
        objections
    }

    /// What is wrong with its dates.
    pub(super) fn outdated(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (from, until) = (self.from.to_unix_duration(), self.until.to_unix_duration());
        if now < from {
            Some(format!("is not valid before {}: check the clock of this machine", day(self.from)))
        } else if now > until {
            Some(format!("expired on {}: replace it and start the relay again", day(self.until)))
        } else if now + SOON > until {
            Some(format!("expires on {}: replace it and start the relay again by then", day(self.until)))
        } else {
            None
        }
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let four = <[u8; 4]>::try_from(bytes.as_bytes()).map(|four| Ipv4Addr::from(four).to_string());
            four.or_else(|_| <[u8; 16]>::try_from(bytes.as_bytes()).map(|all| Ipv6Addr::from(all).to_string())).ok()
        }
        _ => None,
    }
}

/// The day, in UTC.
fn day(time: Time) -> String {
    let date = time.to_date_time();
    format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints as Basic, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn facts(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Facts {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 2, 3));
        change(&mut params);
        Facts::read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    /// A day of 2030.
    fn on(day: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_893_456_000 + day * 86_400)
    }

    #[test]
    fn a_good_one_is_described_and_nothing_is_wrong_with_it() {
        let good = facts(&["chat.example", "10.0.0.1", "::1"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert_eq!(good.describe(), "for chat.example, 10.0.0.1, ::1, until 2031-02-03");
        assert_eq!(good.objections(on(0)), [""; 0]);
    }

    #[test]
    fn its_dates() {
        let good = facts(&["chat.example"], |_| ());
        let wrong = |day| good.outdated(on(day)).unwrap_or_default();
        assert_eq!(
            good.outdated(on(0) - Duration::from_secs(1)).unwrap().split(':').next(),
            Some("is not valid before 2030-01-01")
        );
        assert_eq!([0, 383].map(wrong), ["", ""], "14 days are left");
        assert!(wrong(385).starts_with("expires on 2031-02-03"), "{}", wrong(385));
        assert!(wrong(399).starts_with("expired on 2031-02-03"), "{}", wrong(399));
    }

    #[test]
    fn what_clients_object_to() {
        for (facts, objection) in [
            (
                facts(&["a"], |params| params.is_ca = IsCa::Ca(Basic::Unconstrained)),
                "is that of an authority (CA:TRUE)",
            ),
            (facts(&[], |_| ()), "has no names"),
            (
                facts(&["a"], |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
                "is not for servers",
            ),
        ] {
            let found = facts.objections(on(0));
            assert!(matches!(&found[..], [one] if one.starts_with(objection)), "{objection}: {found:?}");
        }
    }
}
