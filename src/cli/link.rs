//! `haul link`.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use ipnet::{IpNet, Ipv4Net};

use haul::internals::Target;
use haul::signed_link::{self, LinkGrant, Scope};

use crate::cli::values::lifetime;

const EXAMPLES: &str = "\
Examples:
  (umask 77; haul link --new-key >~/key)      a key, for `haul serve --link-key ~/key` as well
  haul link --key ~/key --expires 24h big.iso opens that one file for a day
  haul link --key ~/key --expires 7d --subtree --base http://files.example photos
                                              opens all that lies beneath photos for a week

PATH is the path beneath the directory that is served, as it is named there; the file of keys must
not lie in it. To rotate keys, put the new one above the old one in the file, send SIGHUP to
`haul serve`, and take the old one out when its links have expired.";

/// Print a link that opens a file, or what lies beneath a directory, until it expires
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LinkArguments {
    /// The file of keys that `haul serve --link-key` reads; the first one signs
    #[arg(
        long,
        env = "HAUL_LINK_KEY",
        value_name = "FILE",
        required_unless_present = "new_key"
    )]
    key: Option<PathBuf>,

    /// How long the link is good for; a download that has begun goes on
    #[arg(long, value_name = "DURATION", value_parser = lifetime,
        required_unless_present = "new_key")]
    expires: Option<Duration>,

    /// Only for clients of this network or address
    #[arg(long, value_name = "NET", value_parser = net)]
    client: Option<IpNet>,

    /// Open what lies beneath PATH as well
    #[arg(long)]
    subtree: bool,

    /// What to put before the path, as clients reach the server
    #[arg(long, value_name = "URL", default_value = "")]
    base: String,

    /// Print a new random key instead
    #[arg(long, conflicts_with_all = ["expires", "client", "subtree", "path"])]
    new_key: bool,

    /// What the link opens; a directory's name ends in a slash
    #[arg(value_name = "PATH", required_unless_present = "new_key")]
    path: Option<PathBuf>,
}

impl LinkArguments {
    /// Prints the link.
    ///
    /// # Errors
    /// What is wrong with the key or the path, or with writing.
    pub(crate) fn run(self) -> io::Result<()> {
        if self.new_key {
            let mut key = [0_u8; 32];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            let hexadecimal = key.iter().map(|byte| format!("{byte:02x}"));
            return print(&hexadecimal.collect::<String>());
        }
        let (path, expires) = (
            self.path.unwrap_or_default(),
            self.expires.unwrap_or_default(),
        );
        let target = Target::from_path(path.as_os_str().as_bytes());
        let mut target = target.map_err(|_| io::Error::other("PATH holds `..` or a NUL byte"))?;
        if target.trailing_slash && !self.subtree {
            return Err(io::Error::other(
                "a directory's link opens nothing in it; add --subtree, or name a file",
            ));
        }
        target.trailing_slash |= self.subtree;
        let keys = self.key.unwrap_or_default();
        let keys = signed_link::read_keys(&keys).map_err(io::Error::other)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let grant = LinkGrant {
            path: &target.path,
            scope: match self.subtree {
                true => Scope::Subtree,
                false => Scope::Path,
            },
            expires: (now.unwrap_or_default() + expires).as_secs(),
            client: self.client,
        };
        let query = signed_link::make(&grant, &keys);
        let base = self.base.trim_end_matches('/');
        if base.contains(['?', '#']) {
            return Err(io::Error::other("--base ends before a query"));
        }
        print(&format!("{base}{}?{query}", target.url_path()))
    }
}

fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// A network, or an address as a network of one.
fn net(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let net = address.or_else(|_| text.parse::<IpNet>());
    net.map(|net| canonical(net).trunc())
        .map_err(|_| format!("`{text}` is no network; write 10.0.0.0/8 or 2001:db8::/32"))
}

/// A network of IPv4 addresses that were mapped to IPv6 as they are compared: in IPv4.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let address = mapped.addr().to_ipv4_mapped();
    let prefix = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let found = address
        .zip(prefix)
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    found.map_or(net, IpNet::V4)
}

/// The bits before an IPv4 address in an IPv6 address (RFC 4291 section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_as_people_write_them() {
        let cases = [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/64", "::/64"),
        ];
        for (text, expected) in cases {
            assert_eq!(net(text).map(|net| net.to_string()), Ok(expected.into()));
        }
        assert!(net("10.0.0.0/33").is_err());
    }
}
