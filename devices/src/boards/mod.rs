//! Boards: which chips there are, and what is wired to what.

mod cmos;
pub mod pc;
