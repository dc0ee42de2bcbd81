//! Interrupts and exceptions: entering a handler, and IRET.

use crate::exception::Exception;
use crate::vcpu::Vcpu;

/// What makes the processor enter a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The interrupt controller's vector.
    External(u8),
    /// NMI, vector 2.
    Nmi,
    /// INT n: the return address is the next instruction's; the gate's DPL is checked.
    Software(u8),
    /// INT3, INTO and INT1, which behave as INT n but for IOPL in virtual-8086 mode.
    SoftwareException(u8),
    /// A fault, trap or abort.
    Exception(Exception),
}

impl Vcpu {
    /// Enters the handler of `event`; the instruction pointer is the one to return to.
    ///
    /// # Errors
    /// The exception met on the way; state is as before.
    pub(crate) fn enter_handler(&mut self, _event: Event) -> Result<(), Exception> {
        Err(Exception::gp(0))
    }
}
