//! The front door: REST, server-sent events, WebSocket and the live page.
//!
//! A request passes [`server`] (connections), the one middleware in [`rest`] (token, limits, time) and a handler; an
//! answer is let in by [`admission`], appended to the log, and acknowledged only while the view is fresh. What callers
//! read comes from [`views`], which the pipeline implements; what they watch comes from [`live`]. [`error`] is the only
//! place that knows HTTP status codes.

pub mod admission;
pub mod app;
pub mod auth;
pub mod error;
pub mod json;
pub mod limit;
pub mod live;
pub mod page;
pub mod rest;
pub mod server;
pub mod views;

pub use app::{App, Clock, Parts, Settings, SystemClock};
pub use rest::{document, router};
pub use server::serve;
