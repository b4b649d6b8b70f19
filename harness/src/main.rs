//! The program `goldgate`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    goldgate::cli::main()
}
