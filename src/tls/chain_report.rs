//! Faults of a chain that clients find: its dates, and its order.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::time::Time;

/// The dates of a chain's certificates, and whether each one's issuer follows it.
#[derive(Clone, Debug)]
pub(crate) struct ChainReport {
    file: PathBuf,
    /// By the number of the certificate, from 1 on.
    dates: Vec<(usize, Dates)>,
    /// The numbers of certificates that the next one did not issue.
    unlinked: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Dates {
    not_before: Time,
    not_after: Time,
}

impl ChainReport {
    /// Reads a chain, the end entity first. Of a certificate that cannot be read nothing is known.
    pub(crate) fn of(file: PathBuf, chain: &[CertificateDer<'_>]) -> Self {
        let read = |der: &CertificateDer<'_>| Certificate::from_der(der).ok();
        let read: Vec<_> = chain.iter().map(read).collect();
        let dates = (1..).zip(&read).filter_map(|(number, certificate)| {
            let validity = certificate.as_ref()?.tbs_certificate().validity();
            let dates = Dates {
                not_before: validity.not_before,
                not_after: validity.not_after,
            };
            Some((number, dates))
        });
        let is_unlinked = |pair: &[Option<Certificate>]| match pair {
            [Some(one), Some(next)] => {
                one.tbs_certificate().issuer() != next.tbs_certificate().subject()
            }
            _ => false,
        };
        let pairs = (1..).zip(read.windows(2));
        Self {
            dates: dates.collect(),
            unlinked: pairs
                .filter_map(|(number, pair)| is_unlinked(pair).then_some(number))
                .collect(),
            file,
        }
    }

    /// The file, or the directory of the server's own key.
    pub(crate) fn file(&self) -> &PathBuf {
        &self.file
    }

    /// The end of the chain's first certificate to expire, since 1970.
    pub(crate) fn not_after(&self) -> Option<Duration> {
        let ends = self
            .dates
            .iter()
            .map(|(_, it)| it.not_after.to_unix_duration());
        ends.min()
    }

    /// What clients refuse or will refuse, one line each.
    pub(crate) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = since.unwrap_or_default();
        let of_dates = self.dates.iter().filter_map(|(number, dates)| {
            Some(format!("certificate {number} {}", dates.warning(now)?))
        });
        let of_order = self.unlinked.iter().map(|number| {
            format!(
                "certificate {number} is not issued by the next one: clients may find no way to \
                 an authority"
            )
        });
        let file = self.file.display();
        let all = of_dates.chain(of_order);
        all.map(|why| format!("--tls-cert {file}: {why}")).collect()
    }
}

impl Dates {
    fn warning(self, now: Duration) -> Option<String> {
        let (from, until) = (self.not_before, self.not_after);
        let (begin, end) = (from.to_unix_duration(), until.to_unix_duration());
        // Those of six days are renewed when two are left.
        let soon = SOON.min(end.saturating_sub(begin) / 3);
        match now {
            _ if now < begin => Some(format!("is not valid before {from}: clients refuse it")),
            _ if now > end => Some(format!("expired on {until}: clients refuse it")),
            _ if end - now < soon => Some(format!("expires on {until}: renew it")),
            _ => None,
        }
    }
}

/// Time for an operator to find out why the renewal failed.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
