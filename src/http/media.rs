//! Media types by file name.

/// A media type for `Content-Type`, without the charset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MediaType(&'static str);

impl std::fmt::Display for MediaType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)?;
        match self.charset() {
            Some(charset) => write!(f, "; charset={charset}"),
            None => Ok(()),
        }
    }
}

impl MediaType {
    /// The type of a file by the extension of its name; `application/octet-stream` for an unknown
    /// one.
    pub(crate) fn of(name: &[u8]) -> Self {
        Self(
            extension(name)
                .and_then(by_extension)
                .unwrap_or("application/octet-stream"),
        )
    }

    /// The type without parameters, such as `text/plain`.
    pub(crate) fn essence(self) -> &'static str {
        self.0
    }

    /// The charset to declare: UTF-8 for text, which a browser would otherwise take for
    /// windows-1252.
    pub(crate) fn charset(self) -> Option<&'static str> {
        let is_text = self.0.starts_with("text/") || self.0 == "application/javascript";
        is_text.then_some("utf-8")
    }
}

fn extension(path: &[u8]) -> Option<&str> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let dot = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .filter(|dot| *dot > 0)?;
    str::from_utf8(&name[dot + 1..]).ok()
}

fn by_extension(extension: &str) -> Option<&'static str> {
    // Extensions whose first type in the library is wrong on a file server.
    match extension {
        "ts" => Some("video/mp2t"),
        "zst" => Some("application/zstd"),
        "mjs" => Some("text/javascript"),
        _ => mime_guess::from_ext(extension).first_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells() {
        let cases: [(&[u8], &str); 8] = [
            (b"a/b.TXT", "text/plain"),
            (b"index.html", "text/html"),
            (b"v.mp4", "video/mp4"),
            (b"a.tar.gz", "application/gzip"),
            (b"README", "application/octet-stream"),
            (b".html", "application/octet-stream"),
            (b"dir.html/file", "application/octet-stream"),
            (b"a.\xff", "application/octet-stream"),
        ];
        for (name, essence) in cases {
            assert_eq!(MediaType::of(name).essence(), essence, "{name:?}");
        }
        assert_eq!(MediaType::of(b"a.css").charset(), Some("utf-8"));
        assert_eq!(MediaType::of(b"a.png").charset(), None);
    }
}
