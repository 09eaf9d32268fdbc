//! `--include` and `--exclude`: the wanted files of a tree.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// The wanted files of a tree.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None` includes everything.
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// From globs over paths below the tree's root; one without a slash counts for names at any
    /// depth.
    ///
    /// # Errors
    /// Which glob is none.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, globset::Error> {
        Ok(Self {
            include: (!include.is_empty()).then(|| set(include)).transpose()?,
            exclude: set(exclude)?,
        })
    }

    pub(crate) fn is_set(&self) -> bool {
        self.include.is_some() || !self.exclude.is_empty()
    }

    pub(crate) fn wants_file(&self, path: &Path) -> bool {
        let included = self.include.as_ref().is_none_or(|set| set.is_match(path));
        included && !self.exclude.is_match(path)
    }

    pub(crate) fn wants_directory(&self, path: &Path) -> bool {
        !self.exclude.is_match(path)
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern.trim_end_matches('/'))?);
    }
    set.build()
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    let anywhere = format!("**/{pattern}");
    let pattern = match pattern.strip_prefix('/') {
        Some(rooted) => rooted,
        None if pattern.contains('/') => pattern,
        None => &anywhere,
    };
    GlobBuilder::new(pattern).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_of_names_or_of_paths() {
        let strings = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        let filter =
            Filter::new(&strings(&["*.bin", "docs/**"]), &strings(&["tmp/", "x*"])).unwrap();
        for (path, wanted) in [
            ("a.bin", true),
            ("a/b/c.bin", true),
            ("docs/read/me", true),
            ("readme", false),
            ("xa.bin", false),
        ] {
            assert_eq!(filter.wants_file(Path::new(path)), wanted, "{path}");
        }
        assert!(!filter.wants_directory(Path::new("a/tmp")));
        assert!(filter.wants_directory(Path::new("a/tm")));
        assert!(Filter::new(&strings(&["a["]), &[]).is_err());
    }
}
