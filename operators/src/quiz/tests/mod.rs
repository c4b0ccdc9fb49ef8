//! The rules of one quiz as text: a script of records goes in, what the fold says of each comes out.

mod answers;
mod commands;
mod script;
mod sections;

use script::check;
