//! What QEMU added to the PC and kernels have come to look for.

pub mod fw_cfg;
pub mod test_device;

pub use fw_cfg::FwCfg;
pub use test_device::TestDevice;
