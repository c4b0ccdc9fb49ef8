//! The live page in a real browser.

mod driver;
mod show;
