//! Segments, far transfers, events, tasks and system registers, against the SDM's operation sections.

mod events;
mod far;
mod fuzz;
mod harness;
mod long;
mod models;
mod registers;
mod smm;
mod tasks;
mod virtual8086;
