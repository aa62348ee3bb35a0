//! The program: its command line, carried out. Everything else is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    escapement::command_line::run(std::env::args_os())
}
