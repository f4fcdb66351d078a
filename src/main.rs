//! The `trustmint` command.

fn main() {}
