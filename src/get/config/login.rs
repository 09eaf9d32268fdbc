//! Fields of requests that identify the user: credentials, fields of the user's own, a user agent.
//! All but the user agent goes only to the origins that the user named.

use std::fmt;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::get::source::HttpUrl;

/// Fields of requests to the servers that the user named.
#[derive(Clone, Default)]
pub struct Login {
    /// `User-Agent`, in place of haul's.
    pub user_agent: Option<String>,
    /// More fields.
    pub fields: Vec<Field>,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// Where to look for credentials by host.
    pub netrc: Option<Netrc>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// `Basic` credentials (RFC 7617) for `Authorization`.
#[must_use]
pub fn basic(user_and_password: &[u8]) -> String {
    format!("Basic {}", STANDARD.encode(user_and_password))
}

impl Login {
    /// The header lines of a request to `url`; `named` if the user named its origin.
    pub(crate) fn write(&self, url: &HttpUrl, accept: &str, named: bool, text: &mut String) {
        let fields: &[Field] = if named { &self.fields } else { &[] };
        let own = |name: &str| fields.iter().any(|it| it.name.eq_ignore_ascii_case(name));
        let mut line = |name: &str, value: &str| {
            if !own(name) {
                // Writing to a string cannot fail.
                let _ = write!(text, "{name}: {}\r\n", one_char_a_byte(value));
            }
        };
        line("Host", &url.authority());
        line(
            "User-Agent",
            self.user_agent.as_deref().unwrap_or(USER_AGENT),
        );
        line("Accept", accept);
        if let Some(value) = self.authorization_for(url, named) {
            line("Authorization", &value);
        }
        for Field { name, value } in fields {
            let _ = write!(text, "{name}: {}\r\n", one_char_a_byte(value));
        }
    }

    fn authorization_for(&self, url: &HttpUrl, named: bool) -> Option<String> {
        if let Some(credentials) = url.credentials() {
            return Some(basic(&credentials));
        }
        if !named {
            return None;
        }
        self.authorization.clone().or_else(|| {
            let host = url.url().host_str()?;
            self.netrc.as_ref()?.find(host).map(basic)
        })
    }
}

/// A field of a request that the user added.
#[derive(Clone)]
pub struct Field {
    name: String,
    value: String,
}

impl std::str::FromStr for Field {
    type Err = &'static str;

    /// Parses `NAME: VALUE`. The error does not repeat it: it may be a secret.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
        let value = value.trim();
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.chars().any(char::is_control) {
            return Err("a header is NAME: VALUE, on one line");
        }
        if RESERVED.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            return Err("haul needs Range, If-Range and the fields about the connection itself");
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        Ok(Self { name, value })
    }
}

/// The credentials in a `.netrc` file.
#[derive(Clone, Default)]
pub struct Netrc {
    /// Host, and `user:password`; `None` is the host of `default`.
    machines: Vec<(Option<String>, String)>,
}

impl Netrc {
    /// Reads a file in the format of `netrc(5)`; unknown tokens are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut machines = Vec::new();
        let words = words(text);
        let mut words = words.iter().map(String::as_str);
        let (mut host, mut login, mut password) = (None, String::new(), String::new());
        loop {
            let word = words.next();
            if matches!(word, None | Some("machine" | "default"))
                && let Some(host) = host.take()
            {
                let pair = format!("{login}:{password}");
                machines.push((host, pair));
                (login, password) = (String::new(), String::new());
            }
            let mut value = || words.next().unwrap_or_default().to_owned();
            match word {
                None => return Self { machines },
                Some("machine") => host = Some(Some(value())),
                Some("default") => host = Some(None),
                Some("login") => login = value(),
                Some("password") => password = value(),
                Some("account") => drop(value()),
                Some(_) => {}
            }
        }
    }

    fn find(&self, host: &str) -> Option<&[u8]> {
        let mut found = self.machines.iter().filter(|(machine, _)| {
            machine
                .as_ref()
                .is_none_or(|it| it.eq_ignore_ascii_case(host))
        });
        found.next().map(|(_, pair)| pair.as_bytes())
    }
}

/// Header values are one byte a character.
fn one_char_a_byte(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

/// The words outside of comments and of macros, which an empty line ends.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut rest = line.trim_ascii_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (word, behind) = first_word(rest);
            if word == "macdef" {
                lines
                    .by_ref()
                    .take_while(|it| !it.is_empty())
                    .for_each(drop);
                break;
            }
            words.push(word);
            rest = behind.trim_ascii_start();
        }
    }
    words
}

/// The first word and the rest; in quotes it may have blanks, as in curl.
fn first_word(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|it: char| it.is_ascii_whitespace());
        let (word, behind) = text.split_at(end.unwrap_or(text.len()));
        return (word.to_owned(), behind);
    };
    let (mut word, mut characters) = (String::new(), quoted.chars());
    while let Some(character) = characters.next().filter(|it| *it != '"') {
        word.extend(match character {
            '\\' => characters.next(),
            other => Some(other),
        });
    }
    (word, characters.as_str())
}

const USER_AGENT: &str = concat!("haul/", env!("CARGO_PKG_VERSION"));
const RESERVED: [&str; 9] = [
    "Range",
    "If-Range",
    "Accept-Encoding",
    "Connection",
    "Content-Length",
    "Proxy-Authorization",
    "TE",
    "Transfer-Encoding",
    "Upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netrc_files() {
        let text = "# mine\nmachine a.example login me password s#cret\n\
                    machine b.example\n  login you\n  password p # word\ndefault login anonymous password x@y\n";
        let netrc = Netrc::parse(text);
        let find = |host: &str| {
            netrc
                .find(host)
                .map(|it| String::from_utf8_lossy(it).into_owned())
        };
        assert_eq!(find("A.example").as_deref(), Some("me:s#cret"));
        assert_eq!(find("b.example").as_deref(), Some("you:p"));
        assert_eq!(find("c.example").as_deref(), Some("anonymous:x@y"));
        assert!(Netrc::parse("machine").find("h").is_none());
        let text = "macdef init\nput machine h login no password no\n\n\
                    machine h login \"a b\" password \"p\\\"q\"\n";
        assert_eq!(Netrc::parse(text).find("h"), Some(&b"a b:p\"q"[..]));
    }

    #[test]
    fn fields_are_one_line_and_leave_haul_its_own() {
        for text in [
            "no colon",
            "a b: x",
            ": x",
            "x: a\r\nEvil: y",
            "range: bytes=0-1",
        ] {
            assert!(text.parse::<Field>().is_err(), "{text:?}");
        }
        let field: Field = "X-Token:  abc ".parse().unwrap();
        assert_eq!(
            (field.name.as_str(), field.value.as_str()),
            ("X-Token", "abc")
        );
    }
}
