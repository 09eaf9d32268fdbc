//! `haul sum --check`: files held against lists of their digests.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use haul::diagnostics::say;
use haul::get::{Algorithm, Checksum, ChecksumFile};
use haul::sum::Progress;

use super::{SumArguments, each, shown};

/// Checks all lists; says whether every file is as listed.
pub(super) fn run(arguments: &SumArguments, progress: &Progress) -> io::Result<bool> {
    let default = arguments.algorithm.into();
    let mut tally = Tally::default();
    for list in &arguments.paths {
        let sums = read_list(list).and_then(|text| {
            ChecksumFile::parse_as(&text, Some(default)).map_err(|error| error.to_string())
        });
        match sums {
            Ok(sums) if sums.iter().next().is_none() => {
                tally.unreadable += 1;
                say(format_args!(
                    "haul: {}: there is no checksum in it",
                    shown(list)
                ));
            }
            Ok(sums) => check_list(arguments, &sums, progress, &mut tally)?,
            Err(error) => {
                tally.unreadable += 1;
                say(format_args!("haul: {}: {error}", shown(list)));
            }
        }
    }
    tally.explain();
    Ok(tally.is_fine() && !progress.is_cancelled())
}

/// What was found, beside files that are as listed.
#[derive(Debug, Default)]
struct Tally {
    different: u64,
    unreadable: u64,
}

impl Tally {
    fn is_fine(&self) -> bool {
        self.different == 0 && self.unreadable == 0
    }

    fn explain(&self) {
        let files = |number| match number {
            1 => "file",
            _ => "files",
        };
        if self.unreadable > 0 {
            let (number, files) = (self.unreadable, files(self.unreadable));
            say(format_args!("haul: {number} {files} could not be read"));
        }
        if self.different > 0 {
            let (number, files) = (self.different, files(self.different));
            say(format_args!("haul: {number} {files} did not match"));
        }
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
                Ok(sum) if Some(&sum) == expected.as_ref() => "OK",
                Ok(_) => {
                    tally.different += 1;
                    "FAILED"
                }
                Err(error) => {
                    tally.unreadable += 1;
                    say(format_args!("haul: {}: {error}", shown(path)));
                    "FAILED open or read"
                }
            };
            if verdict == "OK" && arguments.quiet {
                return Ok(());
            }
            writeln!(out, "{}: {verdict}", shown(path))
        })?;
    }
    out.flush()
}

fn read_list(path: &Path) -> Result<Vec<u8>, String> {
    let read = match path.as_os_str() == "-" {
        true => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map(|_| text)
        }
        false => fs::read(path),
    };
    read.map_err(|error| error.to_string())
}
