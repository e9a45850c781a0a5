//! What both generations of the official Rust client are asked for, and what a program needs to ask it.

pub mod peer;
pub mod scenarios;
