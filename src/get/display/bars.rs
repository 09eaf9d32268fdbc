//! Bars on a terminal. `indicatif` draws; the content of a line is made here.

use std::collections::BTreeMap;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::line::{Track, in_ascii, lasting_line};
use crate::get::event::{Event, FileId};
use crate::get::names::printable;

/// A bar for every file that is being fetched.
pub(super) struct Bars {
    multi: MultiProgress,
    files: BTreeMap<FileId, (Track, ProgressBar)>,
    /// The terminal shows ASCII only, according to the locale.
    is_ascii: bool,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            multi: MultiProgress::new(),
            files: BTreeMap::new(),
            is_ascii: !is_utf8_locale(|name| std::env::var(name).ok()),
        }
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Started {
                file,
                name,
                length,
                resumed,
                ..
            } => {
                self.remove(*file);
                let bar = new_bar(&self.multi);
                self.files
                    .insert(*file, (Track::new(name, *length, *resumed), bar));
            }
            Event::Progress {
                file,
                done,
                length,
                connections,
                extents,
            } => {
                if let Some((track, bar)) = self.files.get_mut(file) {
                    track.observe(*done, *length, *connections, extents);
                    // Asked every time: the terminal's width changes under our hands.
                    let width = usize::from(Term::stderr().size().1);
                    let line = track.bar(width.saturating_sub(1));
                    bar.set_message(match self.is_ascii {
                        true => in_ascii(&line),
                        false => line,
                    });
                }
            }
            Event::Finished { file, .. }
            | Event::Skipped { file, .. }
            | Event::Failed { file, .. } => {
                self.remove(*file);
            }
            Event::Verifying {
                file,
                name,
                done,
                length,
            } => {
                let multi = &self.multi;
                // A file that is here already was never started.
                let new = || (Track::new(name, Some(*length), *length), new_bar(multi));
                let (track, bar) = self.files.entry(*file).or_insert_with(new);
                let width = usize::from(Term::stderr().size().1);
                bar.set_message(track.hashing(*done, *length, width.saturating_sub(1)));
            }
            Event::Note { .. } | Event::Retry { .. } | Event::Ended { .. } => {}
        }
        if let Some(text) = lasting_line(event) {
            // A closed terminal does not end the download.
            let _ = self.multi.println(format!("haul: {}", printable(&text)));
        }
    }

    pub(super) fn clear(&self) {
        let _ = self.multi.clear();
    }

    fn remove(&mut self, file: FileId) {
        if let Some((_, bar)) = self.files.remove(&file) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
    }
}

/// The character encoding of locale(7), by the first variable that is set.
fn is_utf8_locale(variable: impl Fn(&str) -> Option<String>) -> bool {
    let mut names = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable);
    let locale = names.find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn new_bar(multi: &MultiProgress) -> ProgressBar {
    let bar = multi.add(ProgressBar::new_spinner());
    bar.set_style(ProgressStyle::with_template("{msg}").expect("a fixed template"));
    bar
}

#[cfg(test)]
mod tests {
    use super::is_utf8_locale;

    #[test]
    fn the_first_variable_decides_the_encoding() {
        let case = |all: &'static str, lang: &'static str| {
            is_utf8_locale(|name| match name {
                "LC_ALL" => Some(all.to_owned()),
                "LANG" => Some(lang.to_owned()),
                _ => None,
            })
        };
        assert!(case("", "de_DE.UTF-8"));
        assert!(case("C.utf8", "C"));
        assert!(!case("C", "de_DE.UTF-8"));
        assert!(!is_utf8_locale(|_| None));
    }
}
