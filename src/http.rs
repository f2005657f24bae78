//! (to be written)

pub mod listen;
