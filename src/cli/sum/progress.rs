//! A bar on the terminal: bytes hashed so far, and how fast.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

/// The bar, if standard error is a terminal that is not full of lines anyway.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(super) fn new() -> Self {
        let is_wanted = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Self(is_wanted.then(|| {
            let template = "{spinner} {binary_bytes} in {elapsed}, {binary_bytes_per_sec}";
            let style = ProgressStyle::with_template(template);
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        }))
    }

    pub(super) fn show(&self, hashed: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(hashed);
        }
    }

    /// Does what may write a line, with the bar out of the way.
    pub(super) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
