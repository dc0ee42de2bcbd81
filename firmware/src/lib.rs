//! The built-in BIOS and VGA BIOS, and the tables that firmware hands to a guest.
