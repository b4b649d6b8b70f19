//! The program `goldgate`; all code is in the library.

use std::process::ExitCode;

use goldgate_worker::allocator::Counting;

// Counts allocations, because a worker reports what reading a file requests.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    goldgate::commands::main()
}
