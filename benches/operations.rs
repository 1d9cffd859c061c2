//! `cargo bench`: each operation of a training step at the paper's shapes, on the device that `--device auto` is.
//! Options behind `--` are those of `kerase bench`.

use std::process::{Command, exit};

fn main() {
    // cargo adds this one itself.
    let given: Vec<String> = std::env::args().skip(1).filter(|option| option != "--bench").collect();
    let status =
        Command::new(env!("CARGO_BIN_EXE_kerase")).args(["bench", "--operations"]).args(given).status();
    exit(status.expect("cargo has just built it").code().unwrap_or(1));
}
