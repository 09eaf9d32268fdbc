//! `haul sum`: digests of files, in the formats of `sha256sum` and `b3sum`.

mod check;
mod progress;

use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use haul::diagnostics::say;
use haul::get::{Algorithm, Checksum, printable};
use haul::sum::{self, DirectoryChoice, Event, Progress, Style, SumConfig};

use crate::cli::exit_status::NO_READER;
use crate::cli::signals::stop_on_signals;
use crate::cli::values::threads;
use progress::Bar;

const EXAMPLES: &str = "\
Examples:
  haul sum *.iso >SHA256SUMS                  what `sha256sum *.iso` writes, several files at once
  haul sum -a blake3 /data                    every file beneath /data, as b3sum writes it
  haul sum --check SHA256SUMS                 are they what they were?
  haul sum --state /var/lib/haul /data        from the server's store where nothing has changed

Exit status:
  0  every file was read, and with --check is as listed
  1  a file could not be read, changed meanwhile, or is not as listed; a list has no sums, or
     with --strict a line that is none
  2  the command line is wrong";

/// The options of `haul sum`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SumArguments {
    /// Files; directories stand for all files beneath them, - for standard input
    #[arg(
        value_name = "FILE|DIR",
        default_value = "-",
        hide_default_value = true
    )]
    paths: Vec<PathBuf>,

    /// How digests are computed
    #[arg(
        long,
        short,
        env = "HAUL_SUM_ALGORITHM",
        value_name = "NAME",
        default_value = "sha256"
    )]
    algorithm: AlgorithmArg,

    /// Read lists of digests from the files, and hold the files named there against them
    #[arg(long, short)]
    check: bool,

    /// Write lines that name the algorithm: SHA256 (NAME) = DIGEST
    #[arg(long, conflicts_with = "check")]
    tag: bool,

    /// Say nothing of files that are as listed
    #[arg(long, short, requires = "check")]
    quiet: bool,

    /// Print nothing for any file: the exit status is the result
    #[arg(long, requires = "check")]
    status: bool,

    /// Pass over files that are listed and not there
    #[arg(long, requires = "check")]
    ignore_missing: bool,

    /// Fail if a line of a list is in no format
    #[arg(long, requires = "check")]
    strict: bool,

    /// Say which lines of a list are in no format
    #[arg(long, short, requires = "check")]
    warn: bool,

    /// State directory of a server: digests of unchanged files are taken from its store, new ones
    /// kept there; without it every file is read
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Threads that hash, 1024 at most [default: one a core]
    #[arg(long, short = 'j', value_name = "N", value_parser = threads(MAX_THREADS))]
    threads: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AlgorithmArg {
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
    /// BLAKE3: the fastest, and a file's blocks are hashed in parallel
    Blake3,
}

impl From<AlgorithmArg> for Algorithm {
    fn from(argument: AlgorithmArg) -> Self {
        match argument {
            AlgorithmArg::Sha256 => Self::Sha256,
            AlgorithmArg::Sha512 => Self::Sha512,
            AlgorithmArg::Blake3 => Self::Blake3,
        }
    }
}

impl SumArguments {
    /// Prints or checks digests.
    pub(crate) fn run(self) -> ExitCode {
        let progress = Progress::default();
        if let Err(error) = stop_on_signals(progress.cancelled.clone(), Some(GRACE)) {
            say(format_args!("haul: cannot catch signals: {error}"));
        }
        let done = match self.check {
            true => check::run(&self, &progress),
            false => self.print(&progress),
        };
        match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            // As in `haul sum | head`: the other files were not looked at.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(NO_READER),
            Err(error) => {
                say(format_args!("haul: cannot write standard output: {error}"));
                ExitCode::FAILURE
            }
        }
    }

    fn config(&self, algorithm: Algorithm) -> SumConfig {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        SumConfig {
            algorithm,
            threads: self.threads.unwrap_or(cores),
            state: self.state.clone(),
            directories: match self.check {
                true => DirectoryChoice::Refuse,
                false => DirectoryChoice::Walk,
            },
        }
    }

    /// Prints a line for each file; returns whether all have a digest.
    fn print(&self, progress: &Progress) -> io::Result<bool> {
        let style = match self.tag {
            true => Style::Tagged,
            false => Style::Plain,
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let config = self.config(self.algorithm.into());
        let mut is_fine = true;
        each(&config, self.paths.clone(), progress, |path, result| {
            match result {
                Ok(sum) => {
                    out.write_all(&sum::line(style, path, &sum))?;
                    out.write_all(b"\n")?;
                }
                Err(error) => {
                    is_fine = false;
                    out.flush()?;
                    say(format_args!("haul: {}: {error}", shown(path)));
                }
            }
            Ok(())
        })?;
        out.flush()?;
        Ok(is_fine && !progress.is_cancelled())
    }
}

/// Computes digests with a bar on the terminal, and gives each to `take`.
fn each(
    config: &SumConfig,
    paths: Vec<PathBuf>,
    progress: &Progress,
    mut take: impl FnMut(&Path, Result<Checksum, io::Error>) -> io::Result<()>,
) -> io::Result<()> {
    let bar = Bar::new();
    let outcome = sum::compute(config, paths, progress, |event| {
        match event {
            Event::File(path, result) => bar.aside(|| take(path, result))?,
            Event::Notice(text) => say(format_args!("haul: {text}")),
            Event::Tick => bar.show(progress.hashed()),
        }
        Ok(())
    });
    bar.clear();
    outcome
}

/// More than any machine has cores to hash with.
const MAX_THREADS: u16 = 1024;
/// For reads under way after a signal; a pipe may never end. A kill does not damage the store.
const GRACE: Duration = Duration::from_secs(1);

/// A name for a person.
fn shown(path: &Path) -> String {
    match path.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => printable(&path.to_string_lossy()).into_owned(),
    }
}
