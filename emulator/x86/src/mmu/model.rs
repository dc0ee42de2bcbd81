//! The TLB beside a simple model.
