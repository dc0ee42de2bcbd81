//! What a guest cannot do is to keep the host busy without an end.
