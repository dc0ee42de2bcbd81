//! The platform below the processor: guest memory, the bus, devices, interrupt lines, virtual time.
//!
//! Nothing here knows what a CPU is. A device sees the rest of the machine only through
//! [`DeviceCtx`]; the processor sees devices only through [`Bus`].

pub mod block;
pub mod bus;
pub mod clock;
pub mod device;
pub mod event;
pub mod frame;
pub mod host_code;
pub mod input;
pub mod line;
pub mod memory;
pub mod message;
pub mod smram;
pub mod sound;
pub mod state;
pub mod testkit;
pub mod window;

pub use block::{BlockBackend, MemoryDisk};
pub use bus::{Bus, BusState, DeviceId, ISA_NS, MachineRequest, Output, PCI_NS, Said};
pub use clock::Clock;
pub use device::{CONFIGURATION, Device, DeviceCtx, NoSuchDrive};
pub use event::EventQueue;
pub use frame::{Frame, TextScreen};
pub use host_code::HostCodeMemory;
pub use input::{DmaDirection, Input, Key, Motion, Place};
pub use line::{IrqLine, IrqLines};
pub use memory::{
    DeviceRam, GRANULE_BYTES, GuestMemory, HostMemory, MemoryError, MemoryMap, PAGE_BYTES, Page,
    PhysAddr, Shadow, granules,
};
pub use message::{DeliveryMode, InterruptMessage, MessageQueue};
pub use smram::Smram;
pub use sound::Sound;
pub use state::{Migration, SavedState, StateError, StateView};
pub use window::{MemoryWindow, PortWindow, Windows};
