//! `haul sum --check`: verification of files by lists of their digests.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use haul::diagnostics::say;
use haul::get::{Algorithm, Checksum, ChecksumFile, printable};
use haul::sum::{Progress, escape};

use super::{SumArguments, each, shown};

/// Checks all lists; returns whether every file matches.
pub(super) fn run(arguments: &SumArguments, progress: &Progress) -> io::Result<bool> {
    let default = arguments.algorithm.into();
    let mut tally = Tally::default();
    for list in &arguments.paths {
        match read_list(list, default) {
            Ok(sums) => {
                let before = tally.verified;
                check_list(arguments, &sums, progress, &mut tally)?;
                if arguments.ignore_missing && tally.verified == before {
                    tally.unusable += 1;
                    say(format_args!("haul: {}: no file was verified", shown(list)));
                }
                tally.note_malformed(arguments, list, sums.malformed());
            }
            Err(error) => {
                tally.unusable += 1;
                say(format_args!("haul: {}: {error}", shown(list)));
            }
        }
    }
    if !arguments.status {
        tally.explain();
    }
    Ok(tally.is_fine(arguments) && !progress.is_cancelled())
}

/// The outcome of one line.
#[derive(Debug, Default)]
struct Tally {
    verified: u64,
    different: u64,
    unreadable: u64,
    /// Lists.
    unusable: u64,
    /// Lines of lists.
    malformed: u64,
}

impl Tally {
    fn is_fine(&self, arguments: &SumArguments) -> bool {
        let is_strict = arguments.strict && self.malformed > 0;
        self.different == 0 && self.unreadable == 0 && self.unusable == 0 && !is_strict
    }

    fn note_malformed(&mut self, arguments: &SumArguments, list: &Path, lines: &[usize]) {
        self.malformed += lines.len() as u64;
        if arguments.warn {
            for line in lines {
                let list = shown(list);
                say(format_args!(
                    "haul: {list}: line {line} is improperly formatted"
                ));
            }
        }
    }

    fn explain(&self) {
        let count = |number, one: &str, many: &str| match number {
            0 => {}
            1 => say(format_args!("haul: 1 {one}")),
            _ => say(format_args!("haul: {number} {many}")),
        };
        let (one, many) = (
            "line is improperly formatted",
            "lines are improperly formatted",
        );
        count(self.malformed, one, many);
        let (one, many) = ("file could not be read", "files could not be read");
        count(self.unreadable, one, many);
        count(self.different, "file did not match", "files did not match");
    }
}

/// Checks the files of a list, in runs of one algorithm.
fn check_list(
    arguments: &SumArguments,
    sums: &ChecksumFile,
    progress: &Progress,
    tally: &mut Tally,
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut rest = sums.iter().peekable();
    while let Some((_, first)) = rest.peek() {
        let algorithm: Algorithm = first.algorithm();
        let is_same = |(_, sum): &(&Path, &Checksum)| sum.algorithm() == algorithm;
        let (paths, mut expected): (Vec<PathBuf>, VecDeque<Checksum>) =
            std::iter::from_fn(|| rest.next_if(is_same))
                .map(|(path, sum)| (path.to_owned(), sum.clone()))
                .unzip();
        let config = arguments.config(algorithm);
        each(&config, paths, progress, |path, found| {
            let expected = expected.pop_front();
            let verdict = match found {
                Ok(sum) if Some(&sum) == expected.as_ref() => {
                    tally.verified += 1;
                    "OK"
                }
                Ok(_) => {
                    tally.verified += 1;
                    tally.different += 1;
                    "FAILED"
                }
                Err(error) if arguments.ignore_missing && is_missing(&error) => return Ok(()),
                Err(error) => {
                    tally.unreadable += 1;
                    say(format_args!("haul: {}: {error}", shown(path)));
                    "FAILED open or read"
                }
            };
            if arguments.status || (verdict == "OK" && arguments.quiet) {
                return Ok(());
            }
            out.write_all(&name(path))?;
            writeln!(out, ": {verdict}")
        })?;
    }
    out.flush()
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// A name in the form of coreutils' verdicts, where a backslash alone is not escaped; a terminal
/// gets no control characters.
fn name(path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_bytes();
    let name = match name.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        true => [b"\\".as_slice(), &escape(name)].concat(),
        false => name.to_owned(),
    };
    match io::stdout().is_terminal() {
        true => printable(&String::from_utf8_lossy(&name))
            .into_owned()
            .into(),
        false => name,
    }
}

fn read_list(path: &Path, default: Algorithm) -> io::Result<ChecksumFile> {
    match path.as_os_str() == "-" {
        true => ChecksumFile::read(io::stdin().lock(), Some(default), MAX_LIST_BYTES),
        false => ChecksumFile::read(
            BufReader::new(File::open(path)?),
            Some(default),
            MAX_LIST_BYTES,
        ),
    }
}

/// Some forty million sums: a list like that is one without an end.
const MAX_LIST_BYTES: usize = 6 << 30;
