//! Which paths are protected.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::http::Coding;
use crate::server::config::Precompressed;

/// The paths from the root that need a login.
#[derive(Clone, Debug)]
pub(super) struct Protected {
    /// Without any, everything is protected.
    globs: Option<GlobSet>,
    /// Whether a path is protected with the one that it answers for.
    precompressed: Precompressed,
}

impl Protected {
    /// A path matches if one of these globs does; without any, every path does, as with the root
    /// for a glob. Upper and lower case count as the same, since some file systems take them so. What
    /// answers for a path in another coding is protected with it.
    ///
    /// # Errors
    /// The glob with a fault, and the fault.
    pub(super) fn new(globs: &[String], precompressed: Precompressed) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        let mut is_everything = globs.is_empty();
        for text in globs {
            let relative = from_root(text).map_err(|why| format!("--protect {text}: {why}"))?;
            is_everything |= relative.is_empty();
            let glob = GlobBuilder::new(&relative)
                .case_insensitive(true)
                .build()
                .map_err(|error| format!("--protect {text}: {error}"))?;
            set.add(glob);
        }
        if is_everything {
            let globs = None;
            return Ok(Self {
                globs,
                precompressed,
            });
        }
        let set = set.build().map_err(|error| format!("--protect: {error}"))?;
        let globs = Some(set);
        Ok(Self {
            globs,
            precompressed,
        })
    }

    /// Whether every path is protected.
    pub(super) fn is_everything(&self) -> bool {
        self.globs.is_none()
    }

    /// Whether a canonical path is protected: it matches, or a directory above it does.
    pub(super) fn contains(&self, path: &[u8]) -> bool {
        let Some(globs) = &self.globs else {
            return true;
        };
        let suffixes = Coding::ALL.iter().map(|coding| coding.suffix().as_bytes());
        let answers_for = suffixes
            .filter_map(|suffix| path.strip_suffix(suffix))
            .next();
        match (self.precompressed, answers_for) {
            (Precompressed::Serve, Some(of)) => matches(globs, path) || matches(globs, of),
            _ => matches(globs, path),
        }
    }
}

fn matches(globs: &GlobSet, path: &[u8]) -> bool {
    let matches = |path: &[u8]| globs.is_match(Path::new(OsStr::from_bytes(path)));
    let mut ends = memchr::memchr_iter(b'/', path).chain([path.len()]);
    // `a/**` matches all paths beneath `a`, and `a/` itself, whose listing shows them.
    ends.any(|end| {
        let directory = [&path[..end], b"/"].concat();
        matches(&path[..end]) || matches(&directory)
    })
}

/// A glob as canonical paths are written: from the root, without empty and dot components. What no
/// canonical path can match is a fault, since it would protect nothing.
fn from_root(glob: &str) -> Result<String, &'static str> {
    let components = glob.split('/').filter(|it| !matches!(*it, "" | "."));
    let components: Vec<_> = components.collect();
    if components.contains(&"..") {
        return Err("no path holds `..` by the time it is compared; name the directory itself");
    }
    let relative = components.join("/");
    let begins_component = relative.starts_with('{') || relative.contains("/{");
    let holds = |it: &&str| relative.contains(it);
    if begins_component && ["{/", ",/", "{./", ",./"].iter().any(holds) {
        return Err("what begins in braces begins with a name, without `/` and `./`");
    }
    Ok(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected(globs: &[&str], precompressed: Precompressed) -> Result<Protected, String> {
        let globs: Vec<_> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Protected::new(&globs, precompressed)
    }

    #[track_caller]
    fn assert_protects(glob: &str, paths: &[&str], open: &[&str]) {
        let protected = protected(&[glob], Precompressed::Ignore).expect("a glob");
        for path in paths {
            assert!(protected.contains(path.as_bytes()), "{glob} and {path}");
        }
        for path in open {
            assert!(!protected.contains(path.as_bytes()), "{glob} and {path}");
        }
    }

    #[test]
    fn a_directory_is_protected_with_all_beneath_it() {
        for glob in ["a", "/a", "a/", "a/**", "/a/**", "a/*"] {
            assert_protects(glob, &["a", "a/b", "a/b/c", "A/b"], &["", "b", "ab", "b/a"]);
        }
        assert_protects("a/b", &["a/b", "a/b/c"], &["a", "a/bc", "b"]);
        assert_protects("**/secret", &["secret", "x/secret/y"], &["secrets", ""]);
        assert_protects("*.iso", &["x.iso", "a/X.ISO", "a.iso/b"], &["x.iso.txt"]);
        assert_protects("*", &["", "a", "a/b"], &[]);
        assert_protects("**", &["", "a", "a/b"], &[]);
        for glob in ["/", "//", "", ".", "./"] {
            assert_protects(glob, &["", "a", "a/b"], &[]);
        }
        for glob in ["./a", "//a", "a//", "a/.", ".//a/./**"] {
            assert_protects(glob, &["a", "a/b"], &["", "ab"]);
        }
        assert_protects("a//b", &["a/b"], &["a"]);
        assert_protects("{a,b/c}", &["a/x", "b/c/x"], &["b"]);
        assert_protects("a{/b,/c}", &["a/b", "a/c"], &["a"]);
        for glob in ["a[", "../a", "a/..", "b/../a", "{/a,/b}", "x/{./a,b}"] {
            assert!(protected(&[glob], Precompressed::Ignore).is_err(), "{glob}");
        }
        assert!(
            protected(&[], Precompressed::Ignore)
                .expect("none")
                .contains(b"")
        );
    }

    #[test]
    fn what_answers_for_a_path_is_protected_with_it() {
        let globs = ["*.iso", "d"];
        let served = protected(&globs, Precompressed::Serve).expect("globs");
        let ignored = protected(&globs, Precompressed::Ignore).expect("globs");
        for path in [b"x.iso.gz", b"x.iso.br"] {
            assert!(served.contains(path) && !ignored.contains(path));
        }
        assert!(served.contains(b"a/x.iso.zst") && served.contains(b"d.gz"));
        assert!(!served.contains(b"x.iso.xz") && !served.contains(b"x.gz"));
    }

    #[test]
    fn names_that_are_no_utf_8_are_matched_as_well() {
        let protected = protected(&["a/**"], Precompressed::Ignore).expect("a glob");
        assert!(protected.contains(b"a/\xff\n"));
        assert!(!protected.contains(b"b/\xff"));
    }
}
