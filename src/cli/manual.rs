//! What packagers install beside the program: completions and the manual page, both made from the arguments.

use std::io;

use clap::builder::StyledStr;
use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// The completions of `command` for one shell.
pub(super) fn completions(shell: Shell, mut command: Command) -> Vec<u8> {
    let mut text = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut text);
    text
}

/// The manual page of `command`, with all its subcommands: there is one page, not one for each.
pub(super) fn page(mut command: Command) -> io::Result<Vec<u8>> {
    command.build();
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    describe(&mut commands, &mut command);
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    commands.to_writer(&mut page)?;
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Each command that does something, with what only it takes.
fn describe(page: &mut Roff, command: &mut Command) {
    for command in command.get_subcommands_mut() {
        if command.get_name() == "help" {
            continue;
        }
        if command.has_subcommands() {
            describe(page, command);
            continue;
        }
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").to_owned();
        page.control("TP", []);
        page.text([bold(usage)]);
        page.text([roman(sentence(command.get_long_about().or(command.get_about())))]);
        page.control("RS", []);
        for argument in command.get_arguments().filter(|argument| is_own(argument)) {
            page.control("TP", []);
            page.text([italic(argument.to_string())]);
            page.text([roman(sentence(argument.get_long_help().or(argument.get_help())))]);
        }
        page.control("RE", []);
    }
}

fn is_own(argument: &Arg) -> bool {
    !argument.is_global_set() && argument.get_id() != "help"
}

fn sentence(help: Option<&StyledStr>) -> String {
    help.map(ToString::to_string).unwrap_or_default()
}
