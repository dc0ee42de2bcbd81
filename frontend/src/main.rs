//! `glassbox`: the command line.
fn main() {}
