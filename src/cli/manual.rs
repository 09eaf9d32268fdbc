//! Completions and manual pages, from the same definitions as the command line itself.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// `haul completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: Shell,
}

/// `haul man`.
#[derive(Args, Debug)]
pub(crate) struct ManArguments {
    /// Write one page per command into DIR (haul.1, haul-get.1, …) instead of printing haul(1)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Prints completions for the program whose command line is `C`.
///
/// # Errors
/// Standard output cannot be written to.
pub(crate) fn completions<C: CommandFactory>(args: &CompletionsArguments) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "haul", &mut script);
    io::stdout().write_all(&script)
}

/// Prints the first manual page, or writes all of them.
///
/// # Errors
/// Standard output, the directory or a file in it cannot be written to.
pub(crate) fn man<C: CommandFactory>(args: &ManArguments) -> io::Result<()> {
    let command = C::command();
    match &args.out {
        None => clap_mangen::Man::new(command).render(&mut io::stdout()),
        Some(directory) => {
            fs::create_dir_all(directory)?;
            clap_mangen::generate_to(command, directory)
        }
    }
}
