//! Descriptors and segment loads.
