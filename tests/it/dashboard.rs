//! The dashboard as a person uses it whose browser runs no script: pages, links, forms and a cookie.

mod access;
pub(crate) mod browser;
mod limits;
mod live;
mod pages;
mod schedules;
mod sessions;
mod unique;
mod verbs;
