//! The program `goldgate`; everything is in the library.

use std::process::ExitCode;

use goldgate_worker::allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    goldgate::commands::main()
}
