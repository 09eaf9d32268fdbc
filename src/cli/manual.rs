//! Completions and manual pages, from the same definitions as the command line itself.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

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
    let mut command = C::command().disable_help_subcommand(true);
    command.build();
    match &args.out {
        None => io::stdout().write_all(&page(&command)?),
        Some(directory) => {
            fs::create_dir_all(directory)?;
            let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
            for command in commands.chain([&command]) {
                let name = Man::new(command.clone()).get_filename();
                fs::write(directory.join(name), page(command)?)?;
            }
            Ok(())
        }
    }
}

/// A command's manual page; the sections behind its help become sections of their own.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .manual("haul manual")
        .source(concat!("haul ", env!("CARGO_PKG_VERSION")));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let help = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    let mut section = "";
    let help = help.map(ToString::to_string).unwrap_or_default();
    for line in help.lines() {
        match line.strip_suffix(':').filter(|it| !it.starts_with(' ')) {
            Some(title) => {
                end_section(section, &mut out)?;
                section = title;
                writeln!(out, ".SH \"{}\"\n.nf", escape(&title.to_uppercase()))?;
            }
            None => writeln!(out, "{}", escape(line))?,
        }
    }
    end_section(section, &mut out)?;
    let see_also = match command.has_subcommands() {
        true => command
            .get_subcommands()
            .filter_map(|it| Some(format!("{}(1)", it.get_display_name()?)))
            .collect::<Vec<_>>()
            .join(", "),
        false => "haul(1)".to_owned(),
    };
    writeln!(out, ".SH \"SEE ALSO\"\n{}", escape(&see_also))?;
    Ok(out)
}

fn end_section(section: &str, out: &mut Vec<u8>) -> io::Result<()> {
    match section {
        "" => Ok(()),
        _ => writeln!(out, ".fi"),
    }
}

/// Text that roff prints as it is.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
