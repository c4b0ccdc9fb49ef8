//! Two gateways over one log: nothing they promise leans on being one process.
//!
//! Gateway A reads the views of a stage set that the test steps; gateway B reads those of a second rank stage, with a
//! store of its own, that lags exactly as far as the test lets it. Gateways of a cluster stand beside them: they follow
//! what B's stage has stored. Time is the test's too, in the log as at the doors.

mod answers;
mod boards;
mod closing;
mod copies;
mod document;
mod feed;
mod followers;
mod house;
pub(crate) mod parts;
mod publishing;
mod request;
mod screen;
mod secrets;
mod sockets;
mod stale;
mod waiting;
