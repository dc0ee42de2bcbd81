//! One chip a file, and the board that joins them.
