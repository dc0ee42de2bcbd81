//! Random accesses to all ports and all of the physical address space, while time goes on.
