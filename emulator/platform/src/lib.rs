//! Guest memory, bus, devices' contract, interrupt lines, virtual clock and event queue.
